"""Drawing with MuJoCo on a machine without a screen.

MuJoCo chooses its OpenGL when it is imported, from the variable MUJOCO_GL: import it through this module, which sets
that where the user did not.
"""

import atexit
import ctypes.util
import logging
import os
import sys
import weakref
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

HOW_TO_INSTALL = (
    "install EGL (apt-get install libegl1 libgl1-mesa-dri; with an NVIDIA card its driver will do) or OSMesa "
    "(apt-get install libosmesa6), or name another OpenGL in the environment variable MUJOCO_GL"
)
IMPORT_FIRST = (
    ". MuJoCo read that variable before it was set: import diffusion_policy.env.mujoco_rendering before mujoco or "
    "robosuite"
)
_MUJOCO_CAME_FIRST = "mujoco" in sys.modules and "MUJOCO_GL" not in os.environ
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}  # value of MUJOCO_GL -> library, the best first
# Of MUJOCO_GL; MuJoCo knows these and others, by which it means glfw or disable.
VALUES = ("egl", "osmesa", "glfw", "glx", "cgl", "wgl", "disable")
SYNONYMS = ("", "enable", "enabled", "on", "true", "1", "disabled", "off", "false", "0")

logging.getLogger("OpenGL.acceleratesupport").setLevel(logging.WARNING)  # says that it has no accelerator


def choose_opengl() -> str | None:
    """Set MUJOCO_GL to the first of EGL and OSMesa that is installed, unless it is set; before MuJoCo is imported.

    Returns:
        The value of MUJOCO_GL: `disable` where neither is installed, None on a system that needs neither.

    Raises:
        ValueError: MUJOCO_GL is set to what MuJoCo does not know.
    """
    if sys.platform == "linux" and "MUJOCO_GL" not in os.environ:
        found = (name for name, library in LIBRARIES.items() if ctypes.util.find_library(library))
        os.environ["MUJOCO_GL"] = next(found, "disable")  # without OpenGL MuJoCo still simulates
    chosen = os.environ.get("MUJOCO_GL")
    if chosen is not None and chosen.lower().strip() not in VALUES + SYNONYMS:
        raise ValueError(
            f"the environment variable MUJOCO_GL is {chosen!r}; unset it, or choose one of {', '.join(VALUES)}"
        )
    return chosen


choose_opengl()


def use_fast_quality(model: Any) -> None:
    """Draw without shadows and multisampling: much faster on a CPU, and images look different.

    Args:
        model: an `mujoco.MjModel` that nothing was drawn of yet.
    """
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0


class OffscreenRenderer:
    """Images of a simulation.

    Args:
        model: the `mujoco.MjModel`; see `use_fast_quality`.
        height, width: of images, in pixels.
        reflections: draw mirrored surfaces.

    Raises:
        OSError: there is no OpenGL to draw with; says what to install.
    """

    def __init__(self, model: Any, height: int, width: int, *, reflections: bool = True) -> None:
        import mujoco

        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        try:
            self._renderer = mujoco.Renderer(model, height, width)
        except Exception as error:  # each OpenGL fails with exceptions of its own
            raise OSError(
                f"MuJoCo cannot draw (MUJOCO_GL={os.environ.get('MUJOCO_GL')}): {error}. To get images and videos, "
                f"{HOW_TO_INSTALL}{IMPORT_FIRST if _MUJOCO_CAME_FIRST else ''}"
            ) from error
        atexit.register(_close, weakref.ref(self._renderer))  # now, to be called before OpenGL ends itself
        self._renderer.scene.flags[int(mujoco.mjtRndFlag.mjRND_REFLECTION)] = reflections

    def render(self, data: Any, camera: Any = -1) -> NDArray[np.uint8]:
        """What a camera sees, (H, W, 3) RGB.

        Args:
            data: the `mujoco.MjData` to draw.
            camera: a camera's name or number, or an `mujoco.MjvCamera`; -1 is the free camera.
        """
        self._renderer.update_scene(data, camera)
        return self._renderer.render()

    def close(self) -> None:
        """Give the OpenGL context back."""
        self._renderer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _close(renderer: "weakref.ref[Any]") -> None:
    alive = renderer()
    if alive is not None:
        alive.close()

"""Images of a robosuite simulation, drawn by MuJoCo itself: robosuite need not know of OpenGL."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.env.mujoco_rendering import OffscreenRenderer, use_fast_quality

COLLISION_SHAPES, HIDDEN = 0, 3  # groups of shapes; MuJoCo draws those below 3


class Cameras:
    """Images as robosuite draws them, the right way up; each size has its renderer, made when first used.

    Args:
        model: the `mujoco.MjModel`, in which collision shapes are hidden.
        data: the `mujoco.MjData` to draw.
        fast: without shadows and multisampling; images then differ from recorded ones.

    Raises:
        OSError: when the first image is drawn, there is no OpenGL; says what to install.
    """

    def __init__(self, model: Any, data: Any, fast: bool) -> None:
        model.geom_group[model.geom_group == COLLISION_SHAPES] = HIDDEN
        if fast:
            use_fast_quality(model)
        self._model, self._data = model, data
        self._renderers: dict[tuple[int, int], OffscreenRenderer] = {}

    def render(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """What a camera sees, (height, width, 3)."""
        if (height, width) not in self._renderers:
            self._renderers[height, width] = OffscreenRenderer(self._model, height, width)
        return self._renderers[height, width].render(self._data, camera)

    def close(self) -> None:
        """Give the OpenGL contexts back."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

"""The kitchen's MuJoCo model: a file of the package gymnasium-robotics, which is not imported."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

from diffusion_policy.common.kitchen import N_JOINTS, N_POSITIONS, N_VELOCITIES
from diffusion_policy.env.mujoco_rendering import use_fast_quality

try:
    import mujoco
except ImportError as error:
    raise ImportError('the kitchen needs mujoco: pip install "diffusion_policy[kitchen]"') from error

MODEL = "envs/assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml"


def model_path() -> Path:
    """Where the model lies.

    Raises:
        ImportError: gymnasium-robotics is not installed, or a version of it that has no kitchen.
    """
    package = importlib.util.find_spec("gymnasium_robotics")
    folders = [] if package is None else list(package.submodule_search_locations or [])
    for folder in folders:
        if (Path(folder) / MODEL).is_file():
            return Path(folder) / MODEL
    found = f"{folders[0]} has no {MODEL}" if folders else "it is not installed"
    raise ImportError(
        f'the kitchen is a file of gymnasium-robotics 1.4.2, but {found}: pip install "diffusion_policy[kitchen]"'
    )


@functools.cache
def kitchen_model() -> Any:
    """The `mujoco.MjModel`, drawn without shadows; all environments of a process share it, as none changes it.

    Raises:
        ImportError: see `model_path`.
        RuntimeError: it is another kitchen.
    """
    path = model_path()
    model = mujoco.MjModel.from_xml_path(str(path))
    sizes = (model.nq, model.nv, model.nu)
    if sizes != (N_POSITIONS, N_VELOCITIES, N_JOINTS):
        raise RuntimeError(
            f"{path} has {sizes} positions, velocities and actuators, but the kitchen has "
            f"{(N_POSITIONS, N_VELOCITIES, N_JOINTS)}: pip install gymnasium-robotics==1.4.2"
        )
    use_fast_quality(model)
    return model


def kitchen_camera() -> Any:
    """The view of the published videos, a `mujoco.MjvCamera`."""
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    camera.distance, camera.azimuth, camera.elevation = 2.2, 70.0, -35.0
    camera.lookat[:] = (-0.2, 0.5, 2.0)
    return camera

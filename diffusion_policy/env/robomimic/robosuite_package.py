"""robosuite, imported with its own advice turned off, or an error that says how to install it."""

import importlib
import logging
import os
from types import ModuleType

from diffusion_policy.env import mujoco_rendering  # noqa: F401, before MuJoCo: it chooses its OpenGL

MUJOCO_TOO_NEW = (3, 10)  # there mj_fullM takes its arguments in another order
HOW_TO_INSTALL = (
    'pip install "diffusion_policy[robomimic]", or on Python 3.13 pip install "diffusion_policy[robosuite-needs]" '
    "and then pip install --no-deps robosuite==1.5.2 (docs/guides/robomimic.md says why)"
)


def import_robosuite() -> ModuleType:
    """Import robosuite.

    Raises:
        ImportError: it or what it needs is missing, or MuJoCo is newer than it can use; says what to install.
    """
    try:
        mujoco = importlib.import_module("mujoco")
        _check_mujoco(mujoco.__version__)
        return _import_quietly()
    except ImportError as error:
        raise ImportError(f"robomimic's tasks need robosuite 1.5.2 ({error}): {HOW_TO_INSTALL}") from error


def _check_mujoco(version: str) -> None:
    if tuple(map(int, version.split(".")[:2])) >= MUJOCO_TOO_NEW:
        raise ImportError(f"MuJoCo {version} is here, robosuite 1.5.2 cannot use 3.10 and later")


def _import_quietly() -> ModuleType:
    """Without its warnings of optional parts that are not here; it sets the variable MUJOCO_GL as it likes."""
    logging.getLogger("robosuite_logs").addFilter(_is_error)
    opengl = os.environ.get("MUJOCO_GL")
    try:
        return importlib.import_module("robosuite")
    finally:
        if opengl is not None:
            os.environ["MUJOCO_GL"] = opengl


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR

"""What an environment takes from robomimic's HDF5 files: how they were recorded, and where episodes began."""

import json
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.common.hdf5_file import opened_hdf5

TWO_ARMS = ("TwoArmTransport",)  # of robomimic's tasks
CONTROL_FREQUENCY_HZ = 20


def default_env_args(env_name: str) -> dict[str, Any]:
    """What robomimic's published human demonstrations of a task say about their environment.

    Of other environments of robosuite: the same, with one arm.
    """
    n_arms = 2 if env_name in TWO_ARMS else 1
    kwargs = {"robots": ["Panda"] * n_arms, "control_freq": CONTROL_FREQUENCY_HZ}
    placement = {"env_configuration": "opposed"} if n_arms == 2 else {}
    return {"env_name": env_name, "type": 1, "env_kwargs": {**kwargs, **placement}}


def read_env_args(path: str | PathLike[str]) -> dict[str, Any]:
    """Read `env_args` of a file.

    Raises:
        FileNotFoundError: nothing is at `path`.
        ValueError: there are none, they are no JSON, or name no environment.
    """
    with opened_hdf5(path) as file:
        attributes = file["data"].attrs if "data" in file else {}
        if "env_args" not in attributes:
            raise ValueError(
                f"{path}: 'data' has no attribute env_args; choose another file, or env_args=None"
            )
        try:
            env_args = dict(json.loads(attributes["env_args"]))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: env_args are not JSON ({error}); choose another file") from error
    if not isinstance(env_args.get("env_name"), str):
        raise ValueError(f"{path}: env_args name no environment (env_name); choose another file")
    return env_args


def read_first_state(path: str | PathLike[str], demonstration: int) -> NDArray[np.float64]:
    """Read the flat MuJoCo state in which the demonstration of that number began.

    Raises:
        ValueError: there is no such demonstration, or it holds no states.
    """
    place = f"data/demo_{demonstration}/states"
    with opened_hdf5(path) as file:
        if place not in file:
            raise ValueError(
                f"{path}: there is no '{place}'; seeds are the numbers of demonstrations here, and it has "
                f"{len(file.get('data', ()))}: choose them with --seeds"
            )
        return np.asarray(file[place][0], dtype=np.float64)

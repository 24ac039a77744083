"""robomimic's five tasks: their sizes, and environments of them, each made once for all tests, drawn fast."""

from functools import cache

import numpy as np
import pytest

from diffusion_policy.env.robomimic.robomimic_env import RobomimicEnv

OBJECT_SIZE = {"Lift": 10, "PickPlaceCan": 14, "NutAssemblySquare": 14, "TwoArmTransport": 41, "ToolHang": 44}
N_ARMS = {name: 2 if name == "TwoArmTransport" else 1 for name in OBJECT_SIZE}


def shape_meta(env_name: str, abs_action: bool = False, **images: tuple[int, int, int]) -> dict:
    """The low-dimensional observation of robomimic, and images."""
    sizes = {"object": OBJECT_SIZE[env_name]}
    for arm in range(N_ARMS[env_name]):
        sizes |= {f"robot{arm}_eef_pos": 3, f"robot{arm}_eef_quat": 4, f"robot{arm}_gripper_qpos": 2}
    obs = {key: {"shape": [size], "type": "low_dim"} for key, size in sizes.items()}
    obs |= {key: {"shape": list(shape), "type": "rgb"} for key, shape in images.items()}
    return {"obs": obs, "action": {"shape": [(10 if abs_action else 7) * N_ARMS[env_name]]}}


@cache
def env_of(env_name: str, abs_action: bool = False) -> RobomimicEnv:
    pytest.importorskip("robosuite")
    return RobomimicEnv(env_name, shape_meta(env_name, abs_action), abs_action, fast_rendering=True)


def random_actions(env_name: str, n: int, seed: int = 0) -> np.ndarray:
    """Relative ones."""
    return np.random.default_rng(seed).uniform(-1, 1, (n, 7 * N_ARMS[env_name]))


def assert_equal(observation: dict, other: dict) -> None:
    assert list(observation) == list(other)
    for key, value in observation.items():
        np.testing.assert_array_equal(value, other[key], err_msg=key)

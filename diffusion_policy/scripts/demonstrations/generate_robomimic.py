"""Make demonstrations of Lift and Square without any person, in robomimic's layout.

diffusion-policy data generate lift data/robomimic/lift_scripted/low_dim.hdf5 --n_episodes 100
"""

import json
from functools import cache

import numpy as np

from diffusion_policy.env.robomimic.robomimic_env import RobomimicEnv
from diffusion_policy.env.robomimic.scripted_experts import ScriptedExpert, ScriptedLift, ScriptedSquare
from diffusion_policy.scripts.demonstrations.generate import Demonstration

MAX_STEPS = 400
CAMERAS = ("agentview_image", "robot0_eye_in_hand_image")
EXPERTS: dict[str, tuple[str, int, type[ScriptedExpert]]] = {  # robosuite's name, size of `object`, expert
    "lift": ("Lift", 10, ScriptedLift),
    "square": ("NutAssemblySquare", 14, ScriptedSquare),
}


def demonstrate_robomimic(task: str, image_size: int | None, seed: int) -> Demonstration:
    """Let the expert solve a task from the start that `seed` gives, in at most 400 steps of 0.05 s.

    Steps are as in robomimic's files: what is observed by its names, `action` (L, 7) as changes of the pose, `states`
    (L, 1 + nq + nv), and `rewards` and `dones`, which are 1 at a success.

    Args:
        task: of `EXPERTS`.
        image_size: side of the images of both cameras, in pixels; None records none.
        seed: of the start and of the expert.
    """
    env, expert = _env(task, image_size), EXPERTS[task][2](seed)
    obs, info = env.reset(seed=seed)
    steps: dict[str, list[np.ndarray]] = {key: [] for key in (*obs, "action", "states", "rewards", "dones")}
    success = False
    while not success and len(steps["action"]) < MAX_STEPS:
        action = expert.act(obs)
        for key, value in {**obs, "action": action, "states": info["state"]}.items():
            steps[key].append(_recorded(value))
        obs, reward, success, _, info = env.step(action)
        steps["rewards"].append(np.array(float(reward)))
        steps["dones"].append(np.array(int(success)))
    return Demonstration(seed, {key: np.array(values) for key, values in steps.items()}, success)


def recorded_with(task: str) -> dict[str, np.ndarray]:
    """What robomimic's files say of their environment."""
    env_args = _env(task, None).env_args
    return {
        "env_args": np.array(json.dumps(env_args)),
        "fps": np.array(env_args["env_kwargs"]["control_freq"]),
    }


@cache
def _env(task: str, image_size: int | None) -> RobomimicEnv:
    """One for all episodes of a process: building it takes a second."""
    name, object_size, _ = EXPERTS[task]
    sizes = {"object": object_size, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
    obs: dict[str, dict] = {key: {"shape": [size]} for key, size in sizes.items()}
    if image_size is not None:
        obs |= {camera: {"shape": [3, image_size, image_size], "type": "rgb"} for camera in CAMERAS}
    return RobomimicEnv(name, {"obs": obs, "action": {"shape": [7]}})


def _recorded(value: np.ndarray) -> np.ndarray:
    """Images (3, H, W) in [0, 1] as they are stored, (H, W, 3) uint8; all else as it is."""
    return np.round(value.transpose(1, 2, 0) * 255).astype(np.uint8) if value.ndim == 3 else value

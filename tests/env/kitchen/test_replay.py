"""The environment against the human demonstrations."""

import numpy as np
import pytest

from diffusion_policy.common import kitchen
from diffusion_policy.dataset.episode_files import load_episodes
from diffusion_policy.env.kitchen.kitchen_env import KitchenEnv

pytestmark = pytest.mark.sim
# The recording observed the robot with a hundredth of the noise's amplitude, drawn by this seed in each episode.
RECORDING_SEED, RECORDING_RATIO = 123, 0.01
STEPS_BEFORE_CONTACT = 20


@pytest.fixture(scope="module")
def demonstrations(kitchen_zarr):
    return load_episodes(kitchen_zarr, ["state", "action"])


def recorded_noise(n_steps: int) -> np.ndarray:
    """Of the robot's recorded positions, (n_steps, 9); what else was drawn was for velocities and objects."""
    random = np.random.default_rng(RECORDING_SEED)
    draws = [[random.uniform(-1, 1, size) for size in (9, 9, 21, 20)] for _ in range(n_steps)]
    return RECORDING_RATIO * kitchen.NOISE_AMPLITUDE[:9] * np.array([draw[0] for draw in draws])


@pytest.mark.parametrize("episode", [0, 1])
def test_replayed_positions_do_the_four_tasks(demonstrations, episode):
    """Until the arm touches anything its positions are those recorded, to 1e-6 rad; then within 0.02."""
    recorded = demonstrations.get_episode(episode)
    robot = recorded["state"][:, :9].astype(float)
    qpos = np.hstack([robot, recorded["state"][:, 18:39]])
    true = robot - recorded_noise(len(robot))
    env = KitchenEnv(abs_action=True, robot_noise_ratio=0)
    env.reset(seed=0, options={"qpos": np.hstack([true[0], qpos[0, 9:]])})
    infos = [
        env.step(target)[-1] for target in kitchen.targets(robot, kitchen.velocities(recorded["action"]))
    ]
    reached = np.array([info["qpos"][:9] for info in infos])[:-1]
    deviation = np.abs(reached - true[1:])
    assert deviation[:STEPS_BEFORE_CONTACT].max() < 1e-6
    assert deviation[:, :7].max() < 0.02
    assert infos[-1]["completed_tasks"] == ["kettle", "light switch", "microwave", "slide cabinet"]
    assert infos[-1]["is_success"]

"""Tests for generate_robomimic.py and the experts behind it."""

import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_files import load_episodes
from diffusion_policy.env import mujoco_rendering
from diffusion_policy.env.robomimic.robomimic_file import read_env_args
from diffusion_policy.scripts.demonstrations.data_command import data_parser
from diffusion_policy.scripts.demonstrations.generate import generate
from diffusion_policy.scripts.demonstrations.generate_robomimic import (
    _env,
    demonstrate_robomimic,
    recorded_with,
)

pytestmark = [
    pytest.mark.sim,
    pytest.mark.skipif(find_spec("robosuite") is None, reason="robosuite is not installed"),
]


@pytest.fixture(scope="module")
def lift(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lift") / "low_dim.hdf5"
    generate(
        partial(demonstrate_robomimic, "lift", None),
        path,
        n_episodes=3,
        workers=1,
        meta=recorded_with("lift"),
    )
    return path


def test_a_file_in_robomimics_layout_with_flags_of_success(lift: Path) -> None:
    import h5py

    with h5py.File(lift) as file:
        demo = file["data/demo_1"]
        assert set(demo) == {"obs", "actions", "states", "rewards", "dones"}
        assert set(demo["obs"]) == {"object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"}
        assert (demo.attrs["seed"], demo.attrs["success"]) == (500_001, True)
        assert demo["rewards"][:].tolist() == [0.0] * (len(demo["actions"]) - 1) + [1.0]
        assert demo["dones"][-1] == 1
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "Lift"
    assert read_env_args(lift)["env_name"] == "Lift"


def test_replayed_actions_lead_to_the_recorded_states(lift: Path) -> None:
    buffer: ReplayBuffer = load_episodes(lift)
    episode = buffer.get_episode(0)
    env = _env("lift", None)
    obs, info = env.reset(seed=500_000)
    for step, action in enumerate(episode["action"]):
        np.testing.assert_allclose(info["state"], episode["states"][step], atol=1e-6)
        np.testing.assert_array_equal(obs["object"], episode["object"][step])
        obs, _, _, _, info = env.step(action)
    assert info["is_success"]


def test_demonstrations_differ_and_follow_from_the_seed() -> None:
    first, second, again = (demonstrate_robomimic("lift", None, seed) for seed in (1, 2, 1))
    assert first.n_steps == again.n_steps
    np.testing.assert_array_equal(first.steps["action"], again.steps["action"])
    assert first.n_steps != second.n_steps or not np.array_equal(
        first.steps["action"], second.steps["action"]
    )


def test_the_nut_is_put_over_its_peg() -> None:
    demonstration = demonstrate_robomimic("square", None, 500_000)
    assert demonstration.success
    nut = demonstration.steps["object"][-1, :3]
    assert np.abs(nut[:2] - (0.23, 0.1)).max() < 0.03
    assert nut[2] < 0.9  # below the top of the peg, a step before success


@pytest.mark.skipif(mujoco_rendering.choose_opengl() == "disable", reason="neither EGL nor OSMesa is here")
def test_images_of_both_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_policy.scripts.demonstrations.generate_robomimic.MAX_STEPS", 2)
    steps = demonstrate_robomimic("lift", 32, 500_000).steps
    for camera in ("agentview_image", "robot0_eye_in_hand_image"):
        assert steps[camera].shape == (2, 32, 32, 3)
        assert steps[camera].dtype == np.uint8
        assert steps[camera].std() > 10


def test_images_of_pusht_are_refused(tmp_path: Path) -> None:
    options = data_parser().parse_args(["generate", "pusht", str(tmp_path / "a.zarr"), "--image_size", "96"])
    with pytest.raises(ValueError, match="--image_size is for lift and square"):
        options.run(options)

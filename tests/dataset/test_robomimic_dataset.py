"""robomimic's demonstrations as training data."""

import json
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.common.arm_actions import to_rotation_6d
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.robomimic_dataset import RobomimicDataset
from diffusion_policy.dataset.robomimic_format import RobomimicFormat

LENGTHS = {"horizon": 8, "n_obs_steps": 2, "n_action_steps": 4}
LOW_DIM = {
    **{"object": {"shape": [10]}, "robot0_eef_pos": {"shape": [3]}},
    **{"robot0_eef_quat": {"shape": [4]}, "robot0_gripper_qpos": {"shape": [2]}},
}


def make(path, action_size=7, obs=LOW_DIM, **changes):
    shape_meta = {"obs": obs, "action": {"shape": [action_size]}}
    return RobomimicDataset(path, shape_meta, **{**LENGTHS, **changes})


@pytest.fixture
def poses(tmp_path: Path) -> Path:
    """Two episodes of two arms that are told poses, seen by a camera."""
    random = np.random.default_rng(0)
    buffer = ReplayBuffer.create_empty_numpy()
    for length in (12, 15):
        buffer.add_episode(
            {
                "action": random.uniform(-2, 2, (length, 14)),
                "agentview_image": random.integers(0, 256, (length, 6, 8, 3), np.uint8),
                "robot0_eef_pos": random.normal(size=(length, 3)),
            }
        )
    RobomimicFormat().save(buffer, tmp_path / "image_abs.hdf5")
    return tmp_path / "image_abs.hdf5"


CAMERA = {"agentview_image": {"shape": [3, 6, 8], "type": "rgb"}, "robot0_eef_pos": {"shape": [3]}}


@pytest.mark.parametrize("image_storage", ["memory", "disk"])
def test_poses_have_rotations_of_six_numbers(poses, image_storage, tmp_path):
    recorded = RobomimicFormat().load(poses)
    storage = {"image_storage": image_storage, "cache_dir": tmp_path / "cache"}
    for _ in range(2):  # the second time from the cache
        episode = make(poses, 20, CAMERA, abs_action=True, **storage).episode(1)
        expected = to_rotation_6d(recorded["action"][12:]).astype(np.float32)
        np.testing.assert_array_equal(episode["action"], expected)
        images = recorded["agentview_image"][12:].transpose(0, 3, 1, 2) / np.float32(255)
        np.testing.assert_array_equal(episode["obs"]["agentview_image"], images)
    with pytest.raises(ValueError, match="are poses .* choose the task with _abs"):  # of the same cache
        make(poses, 14, CAMERA, **storage)


def test_changes_are_no_poses_and_a_file_of_another_task_is_refused(tmp_path):
    buffer = ReplayBuffer.create_empty_numpy()
    action = np.random.default_rng(0).uniform(-1, 1, (12, 7))
    buffer.add_episode({"action": action, "robot0_eef_pos": np.zeros((12, 3))})
    buffer.update_meta({"env_args": json.dumps({"env_name": "Lift"})})
    RobomimicFormat().save(buffer, tmp_path / "low_dim.hdf5")
    obs = {"robot0_eef_pos": {"shape": [3]}}
    make(tmp_path / "low_dim.hdf5", 7, obs, env_name="Lift")
    with pytest.raises(ValueError, match="changes of the pose .*robomimic_dataset_conversion"):
        make(tmp_path / "low_dim.hdf5", 10, obs, abs_action=True)
    with pytest.raises(ValueError, match="recorded in Lift, but the task is PickPlaceCan"):
        make(tmp_path / "low_dim.hdf5", 7, obs, env_name="PickPlaceCan")


def test_only_positions_of_poses_are_normalised(poses):
    normalizer = make(poses, 20, CAMERA, abs_action=True).get_normalizer()["action"]
    actions = make(poses, 20, CAMERA, abs_action=True).episode(0)["action"]
    others = make(poses, 20, CAMERA, abs_action=True).episode(1)["action"]
    both = normalizer.normalize(np.concatenate([actions, others])).numpy()
    is_position = np.arange(20) % 10 < 3
    np.testing.assert_allclose(both[:, is_position].min(0), -1, atol=1e-6)
    np.testing.assert_allclose(both[:, is_position].max(0), 1, atol=1e-6)
    np.testing.assert_array_equal(both[:, ~is_position], np.concatenate([actions, others])[:, ~is_position])
    np.testing.assert_allclose(normalizer.unnormalize(both)[: len(actions)], actions, atol=1e-6)
    np.testing.assert_array_equal(normalizer.input_max, np.concatenate([actions, others]).max(0))


def test_the_human_demonstrations_of_lift(shared_data):
    dataset = make(shared_data / "robomimic/lift_human_low_dim/low_dim.hdf5")
    assert (dataset.n_episodes, dataset.episode_ends[-1]) == (37, 9054)
    batch = dataset.batch(np.arange(5), 2)
    assert list(batch["obs"]) == list(LOW_DIM)
    assert sum(value.shape[-1] for value in batch["obs"].values()) == 19
    assert batch["action"].shape == (5, 8, 7)


def recorded_with(path, env_args, objects):
    buffer = ReplayBuffer.create_empty_numpy()
    buffer.add_episode({"object": objects, "action": np.zeros((len(objects), 7))})
    buffer.update_meta({"env_args": json.dumps(env_args)})
    RobomimicFormat().save(buffer, path)
    return path


ORDERS = {  # what stands in `object` since robosuite 1.5, by its place before
    "Lift": np.arange(10),
    "PickPlaceCan": np.r_[7:14, 0:7],
    "NutAssemblySquare": np.r_[7:14, 0:7],
    "ToolHang": np.r_[7:14, 0:7, 21:28, 14:21, 35:42, 28:35, 42:44],
    "TwoArmTransport": np.r_[0:27, 39:41, 27:39],
}


@pytest.mark.parametrize("env_name", ORDERS)
@pytest.mark.parametrize("cached", [True, False])
def test_objects_have_one_order(tmp_path, env_name, cached):
    size = len(ORDERS[env_name])
    published = np.arange(20)[:, None] * 100 + np.arange(size)
    storage = {"image_storage": "disk", "cache_dir": tmp_path} if cached else {}
    for version, recorded in {
        **{"1.2.0": published, "1.4.1": published, None: published},
        **{"1.5.0": published[:, ORDERS[env_name]], "1.5.2 (recomputed)": published[:, ORDERS[env_name]]},
    }.items():
        env_args = {"env_name": env_name, **({} if version is None else {"env_version": version})}
        path = recorded_with(tmp_path / f"{version}.hdf5", env_args, recorded)
        dataset = make(path, obs={"object": {"shape": [size]}}, **storage)
        np.testing.assert_array_equal(dataset.episode(0)["obs"]["object"], published)


def test_missing_files_say_where_to_get_them(tmp_path, poses):
    with pytest.raises(FileNotFoundError, match="docs/guides/robomimic.md"):
        make(tmp_path / "low_dim.hdf5")
    with pytest.raises(FileNotFoundError, match="docs/guides/robomimic.md"):
        make(tmp_path / "low_dim_abs.hdf5", 10, abs_action=True)
    (tmp_path / "low_dim.hdf5").write_bytes(poses.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"robomimic_dataset_conversion -i .*low_dim.hdf5 -o .*_abs"):
        make(tmp_path / "low_dim_abs.hdf5", 10, abs_action=True)

"""Demonstrations in the kitchen, in every layout in which they were published."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from diffusion_policy.common import kitchen
from diffusion_policy.dataset.episode_files import save_episodes
from diffusion_policy.dataset.kitchen_dataset import KitchenLowdimDataset
from tests.dataset.kitchen_episodes import kitchen_buffer, write_kitchen, write_log, write_sequences

LENGTHS = {"horizon": 8, "n_obs_steps": 2, "n_action_steps": 4}


def make(path: Path, n_observed: int = 60, **options) -> KitchenLowdimDataset:
    shape_meta = {"obs": {"obs": {"shape": [n_observed]}}, "action": {"shape": [9]}}
    return KitchenLowdimDataset(path, shape_meta, **LENGTHS, **options)


def observed(dataset: KitchenLowdimDataset, episode: int = 0) -> np.ndarray:
    return dataset.episode(episode)["obs"]["obs"]


class TestD4RL:
    @pytest.mark.parametrize("name", ["a.zarr", "a.npz", "a.hdf5"])
    def test_positions_and_zeros_for_goals(self, tmp_path, name):
        buffer = kitchen_buffer()
        save_episodes(buffer, tmp_path / name)
        dataset = make(tmp_path / name)
        state = buffer.get_episode(1)["state"]
        np.testing.assert_array_equal(observed(dataset, 1)[:, :9], state[:, :9])
        np.testing.assert_array_equal(observed(dataset, 1)[:, 9:30], state[:, 18:39])
        assert not observed(dataset, 1)[:, 30:].any()
        np.testing.assert_array_equal(dataset.episode(1)["action"], buffer.get_episode(1)["action"])

    def test_without_goals(self, tmp_path):
        path = write_kitchen(tmp_path / "a.zarr")
        np.testing.assert_array_equal(observed(make(path, 30)), observed(make(path, 60))[:, :30])

    def test_positions_of_velocities(self, tmp_path):
        """The environment's own arithmetic: 2 rad/s for 0.08 s from where the joint was, within its range."""
        path = write_kitchen(tmp_path / "a.zarr")
        targets = make(path, abs_action=True, robot_noise_ratio=0.5).episode(0)["action"]
        plain = make(path).episode(0)
        expected = plain["obs"]["obs"][:, :9] + 0.16 * plain["action"]
        expected = np.clip(expected, kitchen.JOINT_LOW, kitchen.JOINT_HIGH)
        np.testing.assert_allclose(targets, expected, atol=1e-6)

    def test_another_state_is_refused(self, tmp_path):
        arrays = {"state": np.zeros((20, 30)), "action": np.zeros((20, 9)), "episode_ends": np.array([20])}
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(ValueError, match=r"'state' has shape \(30,\) per step, but D4RL's"):
            make(tmp_path / "a.npz")

    def test_nan_is_named(self, tmp_path):
        buffer = kitchen_buffer()
        buffer["state"][25, 20] = np.nan
        save_episodes(buffer, tmp_path / "a.npz")
        with pytest.raises(ValueError, match="'obs' holds NaN or infinity in 1 steps, first in row 25"):
            make(tmp_path / "a.npz")


class TestNoise:
    @pytest.fixture
    def path(self, tmp_path) -> Path:
        return write_kitchen(tmp_path / "a.zarr", length=200)

    def test_is_within_its_amplitudes_on_positions_only(self, path):
        noise = observed(make(path, robot_noise_ratio=0.1)) - observed(make(path))
        bound = 0.1 * kitchen.NOISE_AMPLITUDE
        assert (np.abs(noise[:, :30]) <= bound + 1e-6).all()
        assert (np.abs(noise[:, :9]).max(0) > 0.9 * bound[:9]).all()
        assert not noise[:, 30:].any()
        assert np.array_equal(
            make(path, robot_noise_ratio=0.1).episode(0)["action"], make(path).episode(0)["action"]
        )

    def test_is_the_seed_s(self, path):
        noisy = observed(make(path, robot_noise_ratio=0.1))
        np.testing.assert_array_equal(noisy, observed(make(path, robot_noise_ratio=0.1)))
        assert (noisy != observed(make(path, robot_noise_ratio=0.1, seed=7))).any()

    def test_of_the_original_s_draws(self, path):
        """`default_rng(seed).uniform(-1, 1, (L, 30))` for one episode after another."""
        random = np.random.default_rng(42)
        for episode in range(3):
            noise = 0.1 * kitchen.NOISE_AMPLITUDE * random.uniform(-1, 1, (200, 30))
            expected = observed(make(path), episode)[:, :30] + noise
            actual = observed(make(path, robot_noise_ratio=0.1), episode)[:, :30]
            np.testing.assert_allclose(actual, expected, atol=1e-7)

    @pytest.mark.parametrize("ratio", [-0.1, float("nan"), float("inf")])
    def test_a_ratio_that_is_none(self, path, ratio):
        with pytest.raises(ValueError, match="robot_noise_ratio is .*; expected a finite number"):
            make(path, robot_noise_ratio=ratio)

    def test_of_still_things_is_not_blown_up(self, path):
        buffer = kitchen_buffer()
        buffer["state"][:, 18:30] = 0.2 + np.random.default_rng(0).uniform(-0.02, 0.02, (60, 12))
        save_episodes(buffer, path.parent / "b.npz")
        normalizer = make(path.parent / "b.npz").get_normalizer()
        scale = normalizer["obs"].scale.numpy()
        np.testing.assert_array_equal(scale[9:21], 1)
        assert (scale[21:30] > 1.9).all(), "these vary by less than 1.05"
        assert (normalizer["action"].scale.numpy() > 0.9).all()


class TestSequences:
    def test_steps_that_exist(self, tmp_path):
        arrays = write_sequences(tmp_path / "a", lengths=(20, 15))
        dataset = make(tmp_path / "a")
        assert dataset.episode_ends.tolist() == [20, 35]
        expected = arrays["observations_seq"][1, :15].astype(np.float32)
        np.testing.assert_array_equal(observed(dataset, 1), expected)
        np.testing.assert_array_equal(observed(make(tmp_path / "a", 30), 1), expected[:, :30])
        np.testing.assert_array_equal(
            dataset.episode(0)["action"], arrays["actions_seq"][0].astype(np.float32)
        )

    @pytest.mark.parametrize("name", ["observations_seq.npy", "actions_seq.npy", "existence_mask.npy"])
    def test_a_missing_array_is_named(self, tmp_path, name):
        write_sequences(tmp_path / "a")
        (tmp_path / "a" / name).unlink()
        with pytest.raises(ValueError, match=f"has no {name}; it takes"):
            make(tmp_path / "a")

    def test_a_damaged_array_is_named(self, tmp_path):
        write_sequences(tmp_path / "a")
        file = tmp_path / "a/actions_seq.npy"
        file.write_bytes(file.read_bytes()[:-8])
        with pytest.raises(ValueError, match="actions_seq.npy is no whole array"):
            make(tmp_path / "a")

    @pytest.mark.parametrize(
        ("name", "array", "message"),
        [
            ("actions_seq", np.zeros((2, 20, 8)), r"\(2, 20, 8\) and \(2, 20\); expected"),
            ("observations_seq", np.zeros((2, 20, 59)), r"observations_seq.npy has shape \(2, 20, 59\)"),
            ("existence_mask", np.zeros((2, 20, 1)), "have shapes"),
            ("existence_mask", np.eye(2, 20), "steps must be 1, ..., 1, 0, ..., 0"),
            ("existence_mask", np.array(["a"]), "holds <U1; expected numbers"),
        ],
    )
    def test_arrays_that_contradict_each_other(self, tmp_path, name, array, message):
        write_sequences(tmp_path / "a")
        np.save(tmp_path / "a" / f"{name}.npy", array)
        with pytest.raises(ValueError, match=message):
            make(tmp_path / "a")


class TestHdf5:
    """The layouts as Minari and D4RL document them."""

    def test_minari(self, tmp_path):
        buffer = kitchen_buffer(n_episodes=11, length=10)
        with h5py.File(tmp_path / "main_data.hdf5", "w") as file:
            for index in range(11):
                episode = buffer.get_episode(index)
                state = np.vstack([episode["state"], np.full((1, 59), 7)])  # also after the last action
                file[f"episode_{index}/observations/observation"] = state
                file[f"episode_{index}/observations/desired_goal/kettle"] = np.zeros((11, 7))
                file[f"episode_{index}/actions"] = episode["action"]
        save_episodes(buffer, tmp_path / "a.zarr")
        assert make(tmp_path / "main_data.hdf5").content_hash() == make(tmp_path / "a.zarr").content_hash()

    def test_d4rl(self, tmp_path):
        random = np.random.default_rng(0)
        observations, actions = random.uniform(-1, 1, (45, 60)), random.uniform(-1, 1, (45, 9))
        with h5py.File(tmp_path / "complete.hdf5", "w") as file:
            file["observations"], file["actions"] = observations, actions
            file["terminals"], file["timeouts"] = np.arange(45) == 19, np.arange(45) == 39
        dataset = make(tmp_path / "complete.hdf5")
        assert dataset.episode_ends.tolist() == [20, 40]
        np.testing.assert_array_equal(observed(dataset, 1), observations[20:40].astype(np.float32))
        np.testing.assert_array_equal(dataset.episode(0)["action"], actions[:20].astype(np.float32))

    @pytest.mark.parametrize("key", ["episode_0/actions", "actions", "rewards"])
    def test_another_layout_is_named(self, tmp_path, key):
        with h5py.File(tmp_path / "a.hdf5", "w") as file:
            file[key] = np.zeros((20, 9))
        with pytest.raises(ValueError, match="a.hdf5 is in the layout of neither Minari"):
            make(tmp_path / "a.hdf5")

    def test_a_damaged_file_is_named(self, tmp_path):
        file = tmp_path / "a.hdf5"
        save_episodes(kitchen_buffer(), file)
        file.write_bytes(file.read_bytes()[:-200])
        with pytest.raises(ValueError, match="a.hdf5 is not a complete HDF5 file"):
            make(file)


class TestLogs:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        for name in ("b/y.mjl", "a/z.mjl", "b/x.mjl"):
            write_log(tmp_path / "logs" / name)
        return tmp_path / "logs"

    def test_every_fortieth_step_in_the_order_of_names(self, folder):
        dataset = make(folder, abs_action=True)
        assert dataset.episode_ends.tolist() == [10, 20, 30]
        for episode, name in enumerate(("a/z.mjl", "b/x.mjl", "b/y.mjl")):
            records = write_log(folder / name)[::40]
            np.testing.assert_array_equal(observed(dataset, episode)[:, :30], records[:, 1:31])
            np.testing.assert_array_equal(dataset.episode(episode)["action"], records[:, 60:69])
            assert not observed(dataset, episode)[:, 30:].any()

    def test_positions_of_a_mocap_body_are_left_out(self, tmp_path):
        records = write_log(tmp_path / "a/a.mjl", sizes=(31, 30, 9, 1, 0, 0))[::40]
        expected = np.hstack([records[:, 1:10], records[:, 11:32]])
        np.testing.assert_array_equal(observed(make(tmp_path, abs_action=True))[:, :30], expected)

    def test_their_actions_are_positions(self, folder):
        with pytest.raises(ValueError, match=r"the actions of .mjl logs are positions; set abs_action=True"):
            make(folder)

    def test_a_damaged_log_is_not_skipped(self, folder):
        file = folder / "b/x.mjl"
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.raises(ValueError, match=r"x.mjl is cut off or damaged"):
            make(folder, abs_action=True)

    @pytest.mark.parametrize("sizes", [(29, 29, 9, 0, 0, 0), (30, 29, 8, 0, 0, 0)])
    def test_another_robot_s_log_is_named(self, folder, sizes):
        write_log(folder / "b/x.mjl", sizes=sizes)
        with pytest.raises(ValueError, match="x.mjl has .* but the kitchen has 30 and 9; remove it"):
            make(folder, abs_action=True)


def test_no_data(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no demonstrations of the kitchen at .*none.*observations_seq"
    ):
        make(tmp_path / "none")


def test_a_folder_with_nothing_of_the_kind(tmp_path):
    with pytest.raises(ValueError, match="holds no demonstrations in a known format"):
        make(tmp_path)


def test_human_demonstrations(kitchen_zarr):
    dataset = make(kitchen_zarr)
    assert (dataset.n_episodes, dataset.episode_ends[-1]) == (19, 4209)
    firsts = np.array([observed(dataset, episode)[0] for episode in range(19)])
    assert (firsts == firsts[0]).all()
    last = observed(dataset, 0)[-1]
    assert abs(last[22] + 0.75) < 0.3, "the microwave is open"
    assert abs(last[19] - 0.37) < 0.3, "the cabinet is open"

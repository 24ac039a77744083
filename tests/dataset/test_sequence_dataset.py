"""Tests for sequence_dataset.py and pusht_dataset.py."""

import numpy as np
import pytest
import torch

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset import sequence_dataset
from diffusion_policy.dataset.pusht_dataset import PushTLowdimDataset
from diffusion_policy.dataset.sequence_dataset import SequenceDataset

SHAPE_META = {
    "obs": {
        "image": {"shape": [3, 4, 5], "type": "rgb"},
        "pose": {"shape": [2, 3], "type": "low_dim"},
    },
    "action": {"shape": [2]},
}
LENGTHS = (9, 5, 12, 7)


def make_buffer(lengths=LENGTHS):
    rng = np.random.default_rng(0)
    buffer = ReplayBuffer.create_empty_numpy()
    for length in lengths:
        buffer.add_episode(
            {
                "image": rng.integers(0, 256, (length, 4, 5, 3), dtype=np.uint8),
                "pose": rng.normal(size=(length, 2, 3)),
                "action": rng.uniform(0, 512, (length, 2)).astype(np.float32),
            }
        )
    return buffer


def make_dataset(buffer=None, **changes):
    arguments = {"shape_meta": SHAPE_META, "horizon": 8, "n_obs_steps": 2, "n_action_steps": 4, **changes}
    return SequenceDataset(make_buffer() if buffer is None else buffer, **arguments)


class TestBatch:
    def test_holds_the_windows_one_by_one(self):
        buffer, dataset = make_buffer(), make_dataset()
        batch = dataset.batch(np.arange(len(dataset)), obs_steps=2)
        row, episode_start = 0, 0
        for length in LENGTHS:
            for start in range(-1, length - 8 + 3 + 1):  # padding: To - 1 before, Ta - 1 after
                steps = episode_start + np.clip(np.arange(start, start + 8), 0, length - 1)
                np.testing.assert_array_equal(batch["action"][row], buffer["action"][steps])
                pose = buffer["pose"][steps[:2]].astype(np.float32)
                np.testing.assert_array_equal(batch["obs"]["pose"][row], pose)
                image = buffer["image"][steps[:2]].transpose(0, 3, 1, 2) / np.float32(255)
                np.testing.assert_array_equal(batch["obs"]["image"][row], image)
                row += 1
            episode_start += length
        assert row == len(dataset)

    @pytest.mark.parametrize("as_rows", [np.array, torch.tensor])
    @pytest.mark.parametrize("obs_steps", [1, 8])
    def test_shapes(self, as_rows, obs_steps):
        batch = make_dataset().batch(as_rows([3, 0, 3]), obs_steps)
        assert list(batch) == ["obs", "action"]
        assert list(batch["obs"]) == ["image", "pose"]
        assert batch["obs"]["image"].shape == (3, obs_steps, 3, 4, 5)
        assert batch["obs"]["pose"].shape == (3, obs_steps, 2, 3)
        assert batch["action"].shape == (3, 8, 2)
        assert all(x.dtype == torch.float32 for x in (batch["action"], *batch["obs"].values()))

    def test_is_no_view_of_the_data(self):
        dataset = make_dataset()
        before = dataset.content_hash()
        batch = dataset.batch(np.array([0]), 8)
        for values in (batch["action"], *batch["obs"].values()):
            values.fill_(0.5)
        dataset.episode(0)["action"][:] = 0.5
        assert dataset.content_hash() == before

    @pytest.mark.parametrize("obs_steps", [0, 9])
    def test_too_many_observation_steps(self, obs_steps):
        with pytest.raises(ValueError, match=rf"obs_steps must be in \[1, horizon=8\], got {obs_steps}"):
            make_dataset().batch(np.array([0]), obs_steps)

    def test_padding_given(self):
        assert len(make_dataset(pad_before=0, pad_after=0)) == sum(max(n - 7, 0) for n in LENGTHS)
        assert len(make_dataset(pad_before=7, pad_after=7)) == sum(n + 7 for n in LENGTHS)


class TestOnADevice:
    """The device `meta` stands for an accelerator: it holds shapes, and no values."""

    def test_images_that_would_fill_it_stay_where_they_are(self, monkeypatch, caplog):
        n_bytes = make_dataset()._tensors["image"].nbytes
        monkeypatch.setattr(sequence_dataset, "_room_for_images", lambda device: n_bytes - 1)
        dataset = make_dataset().to("meta")
        assert "the images of key 'image' stay off meta" in caplog.text
        assert dataset.device == torch.device("meta")
        assert dataset._tensors["image"].device == torch.device("cpu")
        assert dataset._tensors["pose"].device == torch.device("meta")

    def test_a_batch_is_where_the_data_are(self):
        batch = make_dataset().to("meta").batch(np.arange(3), 2)
        assert {batch["action"].device, batch["obs"]["image"].device} == {torch.device("meta")}
        assert batch["obs"]["image"].shape == (3, 2, 3, 4, 5)


class TestCachedFeatures:
    def test_batches_hold_them_instead_of_images(self):
        dataset = make_dataset()
        rows = [np.array([3, 0, 3]), np.arange(7)]
        expected = [dataset.batch(some, 2) for some in rows]
        dataset.cache_features(mean_and_pose)
        for features, raw in zip(dataset.batches(rows, 2), expected, strict=True):
            assert list(features) == ["features", "obs", "action"]
            assert list(features["obs"]) == ["pose"]
            assert torch.equal(features["obs"]["pose"], raw["obs"]["pose"])
            assert torch.equal(features["action"], raw["action"])
            torch.testing.assert_close(features["features"], mean_and_pose(raw["obs"]))

    def test_validation_shares_them(self):
        dataset = make_dataset(val_ratio=0.5)
        dataset.cache_features(mean_and_pose)
        (batch,) = dataset.get_validation_dataset().batches([np.array([0])], 2)
        assert batch["features"].shape == (1, 2, 9)


def mean_and_pose(obs):
    """Features (B, steps, 3 + 6) of observations."""
    return torch.cat([obs["image"].mean(dim=(-2, -1)), obs["pose"].flatten(2)], dim=-1)


class TestSplit:
    def test_training_and_validation_share_no_episode(self):
        dataset = make_dataset(val_ratio=0.25, max_train_episodes=2)
        validation = dataset.get_validation_dataset()
        assert (dataset.train_mask.sum(), dataset.val_mask.sum()) == (2, 1)
        assert not (dataset.train_mask & dataset.val_mask).any()
        for part, mask in ((dataset, dataset.train_mask), (validation, dataset.val_mask)):
            actions = part.batch(np.arange(len(part)), 1)["action"].reshape(-1, 2)
            expected = np.concatenate([part.episode(i)["action"] for i in np.flatnonzero(mask)])
            assert {tuple(action) for action in actions.tolist()} == {tuple(a) for a in expected.tolist()}

    def test_no_validation(self):
        assert len(make_dataset().get_validation_dataset()) == 0

    def test_moving_moves_the_validation_data_too(self):
        dataset = make_dataset(val_ratio=0.25)
        validation = dataset.get_validation_dataset()
        assert dataset.to("meta") is dataset
        assert dataset.device.type == validation.device.type == "meta"

    def test_episodes(self):
        buffer, dataset = make_buffer(), make_dataset(max_train_episodes=3)
        assert dataset.n_episodes == 4
        np.testing.assert_array_equal(dataset.episode(2)["action"], buffer.get_episode(2)["action"])
        np.testing.assert_array_equal(dataset.episode(-1)["action"], buffer.get_episode(3)["action"])
        image = dataset.episode(0)["obs"]["image"]
        assert isinstance(image, np.ndarray)
        assert (image.shape, image.dtype) == ((9, 3, 4, 5), np.float32)
        assert [len(e["action"]) for e in dataset.train_episodes()] == list(
            np.array(LENGTHS)[dataset.train_mask]
        )
        with pytest.raises(IndexError):
            dataset.episode(4)


class TestNormalizerAndHash:
    def test_normalizer_covers_all_episodes(self):
        normalizer = make_dataset(max_train_episodes=1, val_ratio=0.25).get_normalizer()
        assert set(normalizer.fields) == {"image", "pose", "action"}
        actions = normalizer["action"].normalize(make_buffer()["action"])
        torch.testing.assert_close(actions.amin(0), -torch.ones(2))
        torch.testing.assert_close(actions.amax(0), torch.ones(2))
        assert normalizer["image"].normalize(torch.tensor([0.0, 1.0])).tolist() == [-1, 1]

    def test_hash_is_of_the_data_alone(self, tmp_path):
        buffer = make_buffer()
        buffer.save_to_path(tmp_path / "a.zarr", chunks={"action": (3, 1)})
        expected = make_dataset(buffer).content_hash()
        assert make_dataset(ReplayBuffer.create_from_path(tmp_path / "a.zarr")).content_hash() == expected
        assert make_dataset(buffer, horizon=4, val_ratio=0.3, seed=1).content_hash() == expected
        assert make_dataset(make_buffer((9, 5, 12, 8))).content_hash() != expected
        buffer["action"][3, 1] += 1
        assert make_dataset(buffer).content_hash() != expected


class TestErrors:
    @pytest.mark.parametrize(
        ("key", "shape", "message"),
        [
            ("pose", [6], r"'pose' has shape \(2, 3\) per step, but shape_meta says \(6,\).*task YAML"),
            ("image", [4, 5, 3], r"'image' has shape \(3, 4, 5\) per step, but shape_meta says \(4, 5, 3\)"),
        ],
    )
    def test_shapes_that_contradict_shape_meta(self, key, shape, message):
        obs = {**SHAPE_META["obs"], key: {**SHAPE_META["obs"][key], "shape": shape}}
        with pytest.raises(ValueError, match=message):
            make_dataset(shape_meta={**SHAPE_META, "obs": obs})

    def test_unknown_key(self):
        with pytest.raises(KeyError, match="no key 'depth'"):
            make_dataset(shape_meta={**SHAPE_META, "obs": {"depth": {"shape": [1]}}})
        with pytest.raises(ValueError, match="cannot be named 'action'"):
            make_dataset(shape_meta={**SHAPE_META, "obs": {"action": {"shape": [2]}}})

    def test_images_that_are_not_uint8(self):
        buffer = ReplayBuffer.create_empty_numpy()
        episode = make_buffer().get_episode(0)
        buffer.add_episode({**episode, "image": episode["image"] / np.float32(255)})
        with pytest.raises(ValueError, match=r"'image' must be uint8 in \[0, 255\], got float32"):
            make_dataset(buffer)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_values_that_are_not_finite(self, bad):
        buffer = make_buffer()
        buffer["pose"][11, 1, 0] = buffer["pose"][30] = bad
        with pytest.raises(
            ValueError,
            match=r"'pose' holds NaN or infinity in 2 steps, first in row 11 \(episode 1, step 2\)",
        ):
            make_dataset(buffer)

    def test_horizon_beyond_the_data(self):
        with pytest.raises(
            ValueError, match=r"no window of horizon=20.*4 training episodes has 12 steps.*1 \+ 3"
        ):
            make_dataset(horizon=20)

    def test_no_episodes(self):
        with pytest.raises(ValueError, match="has no episodes"):
            make_dataset(ReplayBuffer.create_empty_numpy())


class TestPushT:
    SHAPE_META = {"obs": {"obs": {"shape": [20], "type": "low_dim"}}, "action": {"shape": [2]}}

    def make(self, path, **changes):
        arguments = {"horizon": 16, "n_obs_steps": 2, "n_action_steps": 8, **changes}
        return PushTLowdimDataset(path, self.SHAPE_META, **arguments)

    def test_missing_data_say_how_to_get_them(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="diffusion-policy data download pusht") as error:
            self.make(tmp_path / "none.zarr")
        assert str(tmp_path / "none.zarr") in str(error.value)
        assert "DIFFUSION_POLICY_DATA" in str(error.value)

    def test_human_demonstrations(self, pusht_zarr):
        dataset = self.make(pusht_zarr, val_ratio=0.02, max_train_episodes=90)
        assert len(dataset) == 10726
        validation = dataset.get_validation_dataset()
        assert np.flatnonzero(dataset.val_mask).tolist() == [18, 90, 134, 157]
        assert len(validation) == sum(len(dataset.episode(i)["action"]) - 7 for i in (18, 90, 134, 157))

        buffer = ReplayBuffer.copy_from_path(pusht_zarr, keys=["keypoint", "state", "action"])
        obs = dataset.episode(3)["obs"]["obs"]
        episode = buffer.get_episode(3)
        np.testing.assert_array_equal(obs[:, 16:18], episode["keypoint"][:, 8])
        np.testing.assert_array_equal(obs[:, 18:], episode["state"][:, :2])

        normalizer = dataset.get_normalizer()
        np.testing.assert_allclose(normalizer["action"].input_min, [12, 25])
        np.testing.assert_allclose(normalizer["action"].scale, [2 / 499, 2 / 486], rtol=1e-6)
        np.testing.assert_allclose(normalizer["obs"].input_max[18:], [496.15, 510.96], atol=0.01)

    def test_zip_file(self, pusht_zarr, tmp_path):
        buffer = ReplayBuffer.copy_from_path(pusht_zarr, keys=["keypoint", "state", "action"])
        buffer.save_to_path(tmp_path / "pusht.zarr.zip")
        zipped = self.make(tmp_path / "pusht.zarr.zip")
        assert zipped.content_hash() == self.make(pusht_zarr).content_hash()

"""Images on disk give the batches of those in memory, and say where they are damaged."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset import streamed_images
from diffusion_policy.dataset.episode_dataset import EpisodeDataset
from diffusion_policy.dataset.episode_files import save_episodes
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from tests.dataset.example_episodes import reaching_episodes

SHAPE_META = {
    "obs": {"camera": {"shape": [3, 16, 16], "type": "rgb"}, "state": {"shape": [3]}},
    "action": {"shape": [3]},
}
LENGTHS = {"horizon": 8, "n_obs_steps": 2, "n_action_steps": 4}
ONE = (1, 16, 16, 3)


def save(
    path: Path, chunk: tuple[int, ...] = ONE, compressor: object = "disk", dtype: type = np.uint8
) -> Path:
    """Four episodes of 12 steps, their images in chunks of this shape."""
    buffer = reaching_episodes(4, length=12)
    other = ReplayBuffer.create_empty_numpy()
    for index in range(4):
        episode = buffer.get_episode(index)
        other.add_episode(episode | {"camera": episode["camera"].astype(dtype)})
    other.save_to_path(path, chunks={"camera": chunk}, compressors={"camera": compressor})
    return path


def dataset_of(path: Path, image_storage: str = "disk", **changes: object) -> SequenceDataset:
    buffer = ReplayBuffer.create_from_path(path)
    return SequenceDataset(buffer, SHAPE_META, **LENGTHS, image_storage=image_storage, **changes)


def equal(ours: object, others: object) -> bool:
    if isinstance(ours, dict) and isinstance(others, dict):
        return list(ours) == list(others) and all(equal(ours[key], others[key]) for key in ours)
    return torch.equal(torch.as_tensor(ours), torch.as_tensor(others))


class TestEqualToMemory:
    @pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
    @pytest.mark.parametrize(
        ("chunk", "compressor", "dtype"),
        [
            (ONE, "disk", np.uint8),
            (ONE, None, np.uint8),
            (ONE, "jpeg2k", np.uint8),
            ((4, 16, 16, 3), "default", np.float32),
            ((3, 8, 16, 3), "default", np.uint8),
        ],
    )
    def test_whatever_they_are_stored_as(self, tmp_path, name, chunk, compressor, dtype):
        if compressor == "jpeg2k":
            pytest.importorskip("imagecodecs")
        path = save(tmp_path / name, chunk, compressor, dtype)
        streamed, held = dataset_of(path, val_ratio=0.25), dataset_of(path, "memory", val_ratio=0.25)
        rows = np.random.default_rng(0).permutation(len(held))
        for obs_steps in (1, 2, 8):
            assert equal(streamed.batch(rows, obs_steps), held.batch(rows, obs_steps))
        assert equal(streamed.episode(-1), held.episode(3))
        assert all(map(equal, streamed.train_episodes(), held.train_episodes()))
        assert streamed.content_hash() == held.content_hash()
        assert equal(streamed.get_normalizer().state_dict(), held.get_normalizer().state_dict())
        ours, others = streamed.get_validation_dataset(), held.get_validation_dataset()
        assert equal(ours.batch(np.arange(len(ours)), 2), others.batch(np.arange(len(ours)), 2))

    @pytest.mark.parametrize("image_storage", ["memory", "disk"])
    def test_one_batch_after_another(self, tmp_path, image_storage):
        dataset = dataset_of(save(tmp_path / "a.zarr"), image_storage)
        rows = np.array_split(np.random.default_rng(0).permutation(len(dataset)), 7)
        batches = list(dataset.batches(rows, 2))
        assert len(batches) == 7
        assert all(equal(batch, dataset.batch(r, 2)) for batch, r in zip(batches, rows, strict=True))
        assert list(dataset.batches([], 2)) == []

    def test_moved(self, tmp_path):
        dataset = dataset_of(save(tmp_path / "a.zarr"))
        assert dataset.to("cpu") is dataset
        assert dataset.to("meta").device.type == "meta"


def test_only_the_rows_asked_for_are_read(tmp_path, monkeypatch):
    dataset = dataset_of(save(tmp_path / "a.zarr"))
    read = []
    original = streamed_images.StoredArray.read_chunk
    monkeypatch.setattr(
        streamed_images.StoredArray, "read_chunk", lambda self, i: (read.append(i), original(self, i))[1]
    )
    dataset.batch(np.array([0, 1, 4]), 2)  # begin at steps -1, 0 and 3
    assert sorted(read) == [0, 1, 3, 4]


def test_many_images_to_a_chunk_warn_once(tmp_path):
    path = save(tmp_path / "a.zarr", (12, 16, 16, 3))
    with pytest.warns(UserWarning, match=r"'camera' are stored 12 to a chunk.*--image_compressor"):
        dataset = dataset_of(path)
    dataset.batch(np.arange(3), 2)  # another warning would be an error
    dataset.get_validation_dataset()


class TestAnyFormat:
    @pytest.mark.parametrize(("name", "format"), [("a.npz", None), ("a.hdf5", None), ("a", "lerobot")])
    def test_through_a_cache(self, tmp_path, name, format):
        buffer = reaching_episodes(4, length=12)
        save_episodes(buffer, tmp_path / name, format)
        held = SequenceDataset(buffer, SHAPE_META, **LENGTHS)
        for _ in range(2):
            streamed = EpisodeDataset(
                tmp_path / name, SHAPE_META, **LENGTHS, cache_dir=tmp_path / "cache", image_storage="disk"
            )
            assert streamed.content_hash() == held.content_hash()
        assert equal(streamed.batch(np.arange(9), 2), held.batch(np.arange(9), 2))
        (cache,) = (tmp_path / "cache").glob("*.zarr")
        assert ReplayBuffer.create_from_path(cache)["camera"].chunks == ONE

    def test_zarr_where_it_lies(self, tmp_path):
        path = save(tmp_path / "a.zarr")
        dataset = EpisodeDataset(path, SHAPE_META, **LENGTHS, cache_dir=tmp_path / "c", image_storage="disk")
        assert dataset.content_hash() == dataset_of(path, "memory").content_hash()
        assert not (tmp_path / "c").exists()

    def test_without_a_cache(self, tmp_path):
        save_episodes(reaching_episodes(2), tmp_path / "a.npz")
        with pytest.raises(ValueError, match=r"format 'npz', but image_storage='disk' reads zarr.*cache_dir"):
            EpisodeDataset(tmp_path / "a.npz", SHAPE_META, **LENGTHS, image_storage="disk")

    def test_a_damaged_cache(self, tmp_path):
        save_episodes(reaching_episodes(2), tmp_path / "a.npz")
        arguments = {**LENGTHS, "cache_dir": tmp_path / "c", "image_storage": "disk"}
        EpisodeDataset(tmp_path / "a.npz", SHAPE_META, **arguments)
        next((tmp_path / "c").glob("*.zarr")).joinpath("data/camera/3.0.0.0").unlink()
        with pytest.raises(ValueError, match=r"-frames\.zarr.*row 3 is missing \(episode 0, step 3\)"):
            EpisodeDataset(tmp_path / "a.npz", SHAPE_META, **arguments)


class TestMistakes:
    def test_storage(self, tmp_path):
        path = save(tmp_path / "a.zarr")
        with pytest.raises(ValueError, match="image_storage must be memory or disk, got 'ram'"):
            dataset_of(path, "ram")
        with pytest.raises(
            ValueError, match="image_storage is 'disk', but the images of key 'camera' are in mem"
        ):
            SequenceDataset(ReplayBuffer.copy_from_path(path), SHAPE_META, **LENGTHS, image_storage="disk")

    @pytest.mark.parametrize("image_storage", ["memory", "disk"])
    def test_size(self, tmp_path, image_storage):
        obs = {**SHAPE_META["obs"], "camera": {"shape": [3, 24, 16], "type": "rgb"}}
        buffer = ReplayBuffer.create_from_path(save(tmp_path / "a.zarr"))
        with pytest.raises(ValueError, match=r"\(3, 16, 16\) per step, but shape_meta says \(3, 24, 16\)"):
            SequenceDataset(buffer, SHAPE_META | {"obs": obs}, **LENGTHS, image_storage=image_storage)

    def test_a_missing_chunk_is_seen_at_once(self, tmp_path):
        path = save(tmp_path / "a.zarr")
        (path / "data/camera/30.0.0.0").unlink()
        with pytest.raises(ValueError, match=r"row 30 is missing \(episode 2, step 6\)"):
            dataset_of(path)

    @pytest.mark.parametrize("compressor", ["jpeg2k", "jpegxl"])
    def test_an_undecodable_image_is_an_error_in_its_batch(self, tmp_path, compressor):
        pytest.importorskip("imagecodecs")
        path = save(tmp_path / "a.zarr", ONE, compressor)
        (path / "data/camera/30.0.0.0").write_bytes(b"no image")
        dataset = dataset_of(path, pad_before=0, pad_after=0)  # windows begin at steps 0-4 of each episode
        rows = np.arange(len(dataset))[:, None]
        batches = dataset.batches(rows, 8)
        for _ in range(10):
            next(batches)
        with pytest.raises(
            ValueError, match=r"'data/camera'.*row 30 cannot be decoded \(episode 2, step 6\)"
        ):
            next(batches)
        dataset.batch(rows[10], 6)  # steps 0-5 are sound

    def test_values_that_are_no_images(self, tmp_path):
        path = save(tmp_path / "a.zarr", dtype=np.float32)
        camera = ReplayBuffer.create_from_path(path, "a")["camera"].array
        dataset = dataset_of(path)
        camera[30] = np.nan
        with pytest.raises(ValueError, match=r"got float32 with NaN or infinity in episode 2, step 6"):
            dataset.content_hash()
        camera[0] = 0.5
        with pytest.raises(ValueError, match=r"of 0.5 to 0.5 in episode 0, step 0; store \(images \* 255\)"):
            dataset_of(path)

"""Tests for zarr_storage.py: the layout on disk and what killed recorders leave of it."""

import os
import warnings

import numcodecs
import numpy as np
import pytest
import zarr

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.zarr_storage import TornTailWarning

LENGTHS = (5, 7, 4)


def make_episode(length, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "action": rng.normal(size=(length, 2)).astype(np.float32),
        "image": rng.integers(0, 256, (length, 4, 5, 3), dtype=np.uint8),
        "stage": np.zeros(length, np.int64),
    }


def assert_equal(episode, expected):
    assert set(episode) == set(expected)
    for key in expected:
        assert episode[key].dtype == expected[key].dtype
        np.testing.assert_array_equal(episode[key], expected[key])


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """What reaches the disk when matters in power cuts only."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def recorded(tmp_path):
    """Path of a buffer on disk with episodes of 5, 7 and 4 steps in chunks of 6 rows."""
    path = tmp_path / "recorded.zarr"
    buffer = ReplayBuffer.create_empty_zarr(path)
    chunks = {"action": (6, 2), "image": (6, 4, 5, 3), "stage": (6,)}
    for seed, length in enumerate(LENGTHS):
        buffer.add_episode(make_episode(length, seed), chunks=chunks, compressors="disk")
    return path


class TestLayout:
    def test_is_plain_zarr_v2(self, recorded):
        root = zarr.open_group(recorded, mode="r", zarr_format=2)
        assert root["meta/episode_ends"].dtype == np.int64
        assert root["meta/episode_ends"][:].tolist() == [5, 12, 16]
        expected = np.concatenate([make_episode(n, seed)["image"] for seed, n in enumerate(LENGTHS)])
        np.testing.assert_array_equal(root["data/image"][:], expected)
        assert root["data/image"].chunks == (6, 4, 5, 3)
        assert root["data/image"].metadata.compressor == numcodecs.Blosc(
            "zstd", 5, numcodecs.Blosc.BITSHUFFLE
        )

    def test_chunks_of_zeros_are_files_too(self, recorded):
        assert sorted(file.name for file in (recorded / "data/stage").glob("[0-9]*")) == ["0", "1", "2"]

    def test_many_episodes_outgrow_a_chunk_of_ends(self, tmp_path, monkeypatch):
        monkeypatch.setattr("diffusion_policy.common.zarr_storage.ENDS_PER_CHUNK", 2)
        buffer = ReplayBuffer.create_empty_zarr(tmp_path / "buffer.zarr")
        for step in range(5):
            buffer.add_episode({"x": np.full(3, step)})
        buffer.drop_episode()
        buffer.drop_episode()
        assert (
            ReplayBuffer.create_from_path(tmp_path / "buffer.zarr", "a")["x"][:].tolist()
            == [0] * 3 + [1] * 3 + [2] * 3
        )

    def test_recording_keeps_the_codec_of_the_store(self, recorded):
        buffer = ReplayBuffer.create_from_path(recorded, "a")
        buffer.add_episode(make_episode(9), compressors=None)
        assert buffer["action"].compressor.cname == "zstd"
        assert_equal(ReplayBuffer.create_from_path(recorded).get_episode(3), make_episode(9))

    def test_outdated_summary_is_removed_before_recording(self, recorded):
        (recorded / ".zmetadata").write_text("{}")
        ReplayBuffer.create_from_path(recorded, "a")
        assert not (recorded / ".zmetadata").exists()

    def test_a_new_path_is_created_and_a_taken_one_kept(self, tmp_path):
        (tmp_path / "empty").mkdir()
        assert ReplayBuffer.create_from_path(tmp_path / "empty", "a").n_episodes == 0
        assert ReplayBuffer.create_from_path(tmp_path / "new.zarr", "a").n_episodes == 0
        with pytest.raises(FileExistsError, match="mode='a'"):
            ReplayBuffer.create_empty_zarr(tmp_path / "new.zarr")


class TestTornTail:
    """States that killed recorders leave, ours or others'; the finished episodes are those of `recorded`."""

    def tear_one_array(self, root):
        root["data/action"].resize((20, 2))

    def tear_arrays_unequally(self, root):
        root["data/action"].resize((20, 2))
        root["data/image"].resize((18, 4, 5, 3))
        root["data/image"][16:] = 9

    def tear_before_the_end_is_written(self, root):
        for key in ("action", "image", "stage"):
            root[f"data/{key}"].resize((20, *root[f"data/{key}"].shape[1:]))
        root["meta/episode_ends"].resize((4,))

    @pytest.mark.parametrize(
        "tear", ["tear_one_array", "tear_arrays_unequally", "tear_before_the_end_is_written"]
    )
    def test_is_ignored_in_reading_and_cut_off_in_recording(self, recorded, tear):
        getattr(self, tear)(zarr.open_group(recorded, mode="r+", zarr_format=2))
        with pytest.warns(
            TornTailWarning, match=r"recorded\.zarr.*4 steps after the 3 finished.*are ignored"
        ):
            assert ReplayBuffer.create_from_path(recorded).n_steps == 16
        with pytest.warns(TornTailWarning, match="4 steps after the 3 finished.*are cut off"):
            buffer = ReplayBuffer.create_from_path(recorded, "a")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for opened in (buffer, ReplayBuffer.copy_from_path(recorded)):
                for index, length in enumerate(LENGTHS):
                    assert_equal(opened.get_episode(index), make_episode(length, index))

    def test_of_the_first_episode(self, tmp_path):
        path = tmp_path / "first.zarr"
        ReplayBuffer.create_empty_zarr(path)
        root = zarr.open_group(path, mode="r+", zarr_format=2)
        root["data"].create_array("action", shape=(6, 2), dtype=np.float32)
        (path / "data/image").mkdir()
        (path / "data/image/.tmp-0.0").touch()
        with pytest.warns(TornTailWarning, match="6 steps after the 0 finished"):
            assert list(ReplayBuffer.create_from_path(path).keys()) == []
        with pytest.warns(TornTailWarning, match="6 steps"):
            buffer = ReplayBuffer.create_from_path(path, "a")
        assert [item.name for item in (path / "data").iterdir() if not item.name.startswith(".")] == []
        buffer.add_episode(make_episode(2))
        assert_equal(buffer.get_episode(0), make_episode(2))

    def test_ends_of_dropped_episodes_are_not_revived(self, recorded):
        """Another recorder's drop leaves the old end in the chunk, where growing would find it again."""
        root = zarr.open_group(recorded, mode="r+", zarr_format=2)
        root["meta/episode_ends"].resize((2,))
        with pytest.warns(TornTailWarning, match="4 steps after the 2 finished"):
            ReplayBuffer.create_from_path(recorded, "a")
        root = zarr.open_group(recorded, mode="r+", zarr_format=2)
        root["meta/episode_ends"].resize((4,))
        assert root["meta/episode_ends"][:].tolist() == [5, 12, 0, 0]

"""Tests for replay_buffer.py and how it stores episodes, in memory and on disk."""

import os
import subprocess
import sys

import numcodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffusion_policy.common.replay_buffer import ReplayBuffer


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


@pytest.fixture(params=["memory", "disk"])
def buffer(request, tmp_path):
    """An empty buffer of each kind."""
    if request.param == "memory":
        return ReplayBuffer.create_empty_numpy()
    return ReplayBuffer.create_empty_zarr(tmp_path / "empty.zarr")


@pytest.fixture
def recorded(tmp_path):
    """Path of a buffer on disk with episodes of 5, 7 and 4 steps in chunks of 6 rows."""
    path = tmp_path / "recorded.zarr"
    buffer = ReplayBuffer.create_empty_zarr(path)
    chunks = {"action": (6, 2), "image": (6, 4, 5, 3), "stage": (6,)}
    for seed, length in enumerate((5, 7, 4)):
        buffer.add_episode(make_episode(length, seed), chunks=chunks, compressors="disk")
    return path


class TestReading:
    def test_properties(self, buffer):
        for seed, length in enumerate((3, 1, 4)):
            buffer.add_episode(make_episode(length, seed))
        assert (buffer.n_episodes, buffer.n_steps) == (3, 8)
        assert buffer.episode_ends.tolist() == [3, 4, 8]
        assert buffer.episode_lengths.tolist() == [3, 1, 4]
        assert buffer.get_episode_idxs().tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
        assert set(buffer.keys()) == {"action", "image", "stage"} == {key for key, _ in buffer.items()}
        assert "action" in buffer
        assert "obs" not in buffer
        assert buffer["image"].shape == (8, 4, 5, 3)
        assert buffer.get_episode_slice(-1) == slice(4, 8)
        assert buffer.get_episode_slice(0) == slice(0, 3)
        assert_equal(buffer.get_episode(-2), make_episode(1, 1))
        assert "3 episodes, 8 steps" in repr(buffer)

    def test_empty(self, buffer):
        assert (buffer.n_episodes, buffer.n_steps) == (0, 0)
        assert len(buffer.get_episode_idxs()) == len(buffer.episode_lengths) == len(buffer.keys()) == 0
        with pytest.raises(IndexError, match="no episode -1"):
            buffer.drop_episode()
        with pytest.raises(IndexError, match="no episode 0"):
            buffer.get_episode(0)

    def test_unknown_key_and_episode_are_named(self, buffer):
        buffer.add_episode(make_episode(2))
        with pytest.raises(KeyError, match=r"'state'.*action"):
            buffer["state"]
        for index in (1, -2):
            with pytest.raises(IndexError, match=f"no episode {index} among its 1"):
                buffer.get_episode_slice(index)

    def test_episodes_are_copies(self, buffer):
        buffer.add_episode(make_episode(2))
        buffer.get_episode(0)["action"][:] = 7
        buffer.episode_ends[:] = 7
        assert_equal(buffer.get_episode(0), make_episode(2))
        assert buffer.n_steps == 2

    @pytest.mark.parametrize(
        "rows",
        [3, -1, slice(2, 9), slice(9, 2), slice(None, None, 3), slice(-4, None), np.array([[7, 0], [7, 15]])],
    )
    def test_rows_on_disk_index_as_in_memory(self, recorded, rows):
        on_disk, in_memory = ReplayBuffer.create_from_path(recorded), ReplayBuffer.copy_from_path(recorded)
        for key in ("action", "image", "stage"):
            np.testing.assert_array_equal(on_disk[key][rows], in_memory[key][rows])

    def test_rows_beyond_the_end_raise(self, recorded):
        with pytest.raises(IndexError):
            ReplayBuffer.create_from_path(recorded)["action"][16]


class TestRecording:
    @given(
        operations=st.lists(st.one_of(st.integers(1, 9), st.just("drop"), st.just("pop")), max_size=12),
        reopen_at=st.integers(0, 12),
    )
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    def test_is_a_list_of_episodes(self, tmp_path_factory, operations, reopen_at):
        path = tmp_path_factory.mktemp("model") / "buffer.zarr"
        on_disk, in_memory = ReplayBuffer.create_empty_zarr(path), ReplayBuffer.create_empty_numpy()
        model = []
        for step, operation in enumerate(operations):
            if step == reopen_at:
                on_disk = ReplayBuffer.create_from_path(path, "a")
            if isinstance(operation, int):
                model.append(make_episode(operation, seed=step))
                on_disk.add_episode(model[-1], chunks={"action": (4, 2)})
                in_memory.add_episode(model[-1])
            elif model:
                for buffer in (on_disk, in_memory):
                    if operation == "drop":
                        buffer.drop_episode()
                    else:
                        assert_equal(buffer.pop_episode(), model[-1])
                model.pop()
        for buffer in (
            on_disk,
            in_memory,
            ReplayBuffer.create_from_path(path),
            ReplayBuffer.copy_from_path(path),
        ):
            assert buffer.n_episodes == len(model)
            for index, episode in enumerate(model):
                assert_equal(buffer.get_episode(index), episode)

    def test_keys_are_those_of_the_first_episode(self, buffer):
        buffer.add_episode(make_episode(3))
        for wrong in ({"action": np.zeros((2, 2))}, {**make_episode(2), "extra": np.zeros(2)}, {}):
            with pytest.raises(ValueError, match="an episode must have"):
                buffer.add_episode(wrong)
        assert buffer.n_episodes == 1

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"action": np.zeros((3, 4))}, r"'action' must have \(2,\).*\(3, 4\)"),
            ({"action": np.zeros((4, 2))}, "same number of steps"),
            ({"stage": np.float64(1)}, "'stage' must be an array of numbers"),
            ({"stage": np.array(["a", "b", "c"])}, "'stage' must be an array of numbers"),
            ({"stage": np.array([0, 0.5, 0])}, r"'stage' is stored as int64.*0\.5 .float64. of step 1"),
            ({"stage": np.array([0, np.nan, 0])}, r"'stage' is stored as int64.*nan"),
            ({"action": np.full((3, 2), 0.1)}, r"stored as float32.*0\.1"),
            ({"image": np.full((3, 4, 5, 3), -1)}, "stored as uint8.*-1"),
            ({"image": np.full((3, 4, 5, 3), -1, np.int8)}, "stored as uint8.*-1"),
            ({"image": np.full((3, 4, 5, 3), 256.0)}, "stored as uint8.*256"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, buffer, wrong, message):
        buffer.add_episode(make_episode(2))
        with pytest.raises(ValueError, match=message):
            buffer.add_episode({**make_episode(3), **wrong})
        assert buffer.n_steps == 2
        assert_equal(buffer.get_episode(0), make_episode(2))

    def test_empty_episodes_are_refused(self, buffer):
        with pytest.raises(ValueError, match="steps >= 1"):
            buffer.add_episode(make_episode(0))

    def test_exact_conversions_are_made(self, buffer):
        buffer.add_episode(make_episode(1))
        values = {
            "action": np.array([[0.5, np.nan]]),
            "stage": np.array([3.0]),
            "image": np.ones((1, 4, 5, 3), bool),
        }
        buffer.add_episode(values)
        assert buffer.get_episode(1)["action"].dtype == np.float32
        for key in values:
            np.testing.assert_array_equal(buffer.get_episode(1)[key], values[key])

    def test_dropping_all_forgets_the_keys(self, buffer):
        buffer.add_episode(make_episode(3))
        buffer.drop_episode()
        buffer.add_episode({"other": np.arange(4)})
        assert list(buffer.keys()) == ["other"]

    def test_arrays_taken_before_an_episode_was_added_stay_valid(self):
        buffer = ReplayBuffer.create_empty_numpy()
        buffer.add_episode(make_episode(3))
        action = buffer["action"]
        buffer.add_episode(make_episode(5, seed=1))
        np.testing.assert_array_equal(action, make_episode(3)["action"])

    def test_meta(self, buffer, tmp_path):
        buffer.add_episode(make_episode(3))
        buffer.update_meta({"fps": 10, "names": np.array(["left", "right"]), "matrix": np.eye(3)})
        buffer.update_meta({"fps": 20})
        buffer.save_to_path(tmp_path / "saved.zarr")
        for meta in (buffer.meta, ReplayBuffer.create_from_path(tmp_path / "saved.zarr").meta):
            assert set(meta) == {"episode_ends", "fps", "names", "matrix"}
            assert meta["fps"] == 20
            assert meta["names"].tolist() == ["left", "right"]
            np.testing.assert_array_equal(meta["matrix"], np.eye(3))

    def test_meta_that_cannot_be_stored(self, buffer):
        with pytest.raises(ValueError, match="use add_episode"):
            buffer.update_meta({"episode_ends": [3]})
        with pytest.raises(TypeError, match="meta 'robot'"):
            buffer.update_meta({"robot": {"ip": 1}})

    def test_reading_mode_does_not_write(self, recorded):
        buffer = ReplayBuffer.create_from_path(recorded, "r")
        for change in (
            buffer.drop_episode,
            lambda: buffer.add_episode(make_episode(2)),
            lambda: buffer.update_meta({"a": 1}),
        ):
            with pytest.raises(ValueError, match="mode='a'"):
                change()
        with pytest.raises(ValueError, match="'w'"):
            ReplayBuffer.create_from_path(recorded, "w")


class TestSaving:
    @pytest.mark.parametrize("name", ["copy.zarr", "copy.zarr.zip"])
    @pytest.mark.parametrize("source", ["create_from_path", "copy_from_path"])
    def test_round_trip(self, recorded, tmp_path, name, source):
        getattr(ReplayBuffer, source)(recorded).save_to_path(tmp_path / name)
        for opened in (ReplayBuffer.create_from_path, ReplayBuffer.copy_from_path):
            copy = opened(tmp_path / name)
            for index, length in enumerate((5, 7, 4)):
                assert_equal(copy.get_episode(index), make_episode(length, index))
        assert {item.name for item in tmp_path.iterdir()} == {"recorded.zarr", name}

    def test_chunks_and_compressors(self, recorded, tmp_path):
        buffer = ReplayBuffer.create_from_path(recorded)
        zstd = numcodecs.Zstd(level=1)
        buffer.save_to_path(
            tmp_path / "copy.zarr",
            chunks={"action": (3, 1)},
            compressors={"action": None, "image": zstd, "stage": "default"},
        )
        copy = ReplayBuffer.create_from_path(tmp_path / "copy.zarr")
        assert copy["action"].chunks == (3, 1)
        assert copy["image"].chunks == (6, 4, 5, 3)  # as stored
        assert [copy[key].compressor for key in ("action", "image")] == [None, zstd]
        assert copy["stage"].compressor == numcodecs.Blosc("lz4", 5, numcodecs.Blosc.NOSHUFFLE)
        assert_equal(copy.get_episode(1), make_episode(7, 1))

    def test_lossy_images_are_copied_as_they_are(self, recorded, tmp_path):
        buffer = ReplayBuffer.create_from_path(recorded)
        buffer.save_to_path(tmp_path / "copy.zarr", compressors={"action": "default"})
        for chunk in ("0.0.0.0", "2.0.0.0"):
            copied, original = (path / "data/image" / chunk for path in (tmp_path / "copy.zarr", recorded))
            assert copied.read_bytes() == original.read_bytes()

    def test_wrong_chunks_and_compressor_names(self, tmp_path):
        buffer = ReplayBuffer.create_empty_numpy()
        buffer.add_episode(make_episode(3))
        for chunks in ((3,), (3, 0)):
            with pytest.raises(ValueError, match="'action' must be 2 positive integers"):
                buffer.save_to_path(tmp_path / "a.zarr", chunks={"action": chunks})
        with pytest.raises(ValueError, match="'gzip' is not known: use 'default', 'disk'"):
            buffer.save_to_path(tmp_path / "a.zarr", compressors="gzip")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["copy.zarr", "copy.zarr.zip"])
    def test_overwriting_is_asked_for_and_all_or_nothing(self, tmp_path, name):
        old, new = ReplayBuffer.create_empty_numpy(), ReplayBuffer.create_empty_numpy()
        old.add_episode(make_episode(3))
        new.add_episode(make_episode(4))
        old.save_to_path(tmp_path / name)
        with pytest.raises(FileExistsError, match="overwrite=True"):
            new.save_to_path(tmp_path / name)
        with pytest.raises(ValueError, match="not known"):
            new.save_to_path(tmp_path / name, compressors={"stage": "gzip"}, overwrite=True)
        assert ReplayBuffer.create_from_path(tmp_path / name).n_steps == 3
        new.save_to_path(tmp_path / name, overwrite=True)
        assert ReplayBuffer.create_from_path(tmp_path / name).n_steps == 4
        assert [item.name for item in tmp_path.iterdir()] == [name]

    def test_a_zip_file_is_not_recorded_into(self, recorded, tmp_path):
        ReplayBuffer.create_from_path(recorded).save_to_path(tmp_path / "copy.zarr.zip")
        with pytest.raises(ValueError, match="can only be read"):
            ReplayBuffer.create_from_path(tmp_path / "copy.zarr.zip", "a")


def test_import_needs_no_torch():
    code = "import sys, diffusion_policy.common.replay_buffer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_human_demonstrations(pusht_zarr):
    buffer = ReplayBuffer.copy_from_path(pusht_zarr, keys=["action", "state", "keypoint"])
    assert (buffer.n_episodes, buffer.n_steps) == (206, 25650)
    assert buffer.episode_ends[:8].tolist() == [161, 279, 420, 579, 738, 895, 964, 1133]
    assert (buffer.episode_lengths.min(), buffer.episode_lengths.max()) == (49, 246)
    assert buffer["action"].min(0).tolist() == [12, 25]
    assert buffer["action"].max(0).tolist() == [511, 511]
    on_disk = ReplayBuffer.create_from_path(pusht_zarr)
    assert on_disk["img"].shape == (25650, 96, 96, 3)
    np.testing.assert_array_equal(on_disk.get_episode(7)["state"], buffer.get_episode(7)["state"])


def test_recording_into_a_copy_of_the_human_demonstrations(pusht_zarr, tmp_path):
    buffer = ReplayBuffer.copy_from_path(pusht_zarr, keys=["action", "state"])
    path = tmp_path / "copy.zarr"
    buffer.save_to_path(path, chunks={"action": (161, 2), "state": (161, 5)}, compressors="disk")
    last = buffer.get_episode(-1)
    ReplayBuffer.create_from_path(path, "a").add_episode(last)
    copy = ReplayBuffer.create_from_path(path)
    assert copy.n_episodes == 207
    assert_equal(copy.get_episode(206), last)
    assert_equal(copy.get_episode(205), last)

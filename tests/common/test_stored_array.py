"""Tests for stored_array.py and the checks at opening: damage is an error, never made-up data."""

import json
import shutil

import numcodecs
import numpy as np
import pytest
import zarr

from diffusion_policy.common.replay_buffer import ReplayBuffer

ACTION = np.arange(40, dtype=np.float32).reshape(20, 2)


@pytest.fixture
def path(tmp_path):
    """Two episodes, 20 steps, in chunks of 4 rows (`image`: of 4 rows and 2 columns)."""
    buffer = ReplayBuffer.create_empty_numpy()
    image = np.random.default_rng(0).integers(0, 256, (20, 4, 3), dtype=np.uint8)
    for rows in (slice(0, 9), slice(9, 20)):
        buffer.add_episode({"action": ACTION[rows], "image": image[rows], "raw": ACTION[rows]})
    path = tmp_path / "buffer.zarr"
    chunks = {"action": (4, 2), "image": (4, 2, 3), "raw": (4, 2)}
    buffer.save_to_path(path, chunks=chunks, compressors={"image": numcodecs.Zlib(), "raw": None})
    return path


def set_ends(path, ends):
    zarr.open_group(path, mode="r+", zarr_format=2)["meta/episode_ends"][:] = ends


class TestChunks:
    def test_a_missing_one_is_an_error_in_the_rows_it_holds(self, path):
        (path / "data/action/2.0").unlink()
        action = ReplayBuffer.create_from_path(path)["action"]
        np.testing.assert_array_equal(action[:8], ACTION[:8])
        np.testing.assert_array_equal(action[np.array([1, 19])], ACTION[[1, 19]])
        for rows in (slice(None), 8, np.array([0, 11])):
            with pytest.raises(ValueError, match=r"buffer\.zarr: array 'data/action'.*rows 8-11 is missing"):
                action[rows]
        with pytest.raises(ValueError, match=r"'data/action'.*rows 8-11 is missing.*write_empty_chunks"):
            ReplayBuffer.copy_from_path(path)

    def test_a_missing_one_beside_others_of_the_same_rows(self, path):
        (path / "data/image/4.1.0").unlink()
        with pytest.raises(ValueError, match=r"'data/image'.*rows 16-19 is missing"):
            ReplayBuffer.create_from_path(path)["image"][:]

    def test_keys_that_are_not_read_may_lack_everything(self, path):
        shutil.rmtree(path / "data/image")
        (path / "data/image").mkdir()
        (path / "data/raw/.zarray").write_text("{")
        buffer = ReplayBuffer.copy_from_path(path, keys=["action"])
        np.testing.assert_array_equal(buffer["action"], ACTION)

    def test_all_missing_ranges_are_named(self, path):
        for chunk in ("0.0", "1.0", "4.0"):
            (path / "data/action" / chunk).unlink()
        with pytest.raises(ValueError, match="rows 0-7 and 16-19 is missing"):
            ReplayBuffer.create_from_path(path)["action"][:]

    @pytest.mark.parametrize(("key", "chunk"), [("action", "1.0"), ("raw", "1.0"), ("image", "1.0.0")])
    def test_a_truncated_one_is_an_error_at_every_length(self, path, key, chunk):
        file = path / "data" / key / chunk
        content = file.read_bytes()
        array = ReplayBuffer.create_from_path(path)[key]
        for length in range(len(content)):
            file.write_bytes(content[:length])
            with pytest.raises(ValueError, match=f"'data/{key}'.*rows 4-7 (is truncated|cannot be decoded)"):
                array[:]

    def test_a_corrupt_one_is_an_error_in_the_rows_it_holds(self, path):
        file = path / "data/image/3.0.0"
        file.write_bytes(b"\x00" * len(file.read_bytes()))
        with pytest.raises(ValueError, match=r"'data/image'.*rows 12-15 cannot be decoded"):
            ReplayBuffer.create_from_path(path)["image"][:]

    def test_damage_is_not_saved_as_a_copy(self, path, tmp_path):
        (path / "data/action/2.0").unlink()
        with pytest.raises(ValueError, match="rows 8-11 is missing"):
            ReplayBuffer.create_from_path(path).save_to_path(tmp_path / "copy.zarr")
        assert not (tmp_path / "copy.zarr").exists()


class TestZip:
    @pytest.fixture
    def zipped(self, path, tmp_path):
        ReplayBuffer.create_from_path(path).save_to_path(tmp_path / "buffer.zarr.zip")
        return tmp_path / "buffer.zarr.zip"

    @pytest.mark.parametrize("kept", [0, 0.3, 0.9, 0.999])
    def test_a_truncated_file(self, zipped, kept):
        content = zipped.read_bytes()
        zipped.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(ValueError, match=r"buffer\.zarr\.zip is not a complete zip file"):
            ReplayBuffer.create_from_path(zipped)

    def test_a_corrupt_chunk(self, zipped):
        content = zipped.read_bytes()
        chunk = ACTION[8:12].tobytes()  # stored raw
        zipped.write_bytes(content.replace(chunk, chunk[::-1]))
        with pytest.raises(ValueError, match=r"'data/raw'.*rows 8-11 cannot be decoded"):
            ReplayBuffer.create_from_path(zipped)["raw"][:]


class TestOpening:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no replay buffer at .*none\.zarr"):
            ReplayBuffer.create_from_path(tmp_path / "none.zarr")

    def test_something_else_there(self, tmp_path):
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder/notes.txt").write_text("hello")
        for mode in ("r", "a"):
            with pytest.raises(ValueError, match=r"not a zarr group: it has no \.zgroup"):
                ReplayBuffer.create_from_path(tmp_path / "folder", mode)
        zarr.open_group(tmp_path / "three.zarr", mode="w", zarr_format=3)
        with pytest.raises(ValueError, match="zarr format 3"):
            ReplayBuffer.create_from_path(tmp_path / "three.zarr")

    @pytest.mark.parametrize(
        ("missing", "message"),
        [
            ("data", "group 'data' is missing"),
            ("meta", "group 'meta' is missing"),
            ("meta/episode_ends", "array 'meta/episode_ends' is missing"),
        ],
    )
    def test_missing_groups(self, path, missing, message):
        shutil.rmtree(path / missing)
        with pytest.raises(ValueError, match=f"buffer.zarr: {message}"):
            ReplayBuffer.create_from_path(path)

    @pytest.mark.parametrize("file", [".zgroup", "data/.zgroup", "data/action/.zarray"])
    def test_metadata_cut_short(self, path, file):
        (path / file).write_text("{")
        with pytest.raises(ValueError, match=r"buffer\.zarr.*cannot be (opened|read)"):
            ReplayBuffer.create_from_path(path)

    def test_no_arrays(self, path):
        shutil.rmtree(path / "data")
        zarr.open_group(path, mode="r+", zarr_format=2).create_group("data")
        with pytest.raises(ValueError, match="group 'data' is empty"):
            ReplayBuffer.create_from_path(path)

    @pytest.mark.parametrize(
        ("ends", "message"),
        [
            ([9, 9], "must increase, but row 1 holds 9 after 9"),
            ([9, 5], "must increase, but row 1 holds 5 after 9"),
            ([0, 20], "must increase, but row 0 holds 0 after 0"),
            ([-1, 20], "must increase, but row 0 holds -1 after 0"),
            ([9, 25], r"array 'data/action' has 20 rows.*2 episodes end at 25: rows 20-24 are missing"),
        ],
    )
    @pytest.mark.parametrize("mode", ["r", "a"])
    def test_impossible_ends_change_nothing(self, path, ends, message, mode):
        set_ends(path, ends)
        with pytest.raises(ValueError, match=message):
            ReplayBuffer.create_from_path(path, mode)
        set_ends(path, [9, 20])
        np.testing.assert_array_equal(ReplayBuffer.create_from_path(path)["action"][:], ACTION)

    @pytest.mark.parametrize("mode", ["r", "a"])
    def test_a_lost_chunk_of_ends_is_damage_and_no_torn_tail(self, path, mode):
        (path / "meta/episode_ends/0").unlink()
        with pytest.raises(ValueError, match=r"'meta/episode_ends' is damaged.*rows 0-1 is missing"):
            ReplayBuffer.create_from_path(path, mode)

    def test_one_array_is_too_short(self, path):
        zarr.open_group(path, mode="r+", zarr_format=2)["data/image"].resize((18, 4, 3))
        with pytest.raises(ValueError, match=r"'data/image' has 18 rows.*rows 18-19 are missing"):
            ReplayBuffer.create_from_path(path)
        assert ReplayBuffer.copy_from_path(path, keys=["action"]).n_steps == 20

    def test_unknown_keys_and_codecs(self, path):
        with pytest.raises(KeyError, match=r"no array \['obs'\] in 'data'.*action"):
            ReplayBuffer.copy_from_path(path, keys=["obs"])
        metadata = json.loads((path / "data/image/.zarray").read_text())
        metadata["compressor"] = {"id": "no_such_codec"}
        (path / "data/image/.zarray").write_text(json.dumps(metadata))
        with pytest.raises(ValueError, match=r"'data/image' cannot be opened.*no_such_codec"):
            ReplayBuffer.create_from_path(path)

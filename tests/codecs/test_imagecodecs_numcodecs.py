"""JPEG codecs: what they keep, how their settings are stored, and what is refused."""

import json
import sys
from pathlib import Path

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.codecs.imagecodecs_numcodecs import Jpeg2k, JpegXl
from diffusion_policy.common.chunking import named_compressor
from diffusion_policy.common.replay_buffer import ReplayBuffer

pytest.importorskip("imagecodecs")

LOSSLESS = [Jpeg2k(reversible=True, level=0), JpegXl(lossless=True)]


def scene(n: int = 12) -> np.ndarray:
    """Smooth colours with a bright block that moves, (n, 32, 40, 3) uint8."""
    y, x = np.mgrid[:32, :40]
    images = np.stack([np.stack([4 * x + i, 6 * y, 2 * x + 3 * y], axis=-1) for i in range(n)])
    for i in range(n):
        images[i, i : i + 8, i : i + 8] = 250
    return images.astype(np.uint8)


def saved(path: Path, images: np.ndarray, compressor: object) -> Path:
    buffer = ReplayBuffer.create_empty_numpy()
    for rows in (slice(0, 5), slice(5, None)):
        buffer.add_episode({"img": images[rows], "action": np.zeros((len(images[rows]), 2), np.float32)})
    buffer.save_to_path(path, compressors={"img": compressor})
    return path


@pytest.mark.parametrize("codec", LOSSLESS, ids=lambda codec: codec.codec_id)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])), seed=st.integers(0, 99)
)
def test_every_shape_comes_back(codec, shape, seed):
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    for stored in (image, image[None]):
        decoded = np.asarray(codec.decode(codec.encode(stored)))
        np.testing.assert_array_equal(decoded.reshape(shape), image)


@pytest.mark.parametrize("name", ["jpeg2k", "jpegxl"])
@pytest.mark.parametrize("ending", [".zarr", ".zarr.zip"])
def test_images_in_a_replay_buffer(tmp_path, name, ending):
    images = scene()
    path = saved(tmp_path / f"a{ending}", images, name)
    stored = ReplayBuffer.create_from_path(path)["img"]
    assert stored.chunks == (1, 32, 40, 3)
    again = ReplayBuffer.copy_from_path(path)["img"]
    assert (again.dtype, again.shape) == (np.uint8, images.shape)
    assert np.abs(again.astype(int) - images).mean() < 1.5
    np.testing.assert_array_equal(stored[np.array([[3, 3], [11, 0]])], again[[[3, 3], [11, 0]]])
    np.testing.assert_array_equal(stored.read_chunk(7), again[7:8])


@pytest.mark.parametrize("codec", ["jpeg2k", Jpeg2k(level=30), JpegXl(lossless=True)])
def test_episodes_are_recorded_one_by_one(tmp_path, codec):
    buffer = ReplayBuffer.create_empty_zarr(tmp_path / "a.zarr")
    for rows in (slice(0, 5), slice(5, 12)):
        buffer.add_episode({"img": scene()[rows]}, compressors=codec)
    again = ReplayBuffer.create_from_path(tmp_path / "a.zarr")["img"]
    assert (again.chunks[0], again.compressor, len(again)) == (1, named_compressor(codec), 12)
    assert np.abs(again[:].astype(int) - scene()).mean() < 8


def test_a_lossy_copy_is_copied_as_it_is(tmp_path):
    path = saved(tmp_path / "a.zarr", scene(), "jpeg2k")
    ReplayBuffer.create_from_path(path).save_to_path(tmp_path / "b.zarr")
    assert (tmp_path / "b.zarr/data/img/3.0.0.0").read_bytes() == (path / "data/img/3.0.0.0").read_bytes()


class TestSettings:
    """What `.zarray` says, which the original reads and wrote."""

    def test_of_jpeg_2000(self, tmp_path):
        path = saved(tmp_path / "a.zarr", scene(), "jpeg2k")
        assert json.loads((path / "data/img/.zarray").read_text())["compressor"] == {
            "id": "imagecodecs_jpeg2k",
            "level": 50,
            "codecformat": None,
            "colorspace": None,
            "tile": None,
            "reversible": None,
            "bitspersample": None,
            "resolutions": None,
            "numthreads": None,
            "verbose": 0,
        }

    def test_of_jpeg_xl(self):
        assert JpegXl(effort=3, distance=0.3, decodingspeed=1).get_config() == {
            "id": "imagecodecs_jpegxl",
            "level": None,
            "effort": 3,
            "distance": 0.3,
            "lossless": False,
            "decodingspeed": 1,
            "photometric": None,
            "planar": None,
            "usecontainer": None,
            "index": None,
            "keeporientation": None,
            "numthreads": None,
        }

    def test_of_newer_versions_open(self):
        for name in ("Jpeg2k", "Jpegxl"):
            theirs = getattr(pytest.importorskip("imagecodecs.numcodecs"), name)(level=40)
            ours = numcodecs.get_codec(theirs.get_config())
            image = scene(1)[0]
            np.testing.assert_array_equal(
                ours.decode(theirs.encode(image)), theirs.decode(theirs.encode(image))
            )

    def test_that_are_unknown(self):
        with pytest.raises(ValueError, match=r"imagecodecs_jpeg2k: settings {'planar': True} are not known"):
            numcodecs.get_codec({"id": "imagecodecs_jpeg2k", "planar": True})


class TestMistakes:
    def test_several_images_in_a_chunk(self):
        with pytest.raises(ValueError, match=r"chunks must be \(1, H, W, C\), got \(2, 8, 8, 3\)"):
            Jpeg2k().encode(np.zeros((2, 8, 8, 3), np.uint8))

    def test_chunks_and_keys_that_are_no_images(self, tmp_path):
        buffer = ReplayBuffer.create_empty_numpy()
        buffer.add_episode({"img": scene(), "action": np.zeros((12, 2), np.float32)})
        with pytest.raises(
            ValueError, match=r"'action' holds float32 of shape \(12, 2\).*compressors={'img'"
        ):
            buffer.save_to_path(tmp_path / "a.zarr", compressors="jpeg2k")
        with pytest.raises(
            ValueError, match=r"chunks \(4, 32, 40, 3\) of key 'img' must be \(1, 32, 40, 3\)"
        ):
            buffer.save_to_path(
                tmp_path / "a.zarr", chunks={"img": (4, 32, 40, 3)}, compressors={"img": "jpegxl"}
            )
        assert list(tmp_path.iterdir()) == []

    def test_without_the_package(self, tmp_path, monkeypatch):
        path = saved(tmp_path / "a.zarr", scene(), "jpeg2k")
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        with pytest.raises(ImportError, match=r"'data/img' cannot be opened.*diffusion_policy\[data\]"):
            ReplayBuffer.create_from_path(path)
        assert ReplayBuffer.copy_from_path(path, ["action"]).n_steps == 12
        with pytest.raises(ImportError, match=r"diffusion_policy\[data\]"):
            named_compressor("jpegxl")


class TestDamage:
    @pytest.fixture(params=["jpeg2k", "jpegxl"])
    def path(self, tmp_path, request):
        return saved(tmp_path / "a.zarr", scene(), request.param)

    @pytest.mark.parametrize("kept", [0, 1, 20, 0.5, 0.99])
    def test_a_truncated_image_names_episode_and_step(self, path, kept):
        file = path / "data/img/8.0.0.0"
        content = file.read_bytes()
        file.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
        stored = ReplayBuffer.create_from_path(path)["img"]
        fault = r"'data/img' is damaged: the chunk of row 8 (is truncated|cannot be decoded) \(episode 1, step 3\)"
        for read in (lambda: stored[:], lambda: stored[np.array([8, 2])], lambda: stored.read_chunk(8)):
            with pytest.raises(ValueError, match=fault):
                read()
        assert stored[:8].shape == (8, 32, 40, 3)

    def test_an_image_of_another_size(self, path):
        stored = ReplayBuffer.create_from_path(path)["img"]
        (path / "data/img/2.0.0.0").write_bytes(stored.compressor.encode(scene()[0, :16]))
        for read in (lambda: stored[:], lambda: stored.read_chunk(2)):
            with pytest.raises(ValueError, match=r"row 2 cannot be decoded \(episode 0, step 2\)"):
                read()

    def test_a_missing_image(self, path):
        (path / "data/img/0.0.0.0").unlink()
        stored = ReplayBuffer.create_from_path(path)["img"]
        with pytest.raises(ValueError, match=r"row 0 is missing \(episode 0, step 0\)"):
            stored.read_chunk(0)

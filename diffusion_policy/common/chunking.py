"""How arrays are cut into chunks and compressed on disk."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numcodecs
from numcodecs.abc import Codec

from diffusion_policy.codecs.imagecodecs_numcodecs import ImageCodec, Jpeg2k, JpegXl

Chunks: TypeAlias = Mapping[str, tuple[int, ...]] | tuple[int, ...] | None
Compressors: TypeAlias = Mapping[str, str | Codec | None] | str | Codec | None

AS_STORED: Mapping[str, str | Codec | None] = MappingProxyType({})
TARGET_CHUNK_BYTES = 2_000_000


def optimal_chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunk shape near 2 MB: whole trailing dimensions, then as much of the next one as reaches the target.

    (161, 96, 96, 3) float32 gives (19, 96, 96, 3).
    """
    split = _first_axis_over_target(shape, itemsize)
    inner_bytes = max(1, itemsize * math.prod(shape[split + 1 :]))
    length = max(1, min(shape[split], math.ceil(TARGET_CHUNK_BYTES / inner_bytes)))
    return (1,) * split + (length,) + tuple(max(1, n) for n in shape[split + 1 :])


def _first_axis_over_target(shape: tuple[int, ...], itemsize: int) -> int:
    """The last axis from which on the elements exceed the target; time (axis 0) if none does."""
    for axis in range(len(shape) - 1, 0, -1):
        if itemsize * math.prod(shape[axis:]) > TARGET_CHUNK_BYTES:
            return axis
    return 0


def check_chunks(key: str, chunks: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks as plain integers if they fit an array of that shape.

    Raises:
        ValueError: the rank differs or a length is not a positive integer.
    """
    if len(chunks) != len(shape) or any(int(n) != n or n < 1 for n in chunks):
        raise ValueError(
            f"chunks {tuple(chunks)} of key '{key}' must be {len(shape)} positive integers, for shape {shape}"
        )
    return tuple(int(n) for n in chunks)


def named_compressor(compressor: str | Codec | None) -> Codec | None:
    """A codec by its name here; a codec or None (raw) stands for itself.

    "default" is fast, "disk" is small. "jpeg2k" and "jpegxl" are for images, are far smaller and lose a little;
    their settings are the original's.

    Raises:
        ImportError: a codec for images needs a package that is not installed.
        ValueError: another name.
    """
    if compressor == "default":
        return numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.NOSHUFFLE)
    if compressor == "disk":
        return numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
    if compressor == "jpeg2k":
        return Jpeg2k(level=50)
    if compressor == "jpegxl":
        return JpegXl(effort=3, distance=0.3, decodingspeed=1)
    if isinstance(compressor, str):
        raise ValueError(
            f"compressor {compressor!r} is not known: use 'default', 'disk', for images 'jpeg2k' or 'jpegxl', "
            "a codec or None"
        )
    return compressor


def layout_of(
    key: str, array: Any, chunks: Chunks, compressors: Compressors
) -> tuple[tuple[int, ...], Codec | None]:
    """Chunk shape and codec for one key: as asked (for it, or for all), else as on disk.

    Else chunks are near 2 MB, but of one image where the codec is for images; and the codec is "default".

    Raises:
        ValueError: what was asked does not fit the array.
    """
    codec = _compressor_of(key, array, compressors)
    asked = chunks.get(key) if isinstance(chunks, Mapping) else chunks
    if isinstance(codec, ImageCodec):
        return _one_image(key, array, asked), codec
    if asked is not None:
        return check_chunks(key, asked, array.shape), codec
    return getattr(array, "chunks", None) or optimal_chunks(array.shape, array.dtype.itemsize), codec


def _one_image(key: str, array: Any, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """The chunk that holds one image.

    Raises:
        ValueError: these are no images, or other chunks were asked for.
    """
    if array.dtype.kind != "u" or len(array.shape) != 4:
        raise ValueError(
            f"key '{key}' holds {array.dtype} of shape {array.shape}, but a codec for images takes unsigned integers "
            "(n, H, W, C): give it by name to the keys that hold images, as in compressors={'img': 'jpeg2k'}"
        )
    one = (1, *array.shape[1:])
    if asked is not None and tuple(asked) != one:
        raise ValueError(
            f"chunks {tuple(asked)} of key '{key}' must be {one}: a JPEG holds one image; leave them out"
        )
    return one


def _compressor_of(key: str, array: Any, compressors: Compressors) -> Codec | None:
    """Codec for one key: as asked (for it, or for all), else as on disk, else "default".

    A mapping may leave keys out; a single value, None (raw) included, is for all keys.
    """
    if not isinstance(compressors, Mapping):
        return named_compressor(compressors)
    if key in compressors:
        return named_compressor(compressors[key])
    return array.compressor if hasattr(array, "compressor") else named_compressor("default")

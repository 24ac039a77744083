"""How arrays are cut into chunks and compressed on disk."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numcodecs
from numcodecs.abc import Codec

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
    """A codec by its name here: "default" is fast, "disk" is small; a codec or None (raw) stands for itself.

    Raises:
        ValueError: another name.
    """
    if compressor == "default":
        return numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.NOSHUFFLE)
    if compressor == "disk":
        return numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
    if isinstance(compressor, str):
        raise ValueError(f"compressor {compressor!r} is not known: use 'default', 'disk', a codec or None")
    return compressor


def chunks_of(key: str, array: Any, chunks: Chunks) -> tuple[int, ...]:
    """Chunk shape for one key: as asked (for it, or for all), else as on disk, else by the 2 MB rule.

    Raises:
        ValueError: what was asked does not fit the array.
    """
    asked = chunks.get(key) if isinstance(chunks, Mapping) else chunks
    if asked is not None:
        return check_chunks(key, asked, array.shape)
    return getattr(array, "chunks", None) or optimal_chunks(array.shape, array.dtype.itemsize)


def compressor_of(key: str, array: Any, compressors: Compressors) -> Codec | None:
    """Codec for one key: as asked (for it, or for all), else as on disk, else "default".

    A mapping may leave keys out; a single value, None (raw) included, is for all keys.
    """
    if not isinstance(compressors, Mapping):
        return named_compressor(compressors)
    if key in compressors:
        return named_compressor(compressors[key])
    return array.compressor if hasattr(array, "compressor") else named_compressor("default")

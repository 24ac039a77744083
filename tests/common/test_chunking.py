"""Tests for chunking.py."""

import math

import numcodecs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.common.chunking import TARGET_CHUNK_BYTES, named_compressor, optimal_chunks


@pytest.mark.parametrize(
    ("shape", "itemsize", "chunks"),
    [
        ((161, 96, 96, 3), 4, (19, 96, 96, 3)),
        ((161, 2), 4, (161, 2)),
        ((10**7, 2), 4, (250_000, 2)),
        ((5, 10**6, 3), 1, (1, 666_667, 3)),
        ((7, 3, 10**7), 1, (1, 1, 2_000_000)),
    ],
)
def test_examples(shape, itemsize, chunks):
    assert optimal_chunks(shape, itemsize) == chunks


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=5), st.sampled_from([1, 2, 4, 8]))
def test_chunks_fit_the_array_and_the_target(shape, itemsize):
    chunks = optimal_chunks(tuple(shape), itemsize)
    assert len(chunks) == len(shape)
    assert all(1 <= chunk <= n for chunk, n in zip(chunks, shape, strict=True))
    split = next((axis for axis, chunk in enumerate(chunks) if chunk > 1), len(shape) - 1)
    assert chunks[split + 1 :] == tuple(shape[split + 1 :])  # whole trailing dimensions
    size, unit = itemsize * math.prod(chunks), itemsize * math.prod(chunks[split + 1 :])
    assert size < TARGET_CHUNK_BYTES + unit  # at most one unit over
    assert chunks == tuple(shape) or size + unit * chunks[split] >= TARGET_CHUNK_BYTES  # and not far below


def test_compressor_names():
    assert named_compressor("default") == numcodecs.Blosc("lz4", 5, numcodecs.Blosc.NOSHUFFLE)
    assert named_compressor("disk") == numcodecs.Blosc("zstd", 5, numcodecs.Blosc.BITSHUFFLE)
    assert named_compressor(None) is None
    assert named_compressor(numcodecs.Zlib()) == numcodecs.Zlib()


def test_unknown_compressor():
    with pytest.raises(ValueError, match="compressor 'png' is not known: use 'default', .*'jpeg2k'"):
        named_compressor("png")

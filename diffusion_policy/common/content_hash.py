"""A fingerprint of demonstrations that does not depend on how they are stored."""

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

BYTES_AT_ONCE = 1 << 26


class Rows(Protocol):
    """An array (n_steps, ...) in memory or on disk, read in slices."""

    @property
    def dtype(self) -> Any:
        """Data type of the elements."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_steps, ...)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> np.ndarray: ...


def content_hash(arrays: Mapping[str, Rows], episode_ends: np.ndarray) -> str:
    """SHA-256 over names, types, shapes and bytes of arrays (n_steps, ...) and the episode ends.

    The order of the names, chunking and compression do not matter; types do.
    """
    digest = hashlib.sha256()
    named = [(f"data/{name}", arrays[name]) for name in sorted(arrays)]
    for name, array in [*named, ("meta/episode_ends", np.asarray(episode_ends, np.int64))]:
        dtype = array.dtype.newbyteorder("<")
        digest.update(f"{name} {dtype.str} {tuple(array.shape)}\n".encode())
        rows_at_once = max(1, BYTES_AT_ONCE // max(1, dtype.itemsize * int(np.prod(array.shape[1:]))))
        for start in range(0, len(array), rows_at_once):
            rows = np.ascontiguousarray(array[start : start + rows_at_once], dtype)
            digest.update(rows.data)
    return digest.hexdigest()

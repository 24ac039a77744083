"""One array of a zarr v2 store, read without silent gaps."""

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numcodecs.abc import Codec

from diffusion_policy.common.episode_step import episode_step
from diffusion_policy.common.zarr_files import Folder

BLOSC_HEADER_BYTES = 16


class StoredArray:
    """An array on disk of which only the first `length` rows count; indexing reads rows into numpy.

    Unlike a plain zarr array it never makes up data: a missing, truncated or undecodable chunk is a
    ValueError that names the store, the key, the rows, and the episode and step where they begin. (zarr returns
    fill values for a missing chunk, and Blosc reads past the end of a truncated one.)

    Args:
        array: The zarr array, at least one-dimensional.
        folder: Where its chunk files are.
        where: The store's path, for messages.
        length: Number of rows that belong to finished episodes.
        episode_ends: Of these episodes, for messages; None if the rows are no steps.
    """

    def __init__(
        self,
        array: zarr.Array,
        folder: Folder,
        where: str,
        length: int,
        episode_ends: np.ndarray | None = None,
    ) -> None:
        self.array = array
        self.folder = folder
        self.where = where
        self.length = length
        self.episode_ends = episode_ends

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows that count, (length, ...)."""
        return (self.length, *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Data type of the elements."""
        return self.array.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Chunk shape on disk."""
        return self.array.chunks

    @property
    def compressor(self) -> Codec | None:
        """Codec of the chunks, None if they are stored raw."""
        return self.array.metadata.compressor

    def __len__(self) -> int:
        return self.length

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        """Rows by number, slice, boolean mask or an integer array of any shape; always a fresh array.

        Raises:
            IndexError: a row beyond `length`.
            ValueError: a chunk that holds such a row is missing or damaged.
        """
        if isinstance(rows, slice) and rows.step in (None, 1):
            start, stop, _ = rows.indices(self.length)
            return self._read(slice(start, max(start, stop)), np.arange(start, stop))
        wanted = np.arange(self.length)[rows]
        distinct, positions = np.unique(wanted, return_inverse=True)
        return self._read(distinct, distinct)[positions.reshape(wanted.shape)]

    def read_chunk(self, time_chunk: int) -> np.ndarray:
        """The rows of one time chunk, (n, ...), read-only; for many small chunks faster than indexing.

        Raises:
            ValueError: the chunk is missing or damaged.
        """
        start = time_chunk * self.chunks[0]
        metadata = self.array.metadata
        if self.chunks[1:] != self.shape[1:] or metadata.filters or metadata.order != "C":
            return self[start : start + self.chunks[0]]
        self._check_chunks([time_chunk])
        key = metadata.encode_chunk_key((time_chunk, *(0 for _ in self.shape[1:])))
        try:
            content = (self.folder / key).read_bytes()
            decoded = self.compressor.decode(content) if self.compressor else content
            rows = np.frombuffer(decoded, self.dtype).reshape(self.chunks)
        except Exception as error:  # whatever a codec raises
            raise ValueError(self._complaint("cannot be decoded", [time_chunk])) from error
        return rows[: self.length - start]

    def check(self) -> None:
        """Look at every chunk file that holds rows that count, without decoding any.

        Raises:
            ValueError: naming the rows whose chunks are missing or truncated.
        """
        self._check_chunks(range(math.ceil(self.length / self.chunks[0])))

    def _read(self, selection: slice | np.ndarray, rows: np.ndarray) -> np.ndarray:
        if len(rows) == 0:
            return np.empty((0, *self.shape[1:]), self.dtype)
        time_chunks = np.unique(rows // self.chunks[0]).tolist()
        self._check_chunks(time_chunks)
        try:
            return np.asarray(
                self.array[selection] if isinstance(selection, slice) else self.array.oindex[selection]
            )
        except Exception as error:  # whatever a codec raises
            damaged = [chunk for chunk in time_chunks if not self._decodes(chunk)]
            if not damaged:
                raise
            raise ValueError(self._complaint("cannot be decoded", damaged)) from error

    def _decodes(self, time_chunk: int) -> bool:
        start = time_chunk * self.chunks[0]
        try:
            self.array[start : min(start + self.chunks[0], self.length)]
        except Exception:  # whatever a codec raises
            return False
        return True

    def _check_chunks(self, time_chunks: Iterable[int]) -> None:
        damaged: dict[str, list[int]] = {}
        for time_chunk in time_chunks:
            fault = self._fault(time_chunk)
            if fault:
                damaged.setdefault(fault, []).append(time_chunk)
        if damaged:
            raise ValueError(" ".join(self._complaint(fault, chunks) for fault, chunks in damaged.items()))

    def _fault(self, time_chunk: int) -> str | None:
        """What is wrong with the files that hold the rows of one time chunk; None if nothing is seen."""
        grid = [range(math.ceil(n / chunk)) for n, chunk in zip(self.shape[1:], self.chunks[1:], strict=True)]
        for others in itertools.product(*grid):
            file = self.folder / self.array.metadata.encode_chunk_key((time_chunk, *others))
            if not file.exists():
                return "is missing"
            if isinstance(file, Path) and self._truncated(file):  # in a zip file the checksum tells
                return "is truncated"
        return None

    def _truncated(self, file: Path) -> bool:
        size = file.stat().st_size
        decoded_size = math.prod(self.chunks) * self.dtype.itemsize
        if self.array.metadata.filters or not isinstance(self.compressor, numcodecs.Blosc | None):
            return size == 0  # the codec will complain
        if self.compressor is None:
            return size != decoded_size
        with file.open("rb") as stream:
            header = stream.read(BLOSC_HEADER_BYTES)
        return len(header) < BLOSC_HEADER_BYTES or _blosc_sizes(header) != (decoded_size, size)

    def _complaint(self, fault: str, time_chunks: list[int]) -> str:
        message = (
            f"{self.where}: array '{self.array.path}' is damaged: the chunk of "
            f"{self._rows(time_chunks)} {fault}{self._place(time_chunks[0])}. Fetch or record the data again, or "
            "leave this key out."
        )
        if fault == "is missing":
            message += (
                " (zarr 3 leaves out chunks that are all zero unless its setting array.write_empty_chunks"
                " is true; if these rows are, write the array again with that setting.)"
            )
        return message

    def _place(self, time_chunk: int) -> str:
        """Where the damage begins, e.g. " (from episode 2, step 41 on)"."""
        if self.episode_ends is None:
            return ""
        first = episode_step(time_chunk * self.chunks[0], self.episode_ends)
        return f" ({first})" if self.chunks[0] == 1 else f" (from {first} on)"

    def _rows(self, time_chunks: list[int]) -> str:
        """Row ranges of ascending time chunks, e.g. "rows 0-160 and 322-482"; "row 7" for one row."""
        runs: list[list[int]] = []
        for chunk in time_chunks:
            if runs and chunk == runs[-1][1] + 1:
                runs[-1][1] = chunk
            else:
                runs.append([chunk, chunk])
        size = self.chunks[0]
        if size == len(time_chunks) == 1:
            return f"row {time_chunks[0]}"
        spans = [f"{first * size}-{min((last + 1) * size, self.length) - 1}" for first, last in runs]
        more = f" and {len(spans) - 4} more ranges" if len(spans) > 4 else ""
        return f"rows {' and '.join(spans[:4])}{more}"


def _blosc_sizes(header: bytes) -> tuple[int, int]:
    """(decoded, encoded) size in bytes that a Blosc 1 chunk states of itself."""
    decoded_size, _, encoded_size = np.frombuffer(header, "<u4", offset=4).tolist()
    return decoded_size, encoded_size

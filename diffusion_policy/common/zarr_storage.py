"""Episodes on disk, in the published zarr v2 layout; recording survives being killed at any instant.

Layout: `data/<key>` holds the steps of all episodes one after another, `meta/episode_ends` where each ends.
An episode is written data first; it exists from the instant its end is in `episode_ends`. Whatever lies
beyond the last end is a torn tail: ignored when reading, cut off when opened for recording.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import zarr

from diffusion_policy.common.atomic_write import (
    move_into_place,
    named_errors,
    remove,
    remove_temporaries,
    temporary_path,
)
from diffusion_policy.common.chunking import Chunks, Compressors, layout_of
from diffusion_policy.common.stored_array import StoredArray
from diffusion_policy.common.zarr_files import (
    array_names,
    create_array,
    new_group,
    open_group,
    open_member,
    write_array,
)

logger = logging.getLogger(__name__)

ENDS_PER_CHUNK = 1024


class TornTailWarning(UserWarning):
    """A replay buffer on disk ends with steps of an episode whose recording did not finish."""


class ZarrStorage:
    """A replay buffer directory or zip file. One process at a time may have it open for recording.

    Args:
        path: The zarr directory or zip file.
        mode: "r" to read, "a" to read and record.
        keys: The arrays of `data` to open, by default all; the others are not even looked at.

    Raises:
        FileNotFoundError: nothing at `path`.
        KeyError: one of `keys` is not there.
        ValueError: the groups are missing or the arrays contradict `episode_ends`.
    """

    def __init__(self, path: Path, mode: str, keys: Sequence[str] | None = None) -> None:
        if mode not in ("r", "a"):
            raise ValueError(f"mode must be 'r' (read) or 'a' (read and record), not {mode!r}")
        self.where = str(path)
        self._path = path
        self._mode = mode
        group, self._folder = open_group(path, mode)
        self._check_layout()
        self._data_group = open_member(group, "data", self.where)
        self._meta_group = open_member(group, "meta", self.where)
        self._ends = self._open_ends()
        self.episode_ends = _finished_ends(self._read_ends(), self.where)
        self._data = self._open_data(keys)
        self._check_lengths()
        self._report_tail()
        if mode == "a":
            self._mend()

    @property
    def data(self) -> Mapping[str, StoredArray]:
        """The steps of the finished episodes, (n_steps, ...)."""
        return dict(self._data) if self._n_steps else {}

    @property
    def meta(self) -> Mapping[str, np.ndarray]:
        """All arrays that do not run along the steps."""
        names = (name for name in array_names(self._folder / "meta") if name != "episode_ends")
        return {"episode_ends": self.episode_ends, **{name: self._read_meta(name) for name in names}}

    @property
    def _n_steps(self) -> int:
        return int(self.episode_ends[-1]) if len(self.episode_ends) else 0

    # Opening

    def _check_layout(self) -> None:
        for name in ("data", "meta"):
            if not (self._folder / name / ".zgroup").exists():
                raise ValueError(
                    f"{self.where}: group '{name}' is missing; a replay buffer has 'data' and 'meta'. Fetch it "
                    "again, or choose another path"
                )
        if "episode_ends" not in array_names(self._folder / "meta"):
            raise ValueError(
                f"{self.where}: array 'meta/episode_ends' is missing; it holds the end of each episode. Fetch it "
                f"again, or write the array: 161, 279, ..."
            )

    def _open_ends(self) -> zarr.Array:
        ends = open_member(self._meta_group, "episode_ends", self.where)
        if ends.ndim != 1 or ends.dtype.kind not in "iu":
            raise ValueError(
                f"{self.where}: array 'meta/episode_ends' must be integers (n_episodes,), got {ends.dtype} of shape "
                f"{ends.shape}; write it again"
            )
        return ends

    def _read_ends(self) -> np.ndarray:
        n_ends = self._ends.shape[0]
        last_chunk, row_in_chunk = divmod(n_ends - 1, self._ends.chunks[0])
        file = self._folder / "meta/episode_ends" / self._ends.metadata.encode_chunk_key((last_chunk,))
        if row_in_chunk == 0 and not file.exists():
            n_ends -= 1  # killed between making room for an end and writing it
        return self._stored(self._ends, n_ends)[:]

    def _open_data(self, keys: Sequence[str] | None) -> dict[str, StoredArray]:
        present = array_names(self._folder / "data")
        missing = [key for key in keys or () if key not in present]
        if missing:
            raise KeyError(
                f"{self.where}: no array {missing} in 'data', which holds {present}; choose among these, or other "
                "data"
            )
        if not present and self._n_steps:
            raise ValueError(
                f"{self.where}: group 'data' is empty, but by meta/episode_ends it has {self._n_steps} "
                "rows; fetch or record the data again"
            )
        return {
            key: self._stored(
                open_member(self._data_group, key, self.where), self._n_steps, self.episode_ends
            )
            for key in (present if keys is None else keys)
        }

    def _stored(self, array: zarr.Array, length: int, episode_ends: np.ndarray | None = None) -> StoredArray:
        return StoredArray(array, self._folder / array.path, self.where, length, episode_ends)

    def _check_lengths(self) -> None:
        for key, stored in self._data.items():
            rows = _n_rows(stored.array)
            if rows < self._n_steps:
                raise ValueError(
                    f"{self.where}: array 'data/{key}' has {rows} rows, but meta/episode_ends says that "
                    f"{len(self.episode_ends)} episodes end at {self._n_steps}: rows "
                    f"{rows}-{self._n_steps - 1} are missing; fetch or record the data again"
                )

    def _report_tail(self) -> None:
        lengths = [_n_rows(stored.array) for stored in self._data.values()]
        n_cut = max([0, *lengths]) - self._n_steps
        if n_cut > 0 or self._ends.shape[0] > len(self.episode_ends):
            warnings.warn(
                f"{self.where}: recording stopped in the middle of an episode; {n_cut} steps after the "
                f"{len(self.episode_ends)} finished episodes ({self._n_steps} steps) are "
                f"{'cut off' if self._mode == 'a' else 'ignored'}",
                TornTailWarning,
                stacklevel=4,
            )

    def _mend(self) -> None:
        # Consolidated metadata repeat the array lengths, which recording would make untrue.
        (self._path / ".zmetadata").unlink(missing_ok=True)
        n_leftovers = remove_temporaries(self._path)
        if n_leftovers:
            logger.warning("%s: removed %d files of an interrupted write", self.where, n_leftovers)
        self._cut_tail()
        # Beyond its shape, the last chunk may hold ends of dropped episodes, which growing would revive.
        self._ends[:] = self.episode_ends

    def _read_meta(self, name: str) -> np.ndarray:
        array = open_member(self._meta_group, name, self.where)
        return self._stored(array, array.shape[0])[:] if array.ndim else np.asarray(array[()])

    # Recording

    def append(self, episode: Mapping[str, np.ndarray], chunks: Chunks, compressors: Compressors) -> None:
        """Add one checked episode: data first, its end last. On any failure nothing has changed.

        Raises:
            OSError: it could not be written, e.g. because the disk is full.
            ValueError: the buffer is open for reading only.
        """
        self._check_writable()
        end = self._n_steps + len(next(iter(episode.values())))
        try:
            self._cut_tail()  # left by an earlier attempt or drop that a full disk did not let finish
            for key, values in episode.items():
                self._write_rows(key, values, end, chunks, compressors)
            self._write_end(end)
        except BaseException as error:
            with suppress(OSError):
                self._cut_tail()
            if isinstance(error, OSError):
                raise self._explained(error) from error
            raise

    def _write_rows(
        self, key: str, values: np.ndarray, end: int, chunks: Chunks, compressors: Compressors
    ) -> None:
        shape = (end, *values.shape[1:])
        if key in self._data:
            self._data[key].array.resize(shape)
        else:
            chunk, codec = layout_of(key, values, chunks, compressors)
            array = create_array(self._data_group, key, shape, values.dtype, chunk, codec)
            self._data[key] = self._stored(array, 0, self.episode_ends)
        self._data[key].array[self._n_steps : end] = values

    def _write_end(self, end: int) -> None:
        n_episodes = len(self.episode_ends)
        self._ends.resize((n_episodes + 1,))  # reads 0, which no end can be, until the next line is on disk
        self._ends[n_episodes] = end
        self._set_ends(np.append(self.episode_ends, np.int64(end)))

    def _explained(self, error: OSError) -> OSError:
        return OSError(
            error.errno,
            f"could not add an episode to {self.where}: {error.strerror or error}. Nothing was lost: its "
            f"{len(self.episode_ends)} finished episodes are as before. Make room or mend the disk, then add "
            "the episode again",
        )

    def drop(self) -> None:
        """Delete the last episode; with the first one go the keys."""
        self._check_writable()
        self._set_ends(self.episode_ends[:-1])
        self._cut_tail()

    def _set_ends(self, episode_ends: np.ndarray) -> None:
        self.episode_ends = episode_ends
        for stored in self._data.values():
            stored.length, stored.episode_ends = self._n_steps, episode_ends

    def _cut_tail(self) -> None:
        """Make the files hold the finished episodes and nothing else."""
        self._ends.store.finish_writes()
        self._cut_ends(len(self.episode_ends))
        if self._n_steps == 0:
            self._data.clear()
            for item in (self._path / "data").iterdir():
                if not item.name.startswith(".z"):
                    remove(item)
        for stored in self._data.values():
            if stored.array.shape[0] > self._n_steps:
                stored.array.resize(stored.shape)

    def _cut_ends(self, n_episodes: int) -> None:
        if self._ends.shape[0] > n_episodes:
            self._ends[n_episodes:] = 0  # takes effect at once; and leaves no value that growing could revive
            self._ends.resize((n_episodes,))

    def write_meta(self, name: str, value: np.ndarray) -> None:
        """Set an array of `meta`; the old one is replaced once the new one is complete."""
        self._check_writable()
        folder = self._path / "meta" / name
        temporary = temporary_path(folder)
        write_array(self._meta_group, temporary.name, value, tuple(max(1, n) for n in value.shape), None)
        move_into_place(temporary, folder)

    def _check_writable(self) -> None:
        if self._mode == "r":
            raise ValueError(f"{self.where} is open for reading; open it with mode='a' to change it")


def _n_rows(array: zarr.Array) -> int:
    return array.shape[0] if array.ndim else 0


def _finished_ends(stored: np.ndarray, where: str) -> np.ndarray:
    """The episode ends that count: all but a last 0, which an interrupted recording leaves.

    Raises:
        ValueError: they do not increase.
    """
    ends = stored.astype(np.int64)
    if len(ends) and ends[-1] == 0:
        ends = ends[:-1]
    lengths = np.diff(ends, prepend=0)
    if (lengths <= 0).any():
        row = int(np.argmax(lengths <= 0))
        before = int(ends[row - 1]) if row else 0
        raise ValueError(
            f"{where}: array 'meta/episode_ends' must increase, but row {row} holds {ends[row]} after "
            f"{before}; fetch or record the data again"
        )
    return ends


def create_zarr(path: Path) -> None:
    """Create an empty replay buffer directory, all at once.

    Raises:
        FileExistsError: something other than an empty directory is at `path`.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{path} exists; open it with mode='a' to add to it, or choose another path")
    temporary = temporary_path(path)
    try:
        with named_errors(path), new_group(temporary) as group:
            group.create_group("data")
            meta = group.create_group("meta")
            create_array(meta, "episode_ends", (0,), np.dtype(np.int64), (ENDS_PER_CHUNK,), None)
        remove(path)
        temporary.rename(path)
    finally:
        remove(temporary)

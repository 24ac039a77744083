"""Demonstrations as arrays over all steps of all episodes."""

from collections.abc import ItemsView, KeysView, Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from diffusion_policy.common.chunking import AS_STORED, Chunks, Compressors
from diffusion_policy.common.memory_storage import MemoryStorage
from diffusion_policy.common.stored_array import StoredArray
from diffusion_policy.common.zarr_storage import ZarrStorage, create_zarr
from diffusion_policy.common.zarr_writer import save_zarr


class ReplayBuffer:
    """Episodes of equal keys, one after another: array `key` has shape (n_steps, ...), episode i its rows
    `episode_ends[i - 1]` to `episode_ends[i]`.

    Held in memory as numpy arrays, or on disk in the published zarr v2 layout (a `.zarr` directory or a
    `.zarr.zip` file), where recording may be killed at any instant without harm to a finished episode.
    Use the class methods to make one.
    """

    def __init__(self, storage: MemoryStorage | ZarrStorage) -> None:
        self._storage = storage

    # Making

    @classmethod
    def create_empty_numpy(cls) -> "ReplayBuffer":
        """An empty buffer in memory."""
        return cls(MemoryStorage())

    @classmethod
    def create_empty_zarr(cls, path: str | PathLike[str]) -> "ReplayBuffer":
        """An empty buffer in a new directory, open for recording.

        Raises:
            FileExistsError: something other than an empty directory is at `path`.
        """
        create_zarr(_expanded(path))
        return cls(ZarrStorage(_expanded(path), "a"))

    @classmethod
    def create_from_path(cls, path: str | PathLike[str], mode: str = "r") -> "ReplayBuffer":
        """Open a buffer where it lies; rows are read when they are indexed.

        Args:
            path: A zarr directory or (mode "r") a zip file of one.
            mode: "r" to read, "a" to record: mends what a killed recording left, creates the directory if
                there is none. Only one process at a time may have it open so.

        Raises:
            FileNotFoundError: nothing at `path` (mode "r").
            ValueError: what is there is not a replay buffer, or contradicts itself.
        """
        path = _expanded(path)
        if mode == "a" and (not path.exists() or (path.is_dir() and not any(path.iterdir()))):
            return cls.create_empty_zarr(path)
        return cls(ZarrStorage(path, mode))

    @classmethod
    def copy_from_path(cls, path: str | PathLike[str], keys: Sequence[str] | None = None) -> "ReplayBuffer":
        """Read a buffer into memory.

        Args:
            path: A zarr directory or a zip file of one.
            keys: The arrays to read, by default all.

        Raises:
            FileNotFoundError: nothing at `path`.
            KeyError: one of `keys` is not there.
            ValueError: what is there is not a replay buffer, or a chunk of these keys is missing or damaged.
        """
        stored = ZarrStorage(_expanded(path), "r", keys)
        data = {key: array[:] for key, array in stored.data.items()}
        return cls(MemoryStorage(f"replay buffer read from {path}", data, stored.meta))

    def save_to_path(
        self,
        path: str | PathLike[str],
        chunks: Chunks = None,
        compressors: Compressors = AS_STORED,
        overwrite: bool = False,
    ) -> None:
        """Write a copy, complete or not at all: under a temporary name beside `path`, then renamed.

        Args:
            path: The directory to make, or a name ending in `.zip` for one file.
            chunks: Chunk shape for all keys, or for some by name; by default as stored, else near 2 MB.
            compressors: "default" (fast), "disk" (small), for images "jpeg2k" or "jpegxl" (smallest, lossy), a
                numcodecs codec or None (raw), for all keys or for some by name; by default as stored, else
                "default".
            overwrite: Replace what is at `path`.

        Raises:
            FileExistsError: something is at `path` and `overwrite` is false.
            ValueError: chunks or compressors do not fit an array.
        """
        path = _expanded(path)
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; choose another path or pass overwrite=True")
        save_zarr(path, self.data, self.meta, chunks, compressors)

    # Reading

    @property
    def where(self) -> str:
        """What messages call this buffer: its path, or where it was read from."""
        return self._storage.where

    @property
    def data(self) -> Mapping[str, np.ndarray | StoredArray]:
        """Arrays (n_steps, ...) by key."""
        return self._storage.data

    @property
    def meta(self) -> Mapping[str, np.ndarray]:
        """Arrays that do not run along the steps, `episode_ends` among them."""
        return self._storage.meta

    @property
    def episode_ends(self) -> np.ndarray:
        """Exclusive end of every episode, (n_episodes,) int64; a copy."""
        return self._storage.episode_ends.copy()

    @property
    def episode_lengths(self) -> np.ndarray:
        """Number of steps of every episode, (n_episodes,) int64."""
        return np.diff(self.episode_ends, prepend=0)

    @property
    def n_episodes(self) -> int:
        """Number of finished episodes."""
        return len(self._storage.episode_ends)

    @property
    def n_steps(self) -> int:
        """Number of steps of all finished episodes."""
        return int(self._storage.episode_ends[-1]) if self.n_episodes else 0

    def keys(self) -> KeysView[str]:
        """Names of the arrays."""
        return self.data.keys()

    def items(self) -> ItemsView[str, np.ndarray | StoredArray]:
        """Names and arrays."""
        return self.data.items()

    def __getitem__(self, key: str) -> np.ndarray | StoredArray:
        if key not in self.data:
            raise KeyError(f"{self.where}: no key '{key}'; it holds {list(self.data)}")
        return self.data[key]

    def __contains__(self, key: object) -> bool:
        return key in self.data

    def __repr__(self) -> str:
        arrays = ", ".join(f"{key} {array.shape} {array.dtype}" for key, array in self.items())
        return f"<ReplayBuffer {self.where}: {self.n_episodes} episodes, {self.n_steps} steps: {arrays}>"

    def get_episode_slice(self, index: int) -> slice:
        """The rows of one episode; negative indices count from the last.

        Raises:
            IndexError: no such episode.
        """
        if not -self.n_episodes <= index < self.n_episodes:
            raise IndexError(f"{self.where}: no episode {index} among its {self.n_episodes}")
        index %= self.n_episodes
        ends = self._storage.episode_ends
        return slice(int(ends[index - 1]) if index else 0, int(ends[index]))

    def get_episode(self, index: int) -> dict[str, np.ndarray]:
        """One episode as fresh arrays (L, ...); negative indices count from the last."""
        rows = self.get_episode_slice(index)
        return {key: np.array(array[rows]) for key, array in self.items()}

    def get_episode_idxs(self) -> np.ndarray:
        """The episode of every step, (n_steps,) int64."""
        return np.repeat(np.arange(self.n_episodes), self.episode_lengths)

    # Recording

    def add_episode(
        self, data: Mapping[str, np.ndarray], chunks: Chunks = None, compressors: Compressors = AS_STORED
    ) -> None:
        """Append one episode; on any failure the buffer stays as it was.

        Args:
            data: Arrays (L, ...) of equal L >= 1. The first episode settles keys, shapes and types; later
                ones must have the same keys and shapes, and values that these types hold exactly.
            chunks: On disk, for the first episode: as in `save_to_path`.
            compressors: On disk, for the first episode: as in `save_to_path`.

        Raises:
            ValueError: the arrays do not fit; the message names the key.
            OSError: they could not be written; the message names the path.
        """
        self._storage.append(self.check_episode(data), chunks, compressors)

    def check_episode(self, data: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See whether `add_episode` would take these arrays, and return them as numpy arrays.

        Raises:
            ValueError: the arrays do not fit; the message names the key.
        """
        episode = {key: np.asarray(values) for key, values in data.items()}
        known = self.data
        if not episode or (known and set(episode) != set(known)):
            expected = list(known) if known else "at least one key"
            raise ValueError(
                f"{self.where}: an episode must have {expected}, this one has {list(episode)}; add it elsewhere"
            )
        for key, values in episode.items():
            _check_values(key, values)
            if known:
                _check_fits(key, values, known[key])
        lengths = {key: len(values) for key, values in episode.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise ValueError(
                f"the arrays of an episode must have the same number of steps >= 1, got {lengths}"
            )
        return episode

    def drop_episode(self) -> None:
        """Remove the last episode.

        Raises:
            IndexError: there is none.
        """
        self.get_episode_slice(-1)  # raises if there is none
        self._storage.drop()

    def pop_episode(self) -> dict[str, np.ndarray]:
        """Remove the last episode and return it."""
        episode = self.get_episode(-1)
        self.drop_episode()
        return episode

    def update_meta(self, data: Mapping[str, object]) -> None:
        """Set arrays (or numbers) of `meta`.

        Raises:
            ValueError: a name is `episode_ends`, which only recording may change.
            TypeError: a value is not a number, a string or an array of these.
        """
        if "episode_ends" in data:
            raise ValueError("episode_ends follows from the episodes; use add_episode and drop_episode")
        arrays = {name: np.asarray(value) for name, value in data.items()}
        for name, values in arrays.items():
            if values.dtype.hasobject:
                raise TypeError(
                    f"meta '{name}' must be a number, a string or an array of these, got {data[name]!r}"
                )
        for name, values in arrays.items():
            self._storage.write_meta(name, values)


def _check_values(key: str, values: np.ndarray) -> None:
    if values.ndim == 0 or values.dtype.kind not in "biuf":
        raise ValueError(
            f"key '{key}' must be an array of numbers with time as its first dimension, "
            f"got shape {values.shape} of {values.dtype}"
        )


def _check_fits(key: str, values: np.ndarray, known: np.ndarray | StoredArray) -> None:
    if values.shape[1:] != known.shape[1:]:
        raise ValueError(
            f"key '{key}' must have {known.shape[1:]} after its first dimension as in earlier episodes, "
            f"got shape {values.shape}"
        )
    lost = _lost_in_cast(values, known.dtype)
    if lost.any():
        first = tuple(np.argwhere(lost)[0].tolist())
        raise ValueError(
            f"key '{key}' is stored as {known.dtype}, which cannot hold {values[first]} ({values.dtype}) of "
            f"step {first[0]} exactly; convert the values with .astype if the loss is intended"
        )


def _lost_in_cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Where a cast would change the value."""
    if values.dtype == dtype:
        return np.zeros(values.shape, bool)
    with np.errstate(invalid="ignore", over="ignore"):
        cast = values.astype(dtype)
        lost = (cast.astype(values.dtype) != values) | ((cast < 0) != (values < 0))
    if dtype.kind == "f":
        lost &= values == values  # NaN stays NaN
    return lost


def _expanded(path: str | PathLike[str]) -> Path:
    return Path(path).expanduser()

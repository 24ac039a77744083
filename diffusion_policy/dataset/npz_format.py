"""Episodes as plain numpy archives: one file, or a folder with one file per episode."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import by_number, chosen, episodes_in_memory, joined_parts
from diffusion_policy.dataset.new_path import new_path

META = "meta/"  # before the names of arrays that do not run along the steps
META_FILE = "meta.npz"  # holds them in a folder
_DAMAGE = (OSError, EOFError, ValueError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error)


class NpzFormat:
    """What `np.savez` writes, by hand too.

    One file `name.npz`: arrays (n_steps, ...) over the steps of all episodes and `episode_ends` (n_episodes,),
    the exclusive end of each. Or a folder of files, one per episode in the order of the numbers in their names,
    with equal keys and arrays (L, ...). `fps`, a number, and `meta/<name>` go to the buffer's `meta`.
    """

    name = "npz"

    def matches(self, path: Path) -> bool:
        """Whether this is an npz file or a folder of such."""
        return path.suffix == ".npz" if path.is_file() else any(path.glob("*.npz"))

    def load(self, path: Path, keys: Sequence[str] | None = None) -> ReplayBuffer:
        """Read episodes into memory.

        Args:
            path: The file or folder.
            keys: The arrays to read, by default all.

        Raises:
            ValueError: one of `keys` is not there, a file is damaged, or the arrays contradict each other.
        """
        return _load_file(path, keys) if path.is_file() else _load_folder(path, keys)

    def save(self, buffer: ReplayBuffer, path: Path) -> None:
        """Write all episodes to one file if `path` ends in .npz, else to a folder with one file per episode.

        Raises:
            FileExistsError: something is at `path`.
        """
        meta = {f"{META}{name}": value for name, value in buffer.meta.items() if name != "episode_ends"}
        with new_path(path) as temporary:
            if path.suffix == ".npz":
                _write(temporary, {**buffer.data, "episode_ends": buffer.episode_ends, **meta})
                return
            temporary.mkdir()
            for index in range(buffer.n_episodes):
                _write(temporary / f"episode_{index:06d}.npz", buffer.get_episode(index))
            if meta:
                _write(temporary / META_FILE, meta)


def _write(path: Path, arrays: Mapping[str, object]) -> None:
    with zipfile.ZipFile(path, "w") as archive:  # np.savez cannot take an array named `file`
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _load_file(path: Path, keys: Sequence[str] | None) -> ReplayBuffer:
    names = _names(path)
    if "episode_ends" not in names:
        raise ValueError(
            f"{path}: no array 'episode_ends' among {names}; add it: the exclusive end of every episode, as in "
            "[161, 279, ...], or put one file per episode into a folder"
        )
    names.remove("episode_ends")
    arrays = _read(path, ["episode_ends", *_wanted(path, names, keys), *filter(_is_meta, names)])
    ends = arrays.pop("episode_ends")
    data, meta = _split(arrays)
    return episodes_in_memory(path, data, ends, meta)


def _load_folder(path: Path, keys: Sequence[str] | None) -> ReplayBuffer:
    files = sorted(path.glob("*.npz"), key=lambda file: by_number(file.name))
    files = [file for file in files if file.name != META_FILE]
    if not files:
        raise ValueError(f"{path}: no episode; expected one .npz file per episode beside {META_FILE}")
    meta_file = path / META_FILE
    meta = _split(_read(meta_file, _names(meta_file)))[1] if meta_file.exists() else {}
    expected = _names(files[0])
    episodes = []
    for file in files:
        if set(_names(file)) != set(expected):
            raise ValueError(
                f"{file}: holds {sorted(_names(file))}, but {files[0].name} holds {sorted(expected)}; all "
                "episodes need the same keys"
            )
        data, of_episode = _split(_read(file, [*_wanted(file, expected, keys), *filter(_is_meta, expected)]))
        meta = of_episode | meta
        episodes.append(data)
    lengths = [_length(file, data) for file, data in zip(files, episodes, strict=True)]
    arrays = {key: joined_parts(path, key, [episode[key] for episode in episodes]) for key in episodes[0]}
    return episodes_in_memory(path, arrays, np.cumsum(lengths), meta)


def _is_meta(name: str) -> bool:
    return name == "fps" or name.startswith(META)


def _wanted(path: Path, names: Sequence[str], keys: Sequence[str] | None) -> list[str]:
    return chosen(path, [name for name in names if not _is_meta(name)], keys)


def _split(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Arrays along the steps, and the others by their names in `meta`."""
    data = {name: array for name, array in arrays.items() if not _is_meta(name)}
    return data, {name.removeprefix(META): arrays[name] for name in arrays if _is_meta(name)}


def _length(file: Path, data: Mapping[str, np.ndarray]) -> int:
    shapes = {key: values.shape for key, values in data.items()}
    lengths = {shape[:1] for shape in shapes.values()}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        raise ValueError(f"{file}: its arrays must have the same number of steps >= 1, got shapes {shapes}")
    return int(lengths.pop()[0])


def _names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except _DAMAGE as error:
        raise ValueError(f"{path} is not a complete npz file ({error}); write or copy it again") from error


def _read(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:  # np.load would leave a damaged file open
            return {name: _member(archive, name) for name in names}
    except _DAMAGE as error:
        raise ValueError(
            f"{path} cannot be read ({error}); write it again, with arrays of numbers only"
        ) from error


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        return np.lib.format.read_array(file, allow_pickle=False)

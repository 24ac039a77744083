"""Zarr v2 groups on disk: open them, and write files that a crash cannot tear."""

import asyncio
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numcodecs.abc import Codec
from zarr.storage import LocalStore, ZipStore

from diffusion_policy.codecs.imagecodecs_numcodecs import register_codecs
from diffusion_policy.common.atomic_write import TEMPORARY_PREFIX, atomic_write

register_codecs()

Folder = Path | zipfile.Path


class FolderStore(LocalStore):
    """A directory store that can wait for the writes that zarr began."""

    _loop: asyncio.AbstractEventLoop | None = None  # where zarr runs its writes

    async def set(self, key: str, value: Any) -> None:
        """Write one file."""
        self._loop = asyncio.get_running_loop()
        await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        """Write one file unless there is one."""
        if not (self.root / key).exists():
            await self.set(key, value)

    def finish_writes(self) -> None:
        """Wait for writes that zarr began.

        It writes several files at once; when one fails it raises, while the others go on in the background
        and could later replace what was written meanwhile.
        """
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(_finish_other_tasks(), self._loop).result()


class AtomicStore(FolderStore):
    """A directory store whose files appear complete or not at all, whatever the installed zarr does.

    A chunk often holds the last rows of a finished episode and the first of the next, so rewriting it must
    never leave it half written. The bytes reach the disk before they get their name: this also makes a
    full disk an error here rather than a loss later.
    """

    async def set(self, key: str, value: Any) -> None:
        """Write one file atomically."""
        self._check_writable()
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(atomic_write, self.root / key, value.to_bytes())


async def _finish_other_tasks() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


def open_group(path: Path, mode: str) -> tuple[zarr.Group, Folder]:
    """Open a zarr v2 group in a directory or a zip file.

    Args:
        path: `<name>.zarr` (directory) or `<name>.zarr.zip`.
        mode: "r" to read, "a" to read and write (directories only).

    Returns:
        The group, and the folder its files are in.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: what is there is not a zarr v2 group, or a zip file is to be written.
    """
    if not path.exists():
        raise FileNotFoundError(f"no replay buffer at {path}: expected a zarr directory or a .zarr.zip file")
    store, folder = _open_directory(path, mode) if path.is_dir() else _open_zip(path, mode)
    if (folder / "zarr.json").exists():
        raise ValueError(
            f"{path} is in zarr format 3; a replay buffer is in format 2: write it again as such"
        )
    if not (folder / ".zgroup").exists():
        raise ValueError(
            f"{path} is not a zarr group: it has no .zgroup file. Choose the folder that has one, or fetch it again"
        )
    try:
        group_mode = "r" if mode == "r" else "r+"
        return zarr.open_group(store, mode=group_mode, zarr_format=2, use_consolidated=False), folder
    except Exception as error:
        raise ValueError(f"{path}: its .zgroup file cannot be read ({error!r}); fetch it again") from error


def _open_directory(path: Path, mode: str) -> tuple[LocalStore, Path]:
    return (LocalStore(path, read_only=True) if mode == "r" else AtomicStore(path)), path


def _open_zip(path: Path, mode: str) -> tuple[ZipStore, zipfile.Path]:
    if mode != "r":
        raise ValueError(
            f"{path} is a file: a zipped replay buffer can only be read (mode='r', not {mode!r}). To record "
            "more, copy_from_path it, save_to_path a directory and open that"
        )
    try:
        folder = zipfile.Path(zipfile.ZipFile(path))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a complete zip file ({error}); fetch or write it again") from error
    return ZipStore(path, mode="r"), folder


@contextmanager
def new_group(path: Path) -> Iterator[zarr.Group]:
    """Create a zarr v2 group in a new directory, to be filled and then moved into place as a whole.

    When the block ends, well or not, nothing is being written any more.
    """
    store = FolderStore(path)
    try:
        yield zarr.open_group(store, mode="w-", zarr_format=2)
    finally:
        store.finish_writes()


def array_names(folder: Folder) -> list[str]:
    """The arrays directly inside a group's folder, sorted; unfinished ones are passed over."""
    return sorted(
        item.name
        for item in folder.iterdir()
        if (item / ".zarray").exists() and not item.name.startswith(TEMPORARY_PREFIX)
    )


def open_member(group: zarr.Group, name: str, where: str) -> Any:
    """Open a group or an array in a group.

    Arrays will write chunks full of zeros too, as here a missing chunk is damage.

    Raises:
        ImportError: its codec needs a package that is not installed.
        ValueError: its metadata cannot be read, its codec is not known, or reading it could run code.
    """
    path = f"{group.path}/{name}".lstrip("/")
    try:
        with zarr.config.set({"array.write_empty_chunks": True}):
            member = group[name]
    except ImportError as error:
        raise ImportError(f"{where}: '{path}' cannot be opened: {error}") from error
    except Exception as error:
        raise ValueError(
            f"{where}: '{path}' cannot be opened ({error!r}); fetch the data again, or install the codec it names"
        ) from error
    if isinstance(member, zarr.Array) and _is_pickled(member):
        raise ValueError(
            f"{where}: '{path}' is stored with the codec pickle, which can run code of the file when it is read; get "
            "data without it"
        )
    return member


def _is_pickled(array: zarr.Array) -> bool:
    codecs = (array.metadata.compressor, *(array.metadata.filters or ()))
    return any(isinstance(codec, numcodecs.Pickle) for codec in codecs)


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    chunks: tuple[int, ...],
    compressor: Codec | None,
) -> zarr.Array:
    """Create one array of a group; as in `open_member`, chunks full of zeros will be written."""
    with zarr.config.set({"array.write_empty_chunks": True}):
        return group.create_array(name, shape=shape, dtype=dtype, chunks=chunks, compressors=compressor)


def write_array(
    group: zarr.Group, name: str, values: np.ndarray, chunks: tuple[int, ...], compressor: Codec | None
) -> None:
    """Create one array of a group and fill it."""
    array = create_array(group, name, values.shape, values.dtype, chunks, compressor)
    array[...] = values

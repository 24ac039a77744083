"""Write a whole replay buffer as a new zarr v2 directory or zip file."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import zarr

from diffusion_policy.common.atomic_write import move_into_place, named_errors, remove, temporary_path
from diffusion_policy.common.chunking import Chunks, Compressors, layout_of
from diffusion_policy.common.stored_array import StoredArray
from diffusion_policy.common.zarr_files import (
    Folder,
    create_array,
    new_group,
    write_array,
)

ROWS_AT_ONCE = 32  # of small chunks, which zarr then encodes side by side


def save_zarr(
    path: Path,
    data: Mapping[str, np.ndarray | StoredArray],
    meta: Mapping[str, np.ndarray],
    chunks: Chunks,
    compressors: Compressors,
) -> None:
    """Write the replay buffer layout under a temporary name, then rename it to `path`, replacing the old."""
    folder, archive = temporary_path(path), temporary_path(path)
    try:
        with named_errors(path):
            with new_group(folder) as root:
                _fill(root, folder, data, meta, chunks, compressors)
            if path.suffix == ".zip":
                _zip(folder, archive)
        move_into_place(archive if archive.exists() else folder, path)
    finally:
        remove(folder)
        remove(archive)


def _fill(
    root: zarr.Group,
    folder: Path,
    data: Mapping[str, np.ndarray | StoredArray],
    meta: Mapping[str, np.ndarray],
    chunks: Chunks,
    compressors: Compressors,
) -> None:
    meta_group, data_group = root.create_group("meta"), root.create_group("data")
    for name, values in meta.items():
        write_array(meta_group, name, values, tuple(max(1, n) for n in values.shape), None)
    for key, array in data.items():
        chunk, codec = layout_of(key, array, chunks, compressors)
        if isinstance(array, StoredArray) and (array.chunks, array.compressor) == (chunk, codec):
            array.check()
            _copy_files(array.folder, folder / "data" / key)  # as they are: a lossy codec would lose again
            data_group[key].resize(array.shape)  # leaves out a torn tail
        else:
            target = create_array(data_group, key, array.shape, array.dtype, chunk, codec)
            _copy_rows(array, target)


def _copy_rows(source: np.ndarray | StoredArray, target: zarr.Array) -> None:
    size = target.chunks[0]
    rows_at_once = max(ROWS_AT_ONCE, getattr(source, "chunks", (1,))[0])  # read each chunk of the source once
    step = size * max(1, rows_at_once // size)
    for start in range(0, len(source), step):
        target[start : start + step] = source[start : start + step]


def _copy_files(source: Folder, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for item in source.iterdir():
        if item.is_dir():
            _copy_files(item, target / item.name)
        else:
            (target / item.name).write_bytes(item.read_bytes())


def _zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:  # the chunks are compressed already
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder))

"""HDF5 files, opened with errors that name them."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from diffusion_policy.common.optional_package import optional_package


@contextmanager
def opened_hdf5(path: str | PathLike[str]) -> Iterator[Any]:
    """The `h5py.File` at a path, to read.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ImportError: h5py is not installed.
        ValueError: the file is damaged, also where that is found only while it is read.
    """
    h5py = optional_package("h5py")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:  # h5py raises any of them on damage
        raise ValueError(f"{path} is not a complete HDF5 file ({error}); fetch or write it again") from error

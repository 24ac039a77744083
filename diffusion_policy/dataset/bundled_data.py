"""Demonstrations that come with the package."""

import os
from os import PathLike
from pathlib import Path

PREFIX = "bundled:"
_FOLDER = Path(__file__).parent / "bundled"
_ENDING = ".zarr.zip"


def data_path(path: str | PathLike[str]) -> Path:
    """Where data lie: `bundled:NAME` means those that come with the package; all else is a path of its own.

    Returns:
        An absolute path, `~` replaced. Whether a path of the user's exists is not looked at.

    Raises:
        ValueError: no data of that name come with the package.
    """
    text = os.fspath(path)
    if not text.startswith(PREFIX):
        return Path(text).expanduser().absolute()
    names = sorted(file.name.removesuffix(_ENDING) for file in _FOLDER.glob(f"*{_ENDING}"))
    name = text.removeprefix(PREFIX)
    if name not in names:
        raise ValueError(f"no data {text!r} come with the package; there are {[PREFIX + n for n in names]}")
    return _FOLDER / f"{name}{_ENDING}"

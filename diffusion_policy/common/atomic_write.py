"""Files and folders that appear whole or not at all, whatever kills the process."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"


def temporary_path(path: Path) -> Path:
    """A fresh name beside `path` for what is still being written, or on its way out."""
    return path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{path.name}")


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Let errors of the operating system name `path` where they name nothing, as on a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def make_writable(folder: Path) -> None:
    """Make a folder if need be, and see that files can be made in it.

    Raises:
        OSError: they cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file; a reader sees the old content or the new. Its folder is made if need be.

    Raises:
        OSError: it could not be written; the error names it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with named_errors(path), temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text file as `atomic_write` does."""
    atomic_write(path, text.encode())


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` when the block ends well, and removed otherwise.

    Raises:
        FileExistsError: when `path` exists already.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already; remove it or choose another name")
    temporary = temporary_path(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            _to_disk(file)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _to_disk(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def move_into_place(finished: Path, target: Path) -> None:
    """Give a finished file or folder its final name; what had that name before is deleted afterwards."""
    if finished.is_file() and not target.is_dir():
        os.replace(finished, target)
        return
    aside = temporary_path(target)
    if target.exists():
        os.rename(target, aside)
    os.rename(finished, target)
    remove(aside)


def remove_directory(path: Path) -> None:
    """Remove a folder such that a reader sees the whole of it or nothing."""
    aside = temporary_path(path)
    os.rename(path, aside)
    shutil.rmtree(aside)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> int:
    """Remove what a killed process left unfinished below `folder`; returns how many there were."""
    leftovers = list(folder.rglob(f"{TEMPORARY_PREFIX}*"))
    for leftover in leftovers:
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
    return len(leftovers)

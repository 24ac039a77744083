"""Files and folders that appear whole or not at all, whatever kills the process."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"


def atomic_write_text(path: Path, text: str) -> None:
    """Write `text` to `path`; a reader sees the old content or the new."""
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp's is for its owner alone
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` when the block ends well, and removed otherwise.

    Raises:
        FileExistsError: when `path` exists already.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already; remove it or choose another name")
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
    try:
        yield temporary
        for file in temporary.iterdir():
            _to_disk(file)
        temporary.chmod(0o755)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _to_disk(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def remove_directory(path: Path) -> None:
    """Remove a folder such that a reader sees the whole of it or nothing."""
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
    os.rename(path, temporary / path.name)
    shutil.rmtree(temporary)


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process left unfinished in `folder`."""
    for leftover in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)

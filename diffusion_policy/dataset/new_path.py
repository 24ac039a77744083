"""Files and folders that get their name when they are complete."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diffusion_policy.common.atomic_write import named_errors, remove, temporary_path


@contextmanager
def new_path(path: Path) -> Iterator[Path]:
    """Yield a name beside `path`; what is written there is renamed to `path` if the block ends well.

    Otherwise it is removed.

    Raises:
        FileExistsError: something is at `path`.
        OSError: it could not be written; the error names it.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists already; remove it or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        with named_errors(path):
            yield temporary
        temporary.rename(path)
    finally:
        remove(temporary)

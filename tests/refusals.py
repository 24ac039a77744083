"""What a command line says when it refuses, without starting a process."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

CommandLine = Callable[[Sequence[str]], None]


class Refusal(NamedTuple):
    code: int
    text: str


def refusal_of(main: CommandLine, *arguments: object) -> Refusal:
    """Exit code and all that was printed; what would be a traceback fails the test as it is."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed), pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    code = raised.value.code
    if isinstance(code, int):
        return Refusal(code, printed.getvalue())
    return Refusal(1, f"{printed.getvalue()}{code}")  # as Python ends on `sys.exit(text)`


def assert_refused(refusal: Refusal, *words: str, code: int = 1) -> None:
    """The exit code, and that the message has all the words: what is wrong, and what to do."""
    assert refusal.code == code, refusal.text
    for word in words:
        assert word in refusal.text


def files_below(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder: the content of files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != ".lock"  # of a run: kept when it ends
    }


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """Let the system refuse to write beyond so many bytes of a file, as a full disk does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

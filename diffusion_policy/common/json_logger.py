"""Training log: one JSON object of numbers per line (`logs.json.txt`)."""

import json
import numbers
import os
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from diffusion_policy.common.atomic_write import named_errors

Number = int | float
STEP_KEY = "global_step"


class JsonLogger:
    """Appends records to a log file, one JSON object per line, each on disk as soon as it is complete.

    Only numbers are kept (Python, NumPy, tensors of no dimension): integers as int, others as float; paths,
    videos and other objects are left out. NaN and infinities are written as `NaN`, `Infinity`, which Python's
    and pandas' readers take.

    Opening an existing log continues it; a last line torn by a crash is cut off. Use as a context manager, or
    call `close`.

    Args:
        path: The log file; its directory must exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.exists():
            _cut(self.path, self.path.read_bytes().rfind(b"\n") + 1)
        self._file = self._open()

    def _open(self) -> TextIO:
        return self.path.open("a", encoding="utf-8", buffering=1)  # 1: flushed at each end of line

    def log(self, record: Mapping[str, Any]) -> None:
        """Append the numbers of `record` as one line.

        Raises:
            OSError: it could not be written; the error names the file.
        """
        with named_errors(self.path):
            self._file.write(json.dumps(_numbers(record)) + "\n")

    def get_last_log(self) -> dict[str, Number] | None:
        """The last record of the file, or None when it has none."""
        last = deque(_records(self.path), maxlen=1)
        return last[0][1] if last else None

    def truncate_after(self, global_step: int) -> None:
        """Cut everything from the first record with a larger `global_step`; a resumed run writes it again.

        Args:
            global_step: Step of the checkpoint from which the run goes on.
        """
        self._file.close()
        for start, record in _records(self.path):
            if record.get(STEP_KEY, global_step) > global_step:
                _cut(self.path, start)
                break
        self._file = self._open()

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        with suppress(
            OSError
        ):  # tries once more to write a line that could not be written, which `log` has said
            self._file.close()

    def __enter__(self) -> "JsonLogger":
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_json_log(
    path: str | os.PathLike[str], required_keys: Collection[str] = ()
) -> list[dict[str, Number]]:
    """The records of a log, in order. An unterminated last line (still being written, or torn) is ignored.

    Args:
        path: The log file.
        required_keys: Keep only records that have at least one of these keys; empty keeps all.

    Raises:
        ValueError: A complete line is not a JSON object.
    """
    if isinstance(required_keys, str):
        raise TypeError(f"required_keys must be a collection of keys, got the string {required_keys!r}")
    wanted = set(required_keys)
    return [record for _, record in _records(Path(path)) if not wanted or wanted & record.keys()]


def _records(path: Path) -> Iterator[tuple[int, dict[str, Number]]]:
    """Yield (byte offset of its line, record) for every complete line."""
    with path.open("rb") as file:
        start = 0
        for line_number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            yield start, _parse(line, path, line_number)
            start += len(line)


def _parse(line: bytes, path: Path, line_number: int) -> dict[str, Number]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{path}, line {line_number} is not JSON: {line[:80]!r}; repair or delete the line"
        ) from error
    if not isinstance(record, dict):
        raise ValueError(f"{path}, line {line_number} must be a JSON object, got {line[:80]!r}")
    return record


def _numbers(record: Mapping[str, Any]) -> dict[str, Number]:
    scalars = {key: value.item() if _is_scalar_array(value) else value for key, value in record.items()}
    return {
        key: int(value) if isinstance(value, numbers.Integral) else float(value)
        for key, value in scalars.items()
        if isinstance(value, numbers.Real)
    }


def _is_scalar_array(value: Any) -> bool:
    """Whether `value` is a NumPy scalar, or an array or tensor of no dimension."""
    return getattr(value, "ndim", None) == 0 and hasattr(value, "item")


def _cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)

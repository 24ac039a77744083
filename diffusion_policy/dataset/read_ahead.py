"""Compute the next results while the present one is used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def read_ahead(calls: Iterable[Callable[[], Result]], n_ahead: int) -> Iterator[Result]:
    """Results of the calls in their order; up to `n_ahead` are computed before they are asked for.

    One background thread makes the calls. What one raises is raised here, in its place. When the iterator is closed
    or forgotten, no further call begins.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as thread:
        try:
            for call in calls:
                waiting.append(thread.submit(call))
                if len(waiting) > n_ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

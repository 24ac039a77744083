"""Results in order, computed ahead by a bounded number, on a thread that ends."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from diffusion_policy.dataset.read_ahead import read_ahead

TIMEOUT_S = 20


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@pytest.mark.parametrize("n", [0, 1, 3, 20])
@pytest.mark.parametrize("n_ahead", [1, 4])
def test_results_come_in_order(n: int, n_ahead: int) -> None:
    assert list(read_ahead((partial(divmod, i, 3) for i in range(n)), n_ahead)) == [
        divmod(i, 3) for i in range(n)
    ]
    assert threads() == []


def test_the_next_results_are_computed_meanwhile_and_no_more() -> None:
    started: list[int] = []
    fourth = threading.Event()

    def call(i: int) -> int:
        started.append(i)
        if i == 3:
            fourth.set()
        return i

    results = read_ahead((partial(call, i) for i in range(100)), 3)
    assert next(results) == 0
    assert fourth.wait(TIMEOUT_S)
    assert started == [0, 1, 2, 3]
    results.close()  # type: ignore[attr-defined]
    assert (started, threads()) == ([0, 1, 2, 3], [])


def test_an_error_comes_in_its_place() -> None:
    calls: list[Callable[[], float]] = [lambda: 1.0, lambda: 2.0, lambda: 1 / 0, lambda: 3.0]
    results: Iterator[float] = read_ahead(calls, 3)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
    assert threads() == []


def test_a_forgotten_iterator_ends_its_thread() -> None:
    results = read_ahead((lambda: 0 for _ in range(100)), 2)
    next(results)
    del results
    assert threads() == []

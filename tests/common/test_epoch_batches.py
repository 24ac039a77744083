"""Tests for epoch_batches.py."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diffusion_policy.common import epoch_batches
from diffusion_policy.common.epoch_batches import EpochBatches

SetProcess = Callable[[int, int], None]


@pytest.fixture
def as_process(monkeypatch: pytest.MonkeyPatch) -> SetProcess:
    """Make this process the one of number `rank` among `world_size`."""

    def set_process(rank: int, world_size: int) -> None:
        monkeypatch.setattr(epoch_batches, "rank", lambda: rank)
        monkeypatch.setattr(epoch_batches, "world_size", lambda: world_size)

    return set_process


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 5), st.integers(0, 5))
def test_every_window_is_drawn_once_an_epoch(n_windows, batch_size, seed, epoch):
    batches = EpochBatches(n_windows, batch_size, seed)
    rows = batches.epoch(epoch)
    assert len(rows) == len(batches) == -(-n_windows // batch_size)
    assert sorted(np.concatenate(rows)) == list(range(n_windows))
    assert all(len(batch) == batch_size for batch in rows[:-1])
    assert 1 <= len(rows[-1]) <= batch_size


def test_order_is_a_function_of_seed_and_epoch_alone():
    first = EpochBatches(50, 8, seed=1)
    for epoch in (3, 0, 3):
        np.random.seed(epoch)  # noqa: NPY002 - the global state must not matter
        for ours, again in zip(first.epoch(epoch), EpochBatches(50, 8, seed=1).epoch(epoch), strict=True):
            np.testing.assert_array_equal(ours, again)


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {
        tuple(np.concatenate(EpochBatches(50, 8, seed).epoch(epoch)).tolist())
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 4))
def test_processes_share_every_batch_equally_and_without_overlap(n_windows, batch_size, n_processes):
    assume(batch_size % n_processes == 0 and n_windows >= n_processes)
    whole = EpochBatches(n_windows, batch_size, seed=0).epoch(2)
    parts = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(epoch_batches, "world_size", lambda: n_processes)
        for rank in range(n_processes):
            patch.setattr(epoch_batches, "rank", lambda rank=rank: rank)
            batches = EpochBatches(n_windows, batch_size, seed=0)
            parts.append(batches.epoch(2))
            assert len(parts[-1]) == len(batches)
    for shares in zip(*parts, strict=True):
        assert len({len(share) for share in shares}) == 1
        assert len(shares[0]) >= 1
    for batch, *shares in zip(whole, *parts, strict=False):
        together = np.concatenate(shares)
        np.testing.assert_array_equal(together, batch[: len(together)])
        assert len(batch) - len(together) < n_processes


def test_a_last_batch_too_small_to_share_is_left_out(as_process):
    as_process(0, 3)
    assert [len(rows) for rows in EpochBatches(14, 6, seed=0).epoch(0)] == [2, 2]
    assert [len(rows) for rows in EpochBatches(15, 6, seed=0).epoch(0)] == [2, 2, 1]


def test_no_windows_and_too_small_batches_are_refused(as_process):
    with pytest.raises(ValueError, match="0 training windows for 1 processes: give it more episodes"):
        EpochBatches(0, 8, seed=0)
    with pytest.raises(
        ValueError, match="batch_size must be a positive multiple of the number of processes 1, got 0"
    ):
        EpochBatches(10, 0, seed=0)
    as_process(0, 4)
    with pytest.raises(
        ValueError, match="batch_size must be a positive multiple of the number of processes 4, got 3"
    ):
        EpochBatches(10, 3, seed=0)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 12))
def test_an_epoch_of_given_length_goes_through_the_data_as_often_as_it_takes(
    n_windows, batch_size, n_batches
):
    batches = EpochBatches(n_windows, batch_size, seed=3, batches_per_epoch=n_batches)
    rows = batches.epoch(1)
    assert [len(batch) for batch in rows] == [batch_size] * n_batches == [batch_size] * len(batches)
    counts = np.bincount(np.concatenate(rows), minlength=n_windows)
    assert counts.max() - counts.min() <= 1, "no window is drawn again before all others were"

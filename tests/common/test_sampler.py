"""Tests for sampler.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.sampler import SequenceSampler, downsample_mask, get_val_mask

EPISODES = st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=8)  # length, used or not


def windows_one_by_one(lengths, mask, length, pad_before, pad_after):
    """Every window as the list of its buffer positions, and its row of indices."""
    pad_before, pad_after = min(pad_before, length - 1), min(pad_after, length - 1)
    windows, indices, episode_start = [], [], 0
    for n, used in zip(lengths, mask, strict=True):
        for start in range(-pad_before, n - length + pad_after + 1) if used else ():
            steps = [start + offset for offset in range(length)]
            real = [offset for offset, step in enumerate(steps) if 0 <= step < n]
            windows.append([episode_start + min(max(step, 0), n - 1) for step in steps])
            first, last = real[0], real[-1]
            row = (episode_start + steps[first], episode_start + steps[last] + 1, first, last + 1)
            indices.append(row)
        episode_start += n
    return windows, indices


@given(EPISODES, st.integers(1, 9), st.integers(0, 12), st.integers(0, 12))
def test_agrees_with_a_loop(episodes, length, pad_before, pad_after):
    lengths, mask = [n for n, _ in episodes], [used for _, used in episodes]
    sampler = SequenceSampler(
        np.cumsum(lengths, dtype=int), length, pad_before, pad_after, np.array(mask, bool)
    )
    windows, indices = windows_one_by_one(lengths, mask, length, pad_before, pad_after)
    assert len(sampler) == len(windows)
    np.testing.assert_array_equal(sampler.indices, np.reshape(indices, (-1, 4)))
    assert sampler.indices.dtype == np.int64
    positions = sampler.positions(np.arange(len(sampler)))
    np.testing.assert_array_equal(positions, np.reshape(windows, (-1, length)))


def test_padding_repeats_the_first_and_last_step():
    sampler = SequenceSampler(np.array([2, 6]), sequence_length=4, pad_before=2, pad_after=1)
    assert sampler.positions(np.arange(len(sampler))).tolist() == [
        [0, 0, 0, 1],
        [0, 0, 1, 1],
        [2, 2, 2, 3],
        [2, 2, 3, 4],
        [2, 3, 4, 5],
        [3, 4, 5, 5],
    ]


def test_positions_gather_a_batch():
    steps = np.arange(40.0).reshape(20, 2)
    sampler = SequenceSampler(np.array([8, 20]), sequence_length=5)
    rows = np.array([7, 0, 3, 3])
    batch = steps[sampler.positions(rows)]
    assert batch.shape == (4, 5, 2)
    for window, row in zip(batch, rows, strict=True):
        start, end, *_ = sampler.indices[row]
        np.testing.assert_array_equal(window, steps[start:end])


def test_negative_padding_counts_as_none():
    sampler = SequenceSampler(np.array([5]), 3, pad_before=-2, pad_after=-2)
    assert len(sampler) == 3


def test_bad_arguments():
    with pytest.raises(ValueError, match="sequence_length must be at least 1, got 0"):
        SequenceSampler(np.array([5]), 0)
    with pytest.raises(ValueError, match=r"episode_mask must have shape \(1,\).*\(2,\)"):
        SequenceSampler(np.array([5]), 3, episode_mask=np.ones(2, bool))


@given(st.integers(2, 300), st.floats(0.001, 1), st.integers(0, 2**31))
def test_validation_episodes(n_episodes, ratio, seed):
    mask = get_val_mask(n_episodes, ratio, seed)
    assert mask.sum() == min(max(1, round(n_episodes * ratio)), n_episodes - 1)
    np.testing.assert_array_equal(mask, get_val_mask(n_episodes, ratio, seed))


@pytest.mark.parametrize(("n_episodes", "ratio"), [(10, 0.0), (10, -1.0), (1, 0.5)])
def test_no_validation_episodes(n_episodes, ratio):
    assert not get_val_mask(n_episodes, ratio).any()


@given(st.lists(st.booleans(), max_size=50), st.one_of(st.none(), st.integers(0, 60)), st.integers(0, 2**31))
def test_downsampling(mask, max_n, seed):
    mask = np.array(mask, bool)
    kept = downsample_mask(mask, max_n, seed)
    assert kept.sum() == (mask.sum() if max_n is None else min(max_n, mask.sum()))
    assert not (kept & ~mask).any()


class TestHumanDemonstrations:
    """The published numbers of the split and its windows (seed 42, 2 % validation, 90 episodes)."""

    @pytest.fixture
    def ends(self, pusht_zarr):
        return ReplayBuffer.create_from_path(pusht_zarr).episode_ends

    @pytest.fixture
    def train_mask(self):
        return downsample_mask(~get_val_mask(206, 0.02, seed=42), 90, seed=42)

    def test_split(self, train_mask):
        assert np.flatnonzero(get_val_mask(206, 0.02, seed=42)).tolist() == [18, 90, 134, 157]
        assert train_mask.sum() == 90
        assert np.flatnonzero(train_mask)[:11].tolist() == [7, 9, 10, 11, 13, 16, 20, 25, 26, 27, 32]

    @pytest.mark.parametrize(
        ("length", "pad_before", "pad_after", "n_windows"),
        [(16, 1, 7, 10726), (2, 1, 0, 11356), (3, 2, 0, 11356), (10, 0, 0, 10546), (1, 0, 0, 11356)],
    )
    def test_windows(self, ends, train_mask, length, pad_before, pad_after, n_windows):
        assert len(SequenceSampler(ends, length, pad_before, pad_after, train_mask)) == n_windows

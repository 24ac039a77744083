"""Tests for random_seed.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.common.random_seed import derived_generator, derived_seed

small = st.integers(0, 2**32 - 1)


@given(st.lists(small, min_size=1, max_size=4))
def test_a_seed_is_a_63_bit_function_of_its_arguments(entropy):
    assert derived_seed(*entropy) == derived_seed(*entropy)
    assert 0 <= derived_seed(*entropy) < 2**63


@given(st.tuples(small, small), st.tuples(small, small))
def test_other_arguments_of_the_same_number_give_other_seeds(first, second):
    assert (derived_seed(*first) == derived_seed(*second)) == (first == second)


def test_order_matters_and_neighbours_share_nothing():
    seeds = {derived_seed(seed, step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900
    bits = [bin(derived_seed(42, step) ^ derived_seed(42, step + 1)).count("1") for step in range(200)]
    assert 28 < sum(bits) / 200 < 35  # half of 63


@pytest.mark.parametrize("other", [(5, 0), (5, 0, 0)])
def test_a_trailing_zero_is_another_stream(other):
    assert derived_seed(5) != derived_seed(*other)


def test_value_stays_so_that_runs_can_be_repeated():
    assert derived_seed(5, 1) == derived_generator(5, 1).initial_seed()
    assert torch.equal(
        torch.randn(3, generator=derived_generator(1, 2)), torch.randn(3, generator=derived_generator(1, 2))
    )
    assert derived_generator(1).device.type == "cpu"


def test_negative_numbers_are_refused():
    with pytest.raises(ValueError, match="non-negative"):
        derived_seed(-1)

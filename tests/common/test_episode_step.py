"""Tests for episode_step.py."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.common.episode_step import episode_step


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_every_row_in_order(lengths):
    expected = [f"episode {i}, step {step}" for i, n in enumerate(lengths) for step in range(n)]
    assert [episode_step(row, np.cumsum(lengths)) for row in range(sum(lengths))] == expected

"""Tests for positional_embedding.py."""

import math

import pytest
import torch

from diffusion_policy.model.diffusion.positional_embedding import SinusoidalPosEmb


@pytest.mark.parametrize("dim", [4, 16, 256])
def test_is_sines_then_cosines_of_geometric_frequencies(dim):
    timestep = torch.tensor([0, 1, 7, 99])
    half = dim // 2
    frequencies = [10_000 ** (-j / (half - 1)) for j in range(half)]
    expected = [
        [math.sin(t * f) for f in frequencies] + [math.cos(t * f) for f in frequencies]
        for t in timestep.tolist()
    ]
    torch.testing.assert_close(SinusoidalPosEmb(dim)(timestep), torch.tensor(expected), rtol=0, atol=1e-5)


def test_has_no_weights():
    assert not SinusoidalPosEmb(8).state_dict()


@pytest.mark.parametrize("dim", [0, 2, 7])
def test_sizes_without_frequencies_are_refused(dim):
    with pytest.raises(ValueError, match=f"even and at least 4, got {dim}"):
        SinusoidalPosEmb(dim)

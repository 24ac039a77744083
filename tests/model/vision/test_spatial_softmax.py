"""Tests for spatial_softmax.py."""

import pytest
import torch

from diffusion_policy.model.vision.spatial_softmax import SpatialSoftmax


def with_map_as_it_is(temperature: float = 1.0) -> SpatialSoftmax:
    pool = SpatialSoftmax(1, n_keypoints=1, temperature=temperature)
    torch.nn.init.ones_(pool.conv.weight)
    torch.nn.init.zeros_(pool.conv.bias)
    return pool


@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 4), (4, 6), (1, 3)])
def test_a_peak_is_where_it_is(row, column):
    features = torch.zeros(1, 1, 5, 7)
    features[0, 0, row, column] = 100.0
    x, y = with_map_as_it_is()(features)[0].tolist()
    assert x == pytest.approx(-1 + 2 * column / 6, abs=1e-5)
    assert y == pytest.approx(-1 + 2 * row / 4, abs=1e-5)


def test_the_mean_of_two_peaks_lies_between_them():
    features = torch.zeros(1, 1, 5, 5)
    features[0, 0, 0, 0] = features[0, 0, 0, 4] = 100.0
    torch.testing.assert_close(with_map_as_it_is()(features), torch.tensor([[0.0, -1.0]]))


def test_brute_force():
    pool = SpatialSoftmax(4, n_keypoints=3, temperature=0.5)
    features = torch.randn(2, 4, 3, 5)
    maps = pool.conv(features) / 0.5
    expected = torch.zeros(2, 3, 2)
    for n in range(2):
        for k in range(3):
            weights = torch.exp(maps[n, k]) / torch.exp(maps[n, k]).sum()
            for i in range(3):
                for j in range(5):
                    expected[n, k] += weights[i, j] * torch.tensor([-1 + j / 2, -1.0 + i])
    torch.testing.assert_close(pool.keypoints(features), expected)
    torch.testing.assert_close(pool(features), expected.flatten(1))
    assert pool.out_dim == 6


def test_a_low_temperature_sharpens():
    features = torch.randn(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    peak = torch.nonzero(features[0, 0] == features.max())[0].flip(0) / 4 - 1
    torch.testing.assert_close(with_map_as_it_is(0.01)(features)[0], peak, atol=1e-3, rtol=0)

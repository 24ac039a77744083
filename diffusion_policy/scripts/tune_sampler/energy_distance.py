"""How far two distributions are apart, from samples of both."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_policy.common.statistics import Estimate, bootstrap_mean_interval

Values = NDArray[np.float64]


def energy_terms(x: Tensor, y: Tensor) -> tuple[Values, Values]:
    """Energy distance `2 E|X - Y| - E|X - X'| - E|Y - Y'|` of each observation, and its first term.

    Szekely & Rizzo 2013, eqn. 5; zero if and only if the distributions are equal. Pairs of a sample with itself are
    left out (a U-statistic), so the estimate is unbiased: it is zero in the mean, and may be negative, for samples
    of one distribution.

    Args:
        x: (N, S, D), S >= 2 independent samples at each of N observations.
        y: (N, R, D), R >= 2 likewise, independent of `x`.

    Returns:
        Energy distances (N,) and `2 E|X - Y|` (N,).
    """
    between = 2 * _distances(x, y).mean(dim=(1, 2))  # (N,)
    return (between - _within(x) - _within(y)).numpy(), between.numpy()


def relative_energy_distance(x: Tensor, y: Tensor) -> Estimate:
    """Mean energy distance over observations as a share of the mean `2 E|X - Y|`, with a bootstrap interval.

    This is 0 for equal distributions and 1 for two different points, whatever the scale of the actions (the
    coefficient H of Szekely & Rizzo 2013, with means over observations above and below). The interval is over
    observations as if they were independent; those of one episode are alike, so with few episodes it is too narrow.
    That of the divisor, which is known far better, is left out.

    Args:
        x, y: as in `energy_terms`.
    """
    distances, between = energy_terms(x, y)
    scale = between.mean()
    return bootstrap_mean_interval(distances / scale if scale > 0 else distances)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances (N, S, R), not by the fast formula, which loses the digits of small ones."""
    return torch.cdist(x.double().cpu(), y.double().cpu(), compute_mode="donot_use_mm_for_euclid_dist")


def _within(x: Tensor) -> Tensor:
    """Mean distance of two different samples, (N,)."""
    n = x.shape[1]
    return _distances(x, x).sum(dim=(1, 2)) / (n * (n - 1))

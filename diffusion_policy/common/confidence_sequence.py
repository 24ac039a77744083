"""An interval that holds at every sample size at once, so that looking early and stopping does no harm."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

BET_LIMIT = 0.5  # a bet may lose at most this share of the capital
N_CANDIDATES = 2001  # means that are tested, evenly spaced


def confidence_sequence(
    values: ArrayLike, low: float = -1.0, high: float = 1.0, confidence: float = 0.95
) -> NDArray[np.float64]:
    """Bounds of the mean after each value, all of them right together with the stated confidence.

    An ordinary 95 % interval is right for one sample size chosen beforehand; who looks after every batch and
    stops when it excludes zero will be wrong far more often than in 5 % of cases. Here the probability that
    the true mean is outside the interval at any time whatever is at most `1 - confidence`, for any
    distribution on [low, high] and any rule of stopping.

    For every candidate mean two gamblers bet against it, one that it is too low and one that it is too high;
    a candidate is out once one of them has multiplied the initial capital by `2 / (1 - confidence)` (Waudby-Smith and
    Ramdas 2024, "Estimating means of bounded random variables by betting", hedged capital process of
    section 4.4 with the bets of its equation 26).

    Args:
        values: (n,) independent values of [low, high] in the order in which they were seen.
        low: Least possible value.
        high: Greatest possible value.
        confidence: In (0, 1).

    Returns:
        (n, 2) bounds after 1, 2, ..., n values; they only ever tighten.

    Raises:
        ValueError: a value is outside [low, high].
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not np.all((low <= sample) & (sample <= high)):
        raise ValueError(f"values must be numbers in [{low}, {high}] in one dimension")
    unit = (sample - low) / (high - low)
    alpha = 1 - confidence
    means = np.linspace(0, 1, N_CANDIDATES)
    log_threshold = math.log(2 / alpha)
    upward, downward = np.zeros_like(means), np.zeros_like(means)  # log capital of the two gamblers
    open_means = np.ones(len(means), bool)
    bounds = np.empty((len(unit), 2))
    for i, (value, bet) in enumerate(zip(unit, _bets(unit, alpha), strict=True)):
        with np.errstate(divide="ignore"):
            upward += np.log1p(np.minimum(bet, BET_LIMIT / means) * (value - means))
            downward += np.log1p(-np.minimum(bet, BET_LIMIT / (1 - means)) * (value - means))
        open_means &= np.maximum(upward, downward) < log_threshold
        bounds[i] = _range(means, open_means) if open_means.any() else bounds[i - 1]
    return low + (high - low) * bounds


def _bets(unit: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """The share of the capital to bet on each value, from the values before it."""
    count = np.arange(1, len(unit) + 1)
    mean = (0.5 + np.cumsum(unit)) / (count + 1)
    variance = (0.25 + np.cumsum((unit - mean) ** 2)) / (count + 1)
    variance_before = np.concatenate([[0.25], variance[:-1]])
    return np.sqrt(2 * math.log(2 / alpha) / (variance_before * count * np.log1p(count)))


def _range(means: NDArray[np.float64], open_means: NDArray[np.bool_]) -> tuple[float, float]:
    """Of the means that are still open, with a candidate's distance added: the truth may lie between two."""
    inside = means[open_means]
    spacing = means[1]
    return max(0.0, inside[0] - spacing), min(1.0, inside[-1] + spacing)

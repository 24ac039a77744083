"""How well the first criterion, which needs no simulator, predicts the second."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion_policy.scripts.tune_sampler.choice import Comparison

LEAST = 3  # candidates, below which a correlation says nothing


@dataclass(frozen=True)
class Agreement:
    """Over the candidates that were rolled out.

    Attributes:
        n: how many.
        rank_correlation: Spearman's, of energy distance and paired score difference: -1 if farther always scores
            less; None where it is not defined.
        counts: `counts[i][j]` candidates with outcome i of the first and j of the second criterion, 1 for passed.
    """

    n: int
    rank_correlation: float | None
    counts: tuple[tuple[int, int], tuple[int, int]]

    @classmethod
    def of(cls, comparison: Comparison) -> "Agreement":
        """Count and correlate."""
        rolled_out = [m for m in comparison.candidates if m.rollout is not None]
        distances = [m.energy_distance.value for m in rolled_out]
        differences = [d.value for m in rolled_out if (d := m.difference(comparison.reference)) is not None]
        counts = np.zeros((2, 2), int)
        for m in rolled_out:
            first = m.is_near(comparison.margins)
            counts[int(first), int(bool(m.is_not_inferior(comparison.reference, comparison.margins)))] += 1
        (a, b), (c, d) = counts.tolist()
        return cls(len(rolled_out), rank_correlation(distances, differences), ((a, b), (c, d)))

    def __str__(self) -> str:
        (neither, second), (first, both) = self.counts
        text = (
            f"The first criterion as a prediction of the second, over {self.n} candidates rolled out: {both} pass "
            f"both, {neither} neither, {first} only the first, {second} only the second"
        )
        if self.rank_correlation is None:
            return f"{text}; too few for a rank correlation (--all rolls all candidates out)."
        return (
            f"{text}; rank correlation of energy distance and score difference {self.rank_correlation:+.2f}."
        )


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank; None if there are few or all are equal."""
    if len(a) < LEAST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: ArrayLike) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]

"""Tests for statistics.py."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffusion_policy.common.statistics import (
    Estimate,
    bootstrap_mean_interval,
    hierarchical_bootstrap_interval,
    mean_interval,
    paired_bootstrap_interval,
    paired_hierarchical_bootstrap_interval,
    wilson_interval,
)

scores = st.floats(0, 1, allow_subnormal=False)
samples = hnp.arrays(np.float64, st.integers(2, 30), elements=scores)
tables = hnp.arrays(np.float64, st.tuples(st.integers(2, 4), st.integers(2, 12)), elements=scores)


def test_the_mean_of_zeros_and_ones_is_a_rate():
    assert mean_interval([0.0, 0.0, 0.0]) == wilson_interval(0, 3)
    assert mean_interval([True, False]) == wilson_interval(1, 2)
    assert mean_interval([0.5, 1.0, 0.0]) == bootstrap_mean_interval([0.5, 1.0, 0.0])


class TestEstimate:
    def test_reads_as_a_result(self):
        assert str(Estimate(0.9123, 0.89, 0.931, 500)) == "0.912 [0.890, 0.931] n=500"

    def test_large_values_have_one_decimal(self):
        assert str(Estimate(123.456, 110.0, 130.06, 40)) == "123.5 [110.0, 130.1] n=40"


class TestWilson:
    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"),
        [  # Newcombe (1998), Statistics in Medicine 17, table I, method 3
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ],
    )
    def test_published_values(self, successes, n, low, high):
        estimate = wilson_interval(successes, n)
        assert estimate.value == successes / n
        assert estimate.n == n
        assert estimate.low == pytest.approx(low, abs=5e-5)
        assert estimate.high == pytest.approx(high, abs=5e-5)

    @pytest.mark.parametrize("n", [10, 50, 500])
    @pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
    def test_exact_coverage(self, n, rate):
        covered = sum(
            math.comb(n, k) * rate**k * (1 - rate) ** (n - k)
            for k in range(n + 1)
            if wilson_interval(k, n).low <= rate <= wilson_interval(k, n).high
        )
        assert 0.92 < covered < 0.98

    @given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_brackets_the_rate_and_mirrors(self, successes_and_n):
        successes, n = successes_and_n
        estimate, mirrored = wilson_interval(successes, n), wilson_interval(n - successes, n)
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        assert estimate.low < estimate.high
        assert mirrored.low == pytest.approx(1 - estimate.high, abs=1e-12)

    @pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
    def test_rejects_impossible_counts(self, successes, n):
        with pytest.raises(ValueError, match=f"successes={successes}, n={n}"):
            wilson_interval(successes, n)

    @pytest.mark.parametrize("confidence", [0, 1, 95])
    def test_rejects_confidence_outside_unit_interval(self, confidence):
        with pytest.raises(ValueError, match="confidence"):
            wilson_interval(1, 2, confidence)


class TestBootstrapMean:
    def test_large_normal_sample_agrees_with_theory(self):
        values = np.random.default_rng(0).normal(3, 2, size=2000)
        estimate = bootstrap_mean_interval(values)
        half_width = 1.96 * values.std() / math.sqrt(len(values))
        assert estimate.value == pytest.approx(values.mean())
        assert estimate.low == pytest.approx(values.mean() - half_width, abs=0.05 * half_width)
        assert estimate.high == pytest.approx(values.mean() + half_width, abs=0.05 * half_width)

    @pytest.mark.parametrize("n", [50, 200])
    def test_covers_the_mean_of_skewed_scores(self, n):
        def draw(rng):
            return np.where(rng.random(n) < 0.7, 1, rng.beta(2, 1.5, size=n))

        mean = 0.7 + 0.3 * 2 / 3.5
        estimates = [
            bootstrap_mean_interval(draw(np.random.default_rng(trial)), n_resamples=1000)
            for trial in range(600)
        ]
        coverage = np.mean([estimate.low <= mean <= estimate.high for estimate in estimates])
        assert 0.92 < coverage < 0.975

    def test_skewness_moves_the_interval_towards_the_long_tail(self):
        values = np.random.default_rng(0).exponential(size=40)
        estimate = bootstrap_mean_interval(values)
        assert estimate.high - estimate.value > 1.1 * (estimate.value - estimate.low)

    @settings(max_examples=40, deadline=None)
    @example(np.array([3e-287, 0.0]))  # squares of these vanish
    @given(samples)
    def test_stays_within_the_values(self, values):
        estimate = bootstrap_mean_interval(values, n_resamples=200)
        slack = 1e-12
        assert values.min() - slack <= estimate.low <= estimate.high <= values.max() + slack

    @settings(max_examples=40, deadline=None)
    @given(samples, st.sampled_from([0.5, 4.0]))
    def test_scales_with_the_values(self, values, scale):
        estimate = bootstrap_mean_interval(np.round(values, 3), n_resamples=200)
        scaled = bootstrap_mean_interval(scale * np.round(values, 3), n_resamples=200)
        assert scaled[:3] == pytest.approx([scale * x for x in estimate[:3]])

    def test_wider_at_higher_confidence(self):
        values = np.random.default_rng(0).random(100)
        narrow, wide = (bootstrap_mean_interval(values, confidence) for confidence in (0.8, 0.99))
        assert wide.low < narrow.low < narrow.high < wide.high

    def test_repeats_with_the_seed_and_leaves_global_state_alone(self):
        values = np.random.default_rng(0).random(100)
        state = np.random.get_state()[1].copy()  # noqa: NPY002
        assert bootstrap_mean_interval(values) == bootstrap_mean_interval(values)
        assert bootstrap_mean_interval(values) != bootstrap_mean_interval(values, seed=1)
        np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002

    def test_chunks_do_not_change_the_result(self, monkeypatch):
        values = np.random.default_rng(0).random(101)
        whole = bootstrap_mean_interval(values, n_resamples=999)
        monkeypatch.setattr("diffusion_policy.common.statistics.CHUNK_ELEMENTS", 1000)
        assert bootstrap_mean_interval(values, n_resamples=999) == whole

    def test_one_value_bounds_nothing(self):
        assert bootstrap_mean_interval([0.7]) == (0.7, -math.inf, math.inf, 1)

    def test_equal_values_are_a_point(self):
        assert bootstrap_mean_interval([0.5] * 8) == (0.5, 0.5, 0.5, 8)

    @pytest.mark.parametrize("values", [[], [[0.1, 0.2]], 0.3])
    def test_rejects_other_than_a_row_of_values(self, values):
        with pytest.raises(ValueError, match="non-empty array of 1 dimension"):
            bootstrap_mean_interval(values)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_rejects_values_that_are_not_finite(self, bad):
        with pytest.raises(ValueError, match="finite, got 1"):
            bootstrap_mean_interval([0.1, bad])

    def test_rejects_no_resamples(self):
        with pytest.raises(ValueError, match="n_resamples must be at least 1, got 0"):
            bootstrap_mean_interval([0.1, 0.2], n_resamples=0)


class TestPairedBootstrap:
    def test_common_difficulty_cancels(self):
        rng = np.random.default_rng(0)
        difficulty = rng.random(200)
        a, b = difficulty + 0.05 + rng.normal(0, 0.01, 200), difficulty + rng.normal(0, 0.01, 200)
        estimate = paired_bootstrap_interval(a, b)
        assert estimate.value == pytest.approx(0.05, abs=0.005)
        assert estimate.high - estimate.low < 0.01 < np.ptp(bootstrap_mean_interval(a)[1:3])

    def test_a_policy_against_itself_is_zero(self):
        values = np.random.default_rng(0).random(20)
        assert paired_bootstrap_interval(values, values) == (0, 0, 0, 20)

    def test_rejects_other_episodes(self):
        with pytest.raises(ValueError, match="got 3 and 2"):
            paired_bootstrap_interval([1, 2, 3], [1, 2])


def all_resampled_means(table: np.ndarray) -> np.ndarray:
    """Every equally likely draw of R - 1 rows and C - 1 columns, enumerated."""
    n_rows, n_columns = table.shape
    row_draws = product(range(n_rows), repeat=n_rows - 1)
    column_draws = list(product(range(n_columns), repeat=n_columns - 1))
    return np.array([table[np.ix_(rows, columns)].mean() for rows in row_draws for columns in column_draws])


def crossed_scores(rng, n_rows, n_columns, training_std, episode_std=0.2, residual_std=0.2):
    training = rng.normal(0, training_std, size=(n_rows, 1))
    episode = rng.normal(0, episode_std, size=(1, n_columns))
    return training + episode + rng.normal(0, residual_std, size=(n_rows, n_columns))


class TestHierarchicalBootstrap:
    def test_agrees_with_enumeration_of_all_resamples(self):
        table = np.random.default_rng(0).random((3, 4))
        estimate = hierarchical_bootstrap_interval(table, n_resamples=100_000)
        low, high = np.quantile(all_resampled_means(table), [0.025, 0.975])
        assert estimate.value == pytest.approx(table.mean())
        assert estimate.n == 12
        assert estimate.low == pytest.approx(low, abs=0.01)
        assert estimate.high == pytest.approx(high, abs=0.01)

    @pytest.mark.parametrize("training_std", [0.0, 0.05])
    def test_covers_the_mean_over_training_seeds_and_episodes(self, training_std):
        estimates = [
            hierarchical_bootstrap_interval(
                crossed_scores(np.random.default_rng(trial), 5, 100, training_std), n_resamples=500
            )
            for trial in range(300)
        ]
        coverage = np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates])
        assert 0.90 < coverage < 0.99

    def test_does_not_count_shared_episodes_twice(self):
        scores_of_one_run = np.random.default_rng(0).random(100)
        three_equal_runs = np.stack([scores_of_one_run] * 3)
        one, three = (
            bootstrap_mean_interval(scores_of_one_run),
            hierarchical_bootstrap_interval(three_equal_runs),
        )
        assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.1)

    @settings(max_examples=30, deadline=None)
    @given(tables)
    def test_stays_within_the_values(self, table):
        estimate = hierarchical_bootstrap_interval(table, n_resamples=100)
        slack = 1e-9
        assert table.min() - slack <= estimate.low <= estimate.high <= table.max() + slack

    def test_bounded_memory_over_many_resamples(self, monkeypatch):
        monkeypatch.setattr("diffusion_policy.common.statistics.CHUNK_ELEMENTS", 100)
        table = np.random.default_rng(0).random((3, 50))
        estimate = hierarchical_bootstrap_interval(table, n_resamples=301)
        assert estimate.low < estimate.value < estimate.high

    @pytest.mark.parametrize("shape", [(1, 50), (3, 1)])
    def test_rejects_a_single_training_seed_or_episode(self, shape):
        with pytest.raises(ValueError, match="at least 2 training seeds"):
            hierarchical_bootstrap_interval(np.zeros(shape))


class TestPairedHierarchicalBootstrap:
    def test_common_difficulty_cancels(self):
        rng = np.random.default_rng(0)
        difficulty = rng.random(100)
        a = difficulty + 0.1 + rng.normal(0, 0.01, size=(3, 100))
        b = difficulty + rng.normal(0, 0.01, size=(4, 100))
        estimate = paired_hierarchical_bootstrap_interval(a, b)
        assert estimate.value == pytest.approx(0.1, abs=0.01)
        assert estimate.n == 100
        assert estimate.high - estimate.low < 0.02

    def test_covers_no_difference(self):
        def estimate(trial):
            rng = np.random.default_rng(trial)
            episode = rng.normal(0, 0.2, size=100)
            a, b = (crossed_scores(rng, 5, 100, 0.05, episode_std=0) + episode for _ in range(2))
            return paired_hierarchical_bootstrap_interval(a, b, n_resamples=500)

        covered = [low <= 0 <= high for _, low, high, _ in map(estimate, range(200))]
        assert 0.87 < np.mean(covered) < 0.99

    def test_antisymmetric_in_value(self):
        rng = np.random.default_rng(0)
        a, b = rng.random((3, 20)), rng.random((3, 20))
        forward, backward = (
            paired_hierarchical_bootstrap_interval(a, b),
            paired_hierarchical_bootstrap_interval(b, a),
        )
        assert forward.value == pytest.approx(-backward.value)

    def test_rejects_other_episodes(self):
        with pytest.raises(ValueError, match="share their episodes"):
            paired_hierarchical_bootstrap_interval(np.zeros((3, 5)), np.zeros((3, 6)))

"""Tests for report.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.common.statistics import bootstrap_mean_interval, wilson_interval
from diffusion_policy.env_runner.report import EpisodeResult, RolloutResult

RESULT = RolloutResult(
    (
        EpisodeResult(100, 1.0, 40, True, 38, {"coverage": 0.96}, "media/100.mp4"),
        EpisodeResult(101, 0.5, 60, False, None, {"coverage": 0.4}),
        EpisodeResult(102, 1.0, 50, True, 50, {"coverage": 0.97}),
    ),
    wall_time_s=2.0,
)

episodes = st.builds(
    EpisodeResult,
    seed=st.integers(0, 10**9),
    score=st.floats(0, 1),
    n_steps=st.integers(1, 300),
    success=st.none() | st.booleans(),
    steps_to_success=st.none() | st.integers(1, 300),
    final=st.dictionaries(st.sampled_from(["coverage", "distance"]), st.floats(0, 1) | st.booleans()),
    video=st.none() | st.just("media/1.mp4"),
)


def test_metrics():
    metrics = RESULT.metrics()
    assert list(metrics) == ["score", "final_coverage", "success", "steps_to_success"]
    assert metrics["score"] == bootstrap_mean_interval([1, 0.5, 1])
    assert metrics["final_coverage"] == bootstrap_mean_interval([0.96, 0.4, 0.97])
    assert metrics["success"] == wilson_interval(2, 3)
    assert metrics["steps_to_success"] == bootstrap_mean_interval([38, 50])
    assert metrics["steps_to_success"].n == 2


def test_a_metric_that_is_true_or_false_has_the_interval_of_a_rate():
    rows = [EpisodeResult(i, 0.5, 10, final={"p_1": i < 3}) for i in range(4)]
    rolled_out = RolloutResult.from_json(RolloutResult(tuple(rows), 1.0).to_json())
    assert rolled_out.metrics()["final_p_1"] == wilson_interval(3, 4)


def test_what_no_episode_has_is_left_out():
    unknown = RolloutResult((EpisodeResult(0, 0.5, 10), EpisodeResult(1, 0.4, 10)), 1.0)
    assert list(unknown.metrics()) == ["score"]
    failed = RolloutResult((EpisodeResult(0, 0.5, 10, False), EpisodeResult(1, 0.4, 10, False)), 1.0)
    assert list(failed.metrics()) == ["score", "success"]


def test_table():
    assert RESULT.table().splitlines() == [
        "| metric | mean [95 % interval] |",
        "| --- | --- |",
        *(f"| {name} | {estimate} |" for name, estimate in RESULT.metrics().items()),
    ]


def test_speed():
    assert (RESULT.n_steps, RESULT.steps_per_second) == (150, 75)


@given(st.lists(episodes, min_size=1, max_size=4), st.floats(1e-3, 1e6))
def test_json_round_trip(rows, wall_time_s):
    result = RolloutResult(tuple(rows), wall_time_s)
    assert RolloutResult.from_json(result.to_json()) == result


def test_metrics_need_an_episode():
    with pytest.raises(ValueError, match="non-empty"):
        RolloutResult((), 1.0).metrics()

"""Tests for results_table.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.env_runner.report import EpisodeResult, RolloutResult
from diffusion_policy.scripts.results_table import read_method, table


def write_evaluation(folder: Path, scores: np.ndarray, first_seed: int = 100_000) -> Path:
    folder.mkdir()
    episodes = [
        EpisodeResult(first_seed + i, float(score), n_steps=300, success=bool(score > 0.99))
        for i, score in enumerate(scores)
    ]
    (folder / "episodes.json").write_text(RolloutResult(tuple(episodes), wall_time_s=1.0).to_json())
    return folder


@pytest.fixture
def evaluations(tmp_path: Path) -> dict[str, Path]:
    random = np.random.default_rng(0)
    difficulty = random.uniform(0.3, 0.9, 100)
    return {
        "a0": write_evaluation(tmp_path / "a0", difficulty + 0.1),
        "a1": write_evaluation(tmp_path / "a1", difficulty + 0.12),
        "b": write_evaluation(tmp_path / "b", difficulty),
        "elsewhere": write_evaluation(tmp_path / "elsewhere", difficulty, first_seed=0),
    }


def test_a_paired_difference_is_far_sharper_than_the_scores(evaluations: dict[str, Path]) -> None:
    methods = [
        read_method("ours={a0},{a1}".format(**evaluations)),
        read_method("control={b}".format(**evaluations)),
    ]
    header, _, ours, control = table(methods).splitlines()
    assert "score of ours minus this" in header
    assert ours.startswith("| ours | 2 x 100 | 0.7")
    low, high = (float(x) for x in control.split("|")[5].split("[")[1].rstrip("] ").split(","))
    assert 0.09 < low <= 0.11 <= high < 0.13


def test_equal_runs_differ_by_nothing(evaluations: dict[str, Path]) -> None:
    method = read_method("x={b}".format(**evaluations))
    assert "+0.000 [+0.000, +0.000]" in table([method, read_method("y={b}".format(**evaluations))])


def test_other_episodes_are_not_compared(evaluations: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="different episode seeds"):
        read_method("x={b},{elsewhere}".format(**evaluations))
    methods = [read_method("x={b}".format(**evaluations)), read_method("y={elsewhere}".format(**evaluations))]
    with pytest.raises(ValueError, match="y and x ran on different episode seeds"):
        table(methods)


def test_other_conditions_are_not_compared(evaluations: dict[str, Path]) -> None:
    for name, max_steps in (("a0", 300), ("b", 8)):
        log = {"env_runner": {"max_steps": max_steps, "n_envs": max_steps}}
        (evaluations[name] / "eval_log.json").write_text(json.dumps(log))
    with pytest.raises(ValueError, match="y and x differ in max_steps; evaluate both alike"):
        table([read_method("x={a0}".format(**evaluations)), read_method("y={b}".format(**evaluations))])


def test_a_rate_without_spread_over_runs_still_has_an_interval(tmp_path: Path) -> None:
    folders = ",".join(str(write_evaluation(tmp_path / name, np.full(50, 0.3))) for name in "ab")
    row = table([read_method(f"x={folders}")]).splitlines()[2]
    low, high = (float(x) for x in row.split("|")[4].split("[")[1].rstrip("] ").split(","))
    assert low == 0
    assert high == pytest.approx(3.84 / (50 + 3.84), abs=1e-3), "Wilson's for 0 of 50"


def test_a_folder_without_an_evaluation_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no evaluation in .*; make one with eval.py"):
        read_method(f"x={tmp_path}")


def test_a_method_needs_a_name() -> None:
    with pytest.raises(ValueError, match="expected NAME=FOLDER"):
        read_method("folder")

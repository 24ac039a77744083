"""Tests for plot_curves.py."""

from pathlib import Path

import pytest

from diffusion_policy.common.json_logger import JsonLogger
from diffusion_policy.scripts.plot_curves import plot, read_curve


def write_log(run: Path, *scores: float) -> Path:
    run.mkdir()
    with JsonLogger(run / "logs.json.txt") as logger:
        for epoch, score in enumerate(scores):
            logger.log({"global_step": 10 * epoch, "elapsed_s": 6.0 * epoch, "train_loss": 0.1})
            logger.log({"global_step": 10 * epoch + 5, "elapsed_s": 60.0 * epoch, "rollout/score": score})
    return run


def test_curve(tmp_path: Path) -> None:
    curve = read_curve(write_log(tmp_path / "run", 0.2, 0.8))
    assert curve.tolist() == [[5, 0, 0.2], [15, 1, 0.8]]


def test_a_run_without_rollouts_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run: it never rolled out"):
        read_curve(write_log(tmp_path / "run"))


def test_plot(tmp_path: Path) -> None:
    runs = [read_curve(write_log(tmp_path / f"run{i}", 0.1 * i, 0.9)) for i in range(3)]
    plot({"three runs": runs, "one": runs[:1]}, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

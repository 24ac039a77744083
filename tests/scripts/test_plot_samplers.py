"""Tests for plot_samplers.py."""

from pathlib import Path
from typing import Any

import pytest

from diffusion_policy.scripts.plot_samplers import plot


def measured(sampler: str, steps: int, score: float | None) -> dict[str, Any]:
    estimate = None if score is None else {"value": score, "low": score - 0.1, "high": score + 0.05}
    distance = {"value": 0.1 / steps, "low": 0.0, "high": 0.3 / steps}
    return {
        "sampler": sampler,
        "steps": steps,
        "ms_per_chunk": 2.0 * steps,
        "score": estimate,
        "energy_distance": distance,
    }


def test_plot(tmp_path: Path) -> None:
    figures = [
        measured("ddpm", 100, 0.9),
        measured("ddim", 2, 0.7),
        measured("ddim", 1, 0.2),
        measured("heun", 1, 0.4),
    ]
    plot({"measured": figures, "margin": 0.05}, tmp_path / "samplers.png")
    assert (tmp_path / "samplers.png").read_bytes().startswith(b"\x89PNG")


def test_without_rollouts_there_is_nothing_to_plot(tmp_path: Path) -> None:
    figures = [measured("ddpm", 100, None), measured("ddim", 2, None)]
    with pytest.raises(ValueError, match="nothing was rolled out"):
        plot({"measured": figures, "margin": 0.05}, tmp_path / "samplers.png")

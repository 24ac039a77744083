"""Score against time per chunk, a line per sampler, from what `tune-sampler --all` measured.

python -m diffusion_policy.scripts.plot_samplers tune_sampler.json samplers.png
"""

import argparse
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from diffusion_policy.common.plain_data import read_json
from diffusion_policy.common.user_errors import report_user_errors

AROUND = 0.15  # of the score, what the second panel shows


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Draw score and energy distance of every candidate that was rolled out, against its time, into a PNG.

    Args:
        figures: of `tune_sampler.json`; the first of `measured` is the reference.
        path: of the PNG.

    Raises:
        ValueError: nothing was rolled out.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('matplotlib is missing: pip install "diffusion_policy[plot]"') from error
    rolled_out = [m for m in figures["measured"] if m["score"] is not None]
    if len(rolled_out) < 2:
        raise ValueError("nothing was rolled out: run tune-sampler with --all on a task that has a simulator")
    reference, *candidates = rolled_out
    steps = sorted({m["steps"] for m in candidates})
    markers = dict(zip(steps, cycle("osD^v*Xph"), strict=False))
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, key in zip(axes, ("score", "score", "energy_distance"), strict=True):
        _draw(axis, candidates, key, markers)
    score = reference["score"]
    for axis in axes[:2]:
        axis.axhspan(score["low"], score["high"], color="grey", alpha=0.2)
        axis.axhline(score["value"], color="grey", linewidth=1)
    axes[1].set_ylim(score["value"] - 4 * AROUND / 5, score["value"] + AROUND / 5)
    axes[1].set_ylabel("score, near the reference")
    axes[2].set_ylabel("energy distance to the reference")
    margin = axes[2].axhline(figures["margin"], color="grey", linewidth=1, linestyle="--", label="margin")
    label = f"{reference['sampler']}, {reference['steps']} steps (reference)"
    axes[0].plot([], [], color="grey", label=label)
    for n in steps:
        axes[0].plot([], [], marker=markers[n], color="black", linestyle="", label=f"{n} steps")
    axes[0].legend(loc="lower right", fontsize=7, ncols=2)
    axes[2].legend(handles=[margin], loc="upper right", fontsize=8)
    figure.savefig(path, dpi=130)


def _draw(axis: Any, candidates: Sequence[Mapping[str, Any]], key: str, markers: Mapping[int, str]) -> None:
    """One line per sampler, with intervals; the marker tells the number of steps."""
    for number, name in enumerate(dict.fromkeys(m["sampler"] for m in candidates)):
        line = sorted((m for m in candidates if m["sampler"] == name), key=lambda m: m["steps"])
        times, values = [m["ms_per_chunk"] for m in line], [m[key]["value"] for m in line]
        color = f"C{number}"
        axis.plot(times, values, color=color, linewidth=1.3, label=name)
        for m, time, value in zip(line, times, values, strict=True):
            spread = [[value - m[key]["low"]], [m[key]["high"] - value]]
            axis.errorbar(
                [time], [value], spread, color=color, marker=markers[m["steps"]], markersize=5, capsize=2
            )
    axis.set_xscale("log")
    axis.set_xlabel("ms per chunk (B = 1)")
    axis.set_ylabel(key)
    axis.grid(alpha=0.3)


def main() -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description="Plot samplers: score and distance against time per chunk.")
    parser.add_argument("figures", type=Path, help="tune_sampler.json")
    parser.add_argument("path", type=Path, help="PNG to write")
    options = parser.parse_args()
    report_user_errors(lambda: plot(read_json(options.figures), options.path))


if __name__ == "__main__":
    main()

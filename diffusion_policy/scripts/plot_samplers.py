"""Score against time per chunk, a line per sampler, from what `tune-sampler --all` measured.

python -m diffusion_policy.scripts.plot_samplers tune_sampler.json samplers.png
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusion_policy.common.plain_data import read_json
from diffusion_policy.common.user_errors import report_user_errors


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Draw every candidate that was rolled out, with its number of steps, and the reference's score, into a PNG.

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
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for name in dict.fromkeys(m["sampler"] for m in candidates):
        line = [m for m in candidates if m["sampler"] == name]
        line.sort(key=lambda m: m["steps"])
        times = [m["ms_per_chunk"] for m in line]
        for axis, key in zip(axes, ("score", "energy_distance"), strict=True):
            values = [m[key]["value"] for m in line]
            spread = [
                [m[key]["value"] - m[key]["low"] for m in line],
                [m[key]["high"] - m[key]["value"] for m in line],
            ]
            axis.errorbar(
                times, values, spread, marker="o", markersize=4, linewidth=1.4, capsize=2, label=name
            )
            for m, value in zip(line, values, strict=True):
                axis.annotate(
                    str(m["steps"]), (m["ms_per_chunk"], value), (3, 4), textcoords="offset points", size=7
                )
    score = reference["score"]
    axes[0].axhspan(score["low"], score["high"], color="grey", alpha=0.2)
    label = f"{reference['sampler']}, {reference['steps']} steps (reference)"
    axes[0].axhline(score["value"], color="grey", linewidth=1, label=label)
    axes[1].axhline(figures["margin"], color="grey", linewidth=1, linestyle="--", label="margin")
    for axis, label in zip(axes, ("score", "energy distance to the reference"), strict=True):
        axis.set_xscale("log")
        axis.set_xlabel("ms per chunk (B = 1); numbers: steps")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].legend(loc="lower right", fontsize=8)
    axes[1].legend(loc="upper right", fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description="Plot samplers: score and distance against time per chunk.")
    parser.add_argument("figures", type=Path, help="tune_sampler.json")
    parser.add_argument("path", type=Path, help="PNG to write")
    options = parser.parse_args()
    report_user_errors(lambda: plot(read_json(options.figures), options.path))


if __name__ == "__main__":
    main()

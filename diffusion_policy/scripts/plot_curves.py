"""Learning curves of runs: score on the selection seeds against optimizer steps and against minutes.

    python -m diffusion_policy.scripts.plot_curves curves.png "206 episodes=run0,run1,run2" "90 episodes=run3"

Each argument names a curve and the output folders of its runs (`train.py`). Thin lines are runs, thick ones means.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diffusion_policy.common.json_logger import read_json_log
from diffusion_policy.common.user_errors import report_user_errors

SCORE = "rollout/score"


def read_curve(run: Path) -> np.ndarray:
    """Read (steps, minutes, score) of every rollout of a run, (n, 3).

    Raises:
        ValueError: when the run never rolled out.
    """
    path = run / "logs.json.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{run} is not the folder of a training run: there is no {path}")
    rollouts = read_json_log(path, required_keys=[SCORE])
    records = [record for record in rollouts if "elapsed_s" in record]  # a control took no time
    if not records:
        raise ValueError(f"{run}: it never rolled out while it trained; train with training.rollout_every=1")
    return np.array([[r["global_step"], r["elapsed_s"] / 60, r[SCORE]] for r in records])


def plot(curves: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Draw the curves, each a list of runs (n, 3) as of `read_curve`, into a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('matplotlib is missing: pip install "diffusion_policy[plot]"') from error
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for column, (axis, label) in enumerate(
        zip(axes, ["optimizer steps", "minutes on this machine"], strict=True)
    ):
        for i, (name, runs) in enumerate(curves.items()):
            for run in runs:
                axis.plot(run[:, column], run[:, 2], color=f"C{i}", linewidth=0.8, alpha=0.5, marker=".")
            common = min(len(run) for run in runs)  # a run may not have finished
            average = np.mean([run[:common] for run in runs], axis=0)
            axis.plot(average[:, column], average[:, 2], color=f"C{i}", linewidth=2.2, label=name)
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("score on selection seeds")
    axes[0].legend(loc="lower right")
    figure.savefig(path, dpi=130)


def main() -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description="Plot learning curves.")
    parser.add_argument("path", type=Path, help="PNG to write")
    parser.add_argument("curve", nargs="+", help="NAME=RUN[,RUN...]")
    options = parser.parse_args()
    named = [text.partition("=") for text in options.curve]

    def run() -> None:
        curves = {name: [read_curve(Path(r)) for r in runs.split(",")] for name, _, runs in named}
        plot(curves, options.path)

    report_user_errors(run)


if __name__ == "__main__":
    main()

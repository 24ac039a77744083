"""A table of scores from evaluations, with intervals over training seeds and paired differences.

    python -m diffusion_policy.scripts.results_table "diffusion=out/d0,out/d1,out/d2" "nearest neighbour=out/nn"

Each argument names a method and the output folders of its evaluations (`eval.py`), one per training seed. All must
have run on the same episode seeds; methods are compared with the first one, episode by episode.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.cli import report_user_errors
from diffusion_policy.common.statistics import (
    Estimate,
    bootstrap_mean_interval,
    hierarchical_bootstrap_interval,
    paired_bootstrap_interval,
    paired_hierarchical_bootstrap_interval,
    wilson_interval,
)
from diffusion_policy.env_runner.report import RolloutResult


@dataclass
class Method:
    """All evaluations of one method.

    Attributes:
        name: as shown in the table.
        seeds: of the episodes, (C,).
        scores: (R, C), one row per training seed.
        successes: (R, C), 0 or 1.
        conditions: what else must be equal to compare episodes, such as the environment and its time limit.
    """

    name: str
    seeds: np.ndarray
    scores: np.ndarray
    successes: np.ndarray
    conditions: dict[str, Any]


def read_method(text: str) -> Method:
    """Read `NAME=FOLDER,FOLDER,...`.

    Raises:
        ValueError: the text has another form, or the evaluations ran on different episodes.
    """
    name, separator, folders = text.partition("=")
    if not separator or not folders:
        raise ValueError(f"expected NAME=FOLDER[,FOLDER...], got {text!r}")
    results = [_read_episodes(Path(folder)) for folder in folders.split(",")]
    seeds = [[episode.seed for episode in result.episodes] for result in results]
    if any(other != seeds[0] for other in seeds):
        raise ValueError(f"{name}: its evaluations ran on different episode seeds, which cannot be compared")
    scores = [[episode.score for episode in result.episodes] for result in results]
    successes = [[float(bool(episode.success)) for episode in result.episodes] for result in results]
    conditions = _read_conditions(Path(folders.split(",")[0]))
    return Method(name, np.array(seeds[0]), np.array(scores), np.array(successes), conditions)


def _read_episodes(folder: Path) -> RolloutResult:
    path = folder / "episodes.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"no evaluation in {folder}: there is no {path}; make one with eval.py -o {folder}"
        )
    return RolloutResult.from_json(path.read_text())


def _read_conditions(folder: Path) -> dict[str, Any]:
    """From the log of an evaluation; what it does not say is not compared."""
    path = folder / "eval_log.json"
    runner = json.loads(path.read_text()).get("env_runner", {}) if path.is_file() else {}
    return {name: runner[name] for name in ("env", "max_steps", "reset_options") if name in runner}


def mean(values: np.ndarray) -> Estimate:
    """Mean of (R, C) values with its interval: over training seeds too where there are several."""
    return bootstrap_mean_interval(values[0]) if len(values) == 1 else hierarchical_bootstrap_interval(values)


def rate(values: np.ndarray) -> Estimate:
    """Success rate of (R, C) values of 0 or 1 with its interval.

    Where all runs always or never succeed, resampling sees no spread: the interval is that of one run.
    """
    if len(values) == 1 or np.ptp(values) == 0:
        return wilson_interval(int(values[0].sum()), values.shape[1])
    return hierarchical_bootstrap_interval(values)


def difference(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Mean of a - b, (Ra, C) and (Rb, C), paired by episode; a single row stands for a method without training."""
    if len(a) == 1 and len(b) == 1:
        return paired_bootstrap_interval(a[0], b[0])
    if len(a) == 1 or len(b) == 1:
        return hierarchical_bootstrap_interval(a - b)
    return paired_hierarchical_bootstrap_interval(a, b)


def table(methods: Sequence[Method]) -> str:
    """Markdown: score and success of each method, and how much the first one is above it."""
    first = methods[0]
    rows = [
        f"| method | runs x episodes | score | success | score of {first.name} minus this |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method in methods:
        if not np.array_equal(method.seeds, first.seeds):
            raise ValueError(
                f"{method.name} and {first.name} ran on different episode seeds; evaluate both alike"
            )
        differing = [
            name for name, value in method.conditions.items() if first.conditions.get(name, value) != value
        ]
        if differing:
            raise ValueError(
                f"{method.name} and {first.name} differ in {', '.join(differing)}; evaluate both alike"
            )
        above = "" if method is first else _text(difference(first.scores, method.scores), sign="+")
        runs, episodes = method.scores.shape
        score, success = _text(mean(method.scores)), _text(rate(method.successes))
        rows.append(f"| {method.name} | {runs} x {episodes} | {score} | {success} | {above} |")
    return "\n".join(rows)


def _text(estimate: Estimate, sign: str = "") -> str:
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"


def main() -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(description="Compare evaluations on equal episode seeds.")
    parser.add_argument("method", nargs="+", help="NAME=FOLDER[,FOLDER...], one folder per training seed")
    options = parser.parse_args()
    report_user_errors(lambda: print(table([read_method(text) for text in options.method])))


if __name__ == "__main__":
    main()

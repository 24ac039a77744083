"""Methods side by side: scores over training seeds and episodes, and paired differences on equal episode seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffusion_policy.common.statistics import (
    Estimate,
    bootstrap_mean_interval,
    hierarchical_bootstrap_interval,
    paired_bootstrap_interval,
    paired_hierarchical_bootstrap_interval,
    wilson_interval,
)
from diffusion_policy.env_runner.report import RolloutResult

EPISODES = "episodes.json"
MARGIN = 0.02  # differences within +- this are called equal


@dataclass
class Method:
    """All evaluations of one method.

    Attributes:
        name: as shown in the table.
        seeds: of the episodes, (C,).
        scores: (R, C), one row per training seed.
        successes: (R, C), 0 or 1.
    """

    name: str
    seeds: np.ndarray
    scores: np.ndarray
    successes: np.ndarray


def read_method(text: str) -> Method:
    """Read `[NAME=]FOLDER[,FOLDER...]`, the output folders of `eval.py`; without a name the folders are it.

    Raises:
        FileNotFoundError: a folder holds no evaluation.
        ValueError: the evaluations ran on different episodes.
    """
    name, folders = split_name(text)
    results = [_read_episodes(Path(folder)) for folder in folders]
    return method_of(name, results)


def split_name(text: str) -> tuple[str, list[str]]:
    """Take `[NAME=]PATH[,PATH...]` apart; a checkpoint's own name may hold a `=`."""
    name, separator, paths = text.partition("=")
    if not separator or Path(text.split(",")[0]).exists():
        name, paths = text, text
    if not paths.strip(","):
        raise ValueError(f"expected [NAME=]FOLDER[,FOLDER...], got {text!r}")
    return name, [path for path in paths.split(",") if path]


def _read_episodes(folder: Path) -> RolloutResult:
    path = folder / EPISODES
    if not path.is_file():
        raise FileNotFoundError(
            f"no evaluation in {folder}: there is no {path}; make one with eval.py -o {folder}"
        )
    return RolloutResult.from_json(path.read_text())


def method_of(name: str, results: Sequence[RolloutResult]) -> Method:
    """Put the evaluations of one method together, one per training seed.

    Raises:
        ValueError: they ran on different episodes.
    """
    seeds = [[episode.seed for episode in result.episodes] for result in results]
    if any(other != seeds[0] for other in seeds):
        raise ValueError(f"{name}: its evaluations ran on different episode seeds, which cannot be compared")
    scores = [[episode.score for episode in result.episodes] for result in results]
    successes = [[float(bool(episode.success)) for episode in result.episodes] for result in results]
    return Method(name, np.array(seeds[0]), np.array(scores), np.array(successes))


def mean(values: np.ndarray) -> Estimate:
    """Mean of (R, C) values with its interval: over training seeds too where there are several."""
    return bootstrap_mean_interval(values[0]) if len(values) == 1 else hierarchical_bootstrap_interval(values)


def rate(values: np.ndarray) -> Estimate:
    """Success rate of (R, C) values of 0 or 1 with its interval."""
    if len(values) == 1:
        return wilson_interval(int(values.sum()), values.size)
    return hierarchical_bootstrap_interval(values)


def difference(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Mean of a - b, (Ra, C) and (Rb, C), paired by episode; a single row stands for a method without training."""
    if len(a) == 1 and len(b) == 1:
        return paired_bootstrap_interval(a[0], b[0])
    if len(a) == 1 or len(b) == 1:
        return hierarchical_bootstrap_interval(a - b)
    return paired_hierarchical_bootstrap_interval(a, b)


def verdict(estimate: Estimate, margin: float = MARGIN) -> str:
    """What the interval of a difference allows to say."""
    if estimate.low > 0:
        return "higher"
    if estimate.high < 0:
        return "lower"
    return f"equal within {margin}" if max(-estimate.low, estimate.high) <= margin else "undecided"


def columns(methods: Sequence[Method]) -> list[str]:
    """Headings of `rows`."""
    return [
        "method",
        "runs x episodes",
        "score",
        "success",
        f"score of {methods[0].name} minus this",
        "it is",
    ]


def rows(methods: Sequence[Method]) -> list[list[str]]:
    """Score and success of each method, and how much the first one is above it, as text."""
    first = methods[0]
    cells = []
    for method in methods:
        if not np.array_equal(method.seeds, first.seeds):
            raise ValueError(
                f"{method.name} and {first.name} ran on different episode seeds; evaluate both alike"
            )
        runs, episodes = method.scores.shape
        row = [method.name, f"{runs} x {episodes}", text(mean(method.scores)), text(rate(method.successes))]
        above = difference(first.scores, method.scores)
        cells.append([*row, *(["", ""] if method is first else [text(above, sign="+"), verdict(above)])])
    return cells


def markdown(methods: Sequence[Method]) -> str:
    """The table as Markdown."""
    headings = columns(methods)
    lines = [headings, ["---"] * len(headings), *rows(methods)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def text(estimate: Estimate, sign: str = "") -> str:
    """An estimate with its interval, three decimals."""
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"

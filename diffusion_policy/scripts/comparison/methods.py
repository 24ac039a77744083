"""Methods side by side: scores over training seeds and episodes, and paired differences on equal episode seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.plain_data import read_json
from diffusion_policy.common.statistics import (
    Estimate,
    hierarchical_bootstrap_interval,
    mean_interval,
    paired_bootstrap_interval,
    paired_hierarchical_bootstrap_interval,
    wilson_interval,
)
from diffusion_policy.env_runner.report import RolloutResult
from diffusion_policy.scripts.evaluation_files import EPISODES, EVAL_LOG

CONDITIONS = (
    "env",
    "max_steps",
    "reset_options",
)  # of the environment runner: what must be equal beside seeds
MARGIN = 0.02  # differences within +- this are called equal


@dataclass
class Method:
    """All evaluations of one method.

    Attributes:
        name: as shown in the table.
        seeds: of the episodes, (C,).
        scores: (R, C), one row per training seed.
        successes: (R, C), 0 or 1.
        conditions: the environment and its time limit, as far as they are known.
    """

    name: str
    seeds: np.ndarray
    scores: np.ndarray
    successes: np.ndarray
    conditions: dict[str, Any] = field(default_factory=dict)


def read_method(text: str) -> Method:
    """Read `[NAME=]FOLDER[,FOLDER...]`, the output folders of `eval.py`; without a name the folders are it.

    Raises:
        FileNotFoundError: a folder holds no evaluation.
        ValueError: the evaluations ran on different episodes or under different conditions.
    """
    name, folders = split_name(text)
    method = method_of(name, [_read_episodes(Path(folder)) for folder in folders])
    for folder in folders:
        conditions = _read_conditions(Path(folder))
        _check_conditions(conditions, method.conditions, f"{name}: {folder} and those before it")
        method.conditions |= conditions
    return method


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
    return RolloutResult.read(path)


def _read_conditions(folder: Path) -> dict[str, Any]:
    """From the log of an evaluation; what it does not say is not compared."""
    path = folder / EVAL_LOG
    runner = read_json(path).get("env_runner", {}) if path.is_file() else {}
    return {name: runner[name] for name in CONDITIONS if name in runner}


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
    return mean_interval(values[0]) if len(values) == 1 else hierarchical_bootstrap_interval(values)


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


def verdict(estimate: Estimate, margin: float = MARGIN) -> str:
    """What the interval of a difference of scores in [0, 1] allows to say."""
    if estimate.low == estimate.high:
        estimate = _unseen_spread(estimate)
    if estimate.low > 0:
        return "higher"
    if estimate.high < 0:
        return "lower"
    return f"equal within {margin}" if max(-estimate.low, estimate.high) <= margin else "undecided"


def _unseen_spread(estimate: Estimate) -> Estimate:
    """The interval where all n differences are equal: of others, this share may be different though none was seen."""
    share = 1 - 0.025 ** (1 / estimate.n)  # 95 %, two-sided
    width = (1 + abs(estimate.value)) * share
    return estimate._replace(low=estimate.value - width, high=estimate.value + width)


@dataclass(frozen=True)
class Table:
    """Headings and rows of text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def score_table(methods: Sequence[Method]) -> Table:
    """Score and success of each method on its own.

    Raises:
        ValueError: the methods ran on different episode seeds or under different conditions.
    """
    _check_comparable(methods)
    rows = []
    for method in methods:
        runs, episodes = method.scores.shape
        score, success = text(mean(method.scores)), text(rate(method.successes))
        rows.append((method.name, f"{runs} x {episodes}", score, success))
    return Table(("method", "runs x episodes", "score", "success"), tuple(rows))


def difference_table(methods: Sequence[Method]) -> Table:
    """The score table, and how much the first method is above each other one on equal episodes."""
    scores, first = score_table(methods), methods[0]
    above = [difference(first.scores, method.scores) for method in methods[1:]]
    said = [("", ""), *((text(estimate, sign="+"), verdict(estimate)) for estimate in above)]
    rows = tuple((*row, *more) for row, more in zip(scores.rows, said, strict=True))
    return Table((*scores.columns, f"score of {first.name} minus this", "it is"), rows)


def _check_comparable(methods: Sequence[Method]) -> None:
    first = methods[0]
    for method in methods:
        if not np.array_equal(method.seeds, first.seeds):
            raise ValueError(
                f"{method.name} and {first.name} ran on different episode seeds; evaluate both alike"
            )
        _check_conditions(method.conditions, first.conditions, f"{method.name} and {first.name}")


def _check_conditions(a: dict[str, Any], b: dict[str, Any], names: str) -> None:
    differing = [key for key, value in a.items() if b.get(key, value) != value]
    if differing:
        raise ValueError(f"{names} differ in {', '.join(differing)}; evaluate both alike")


def text(estimate: Estimate, sign: str = "") -> str:
    """An estimate with its interval, three decimals."""
    return f"{estimate.value:{sign}.3f} [{estimate.low:{sign}.3f}, {estimate.high:{sign}.3f}]"

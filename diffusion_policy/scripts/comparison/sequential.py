"""Roll two policies out on the same episode seeds, batch by batch, until it is clear which one is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.common.checkpoint import Checkpoint, find_checkpoint
from diffusion_policy.common.confidence_sequence import confidence_sequence
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.env_runner.report import RolloutResult
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.scripts.comparison.methods import CONDITIONS, MARGIN
from diffusion_policy.scripts.evaluate import check_has_simulator
from diffusion_policy.scripts.evaluation_files import EPISODES

Metric = Literal["score", "success"]


@dataclass(frozen=True)
class SequentialComparison:
    """How a comparison went.

    Attributes:
        results: the episodes of both policies, on the same seeds.
        bounds: (n, 2) of the mean difference a - b after each episode, valid whenever one stops.
        metric: what was compared.
        verdict: `a`, `b`, `equal` or `undecided`.
    """

    results: tuple[RolloutResult, RolloutResult]
    bounds: NDArray[np.float64]
    metric: Metric
    verdict: Literal["a", "b", "equal", "undecided"]

    def __str__(self) -> str:
        differences = _differences(self.results, self.metric)
        low, high = self.bounds[-1]
        said = {"a": "the first is better", "b": "the second is better", "equal": "they are equal"}
        return (
            f"after {len(differences)} episodes each, {self.metric} of the first minus the second is "
            f"{differences.mean():+.3f}, within [{low:+.3f}, {high:+.3f}] (95 %, whenever one stops): "
            f"{said.get(self.verdict, 'undecided; more episodes or a wider margin would tell')}"
        )


def compare_sequentially(
    paths: tuple[Path | str, Path | str],
    output_dir: Path | str,
    seeds: Sequence[int],
    *,
    metric: Metric = "score",
    margin: float = MARGIN,
    batch: int = 50,
    device: str = "auto",
    trusted_targets: Sequence[str] = (),
) -> SequentialComparison:
    """Roll out until the difference is known to be positive, negative or smaller than `margin`, or seeds run out.

    Args:
        paths: two checkpoints or run folders.
        output_dir: for the episodes of both, below `a` and `b`, as `eval.py` writes them; also of a run that
            is stopped.
        seeds: of the environments, in the order in which they are used.
        metric: `score` (best reward of an episode, in [0, 1]) or `success`.
        margin: differences within +- this count as equal.
        batch: episodes of each policy between two looks at the result.
        device: of the policies.
        trusted_targets: full names outside this package that the configurations may build.

    Raises:
        ValueError: the policies are of different tasks, or of one without a simulator; or `batch` is not positive.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1 episode, got {batch}")
    checkpoints = find_checkpoint(paths[0]), find_checkpoint(paths[1])
    _check_same_task(*checkpoints)
    policies = [load_policy(c.path, device, trusted_targets=trusted_targets) for c in checkpoints]
    episodes: tuple[list[Any], list[Any]] = ([], [])
    wall_time_s = [0.0, 0.0]
    with tqdm(total=2 * len(seeds), desc="compare", unit="episode") as bar:
        for first in range(0, len(seeds), batch):
            for i, (checkpoint, policy) in enumerate(zip(checkpoints, policies, strict=True)):
                runner = instantiate(
                    checkpoint.config()["task"]["env_runner"],
                    trusted_targets,
                    seeds=list(seeds[first : first + batch]),
                )
                result = runner.run(policy, progress=False)
                episodes[i].extend(result.episodes)
                wall_time_s[i] += result.wall_time_s
                bar.update(len(result.episodes))
            results = tuple(RolloutResult(tuple(e), t) for e, t in zip(episodes, wall_time_s, strict=True))
            comparison = _judge((results[0], results[1]), metric, margin)
            for name, result in zip("ab", results, strict=True):
                atomic_write_text(Path(output_dir) / name / EPISODES, result.to_json())
            low, high = comparison.bounds[-1]
            bar.set_postfix_str(f"difference in [{low:+.3f}, {high:+.3f}]")
            if comparison.verdict != "undecided":
                break
    return comparison


def _judge(
    results: tuple[RolloutResult, RolloutResult], metric: Metric, margin: float
) -> SequentialComparison:
    bounds = confidence_sequence(_differences(results, metric))
    low, high = bounds[-1]
    verdict: Literal["a", "b", "equal", "undecided"] = "undecided"
    if low > 0:
        verdict = "a"
    elif high < 0:
        verdict = "b"
    elif max(-low, high) <= margin:
        verdict = "equal"
    return SequentialComparison(results, bounds, metric, verdict)


def _differences(results: tuple[RolloutResult, RolloutResult], metric: Metric) -> NDArray[np.float64]:
    values = [[float(getattr(episode, metric)) for episode in result.episodes] for result in results]
    return np.array(values[0]) - np.array(values[1])


def _check_same_task(a: Checkpoint, b: Checkpoint) -> None:
    for checkpoint in (a, b):
        check_has_simulator(checkpoint)
    runners = [checkpoint.config()["task"]["env_runner"] for checkpoint in (a, b)]
    different = [name for name in CONDITIONS if runners[0].get(name) != runners[1].get(name)]
    if different:
        raise ValueError(
            f"{a.path} and {b.path} are of different tasks: their env_runner differ in {', '.join(different)}"
        )

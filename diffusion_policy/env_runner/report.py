"""What a rollout returns: one row per episode, and the metrics with their intervals."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from diffusion_policy.common.statistics import (
    Estimate,
    bootstrap_mean_interval,
    mean_interval,
    wilson_interval,
)


@dataclass(frozen=True)
class EpisodeResult:
    """One episode.

    Attributes:
        seed: Of the environment.
        score: Largest reward of a step, or the last `info["score"]` where the environment has that; in [0, 1] in this
            package's environments.
        n_steps: Environment steps.
        success: Whether `info["is_success"]` was true after any step; None if the environment never says.
        steps_to_success: Steps up to and including the first success.
        final: Metrics of the last step by name, such as `{"coverage": 0.93}` or `{"p_1": True}`.
        video: Path of the recording, relative to the output directory.
    """

    seed: int
    score: float
    n_steps: int
    success: bool | None = None
    steps_to_success: int | None = None
    final: dict[str, float | bool] = field(default_factory=dict)
    video: str | None = None


@dataclass(frozen=True)
class RolloutResult:
    """All episodes of a rollout, in the order of the seeds, and how long it took.

    Attributes:
        episodes: One entry per seed.
        wall_time_s: From the first reset to the last step, policy included.
    """

    episodes: tuple[EpisodeResult, ...]
    wall_time_s: float

    @property
    def n_steps(self) -> int:
        """Environment steps of all episodes."""
        return sum(episode.n_steps for episode in self.episodes)

    @property
    def steps_per_second(self) -> float:
        """Environment steps per second of wall time, summed over parallel environments."""
        return self.n_steps / self.wall_time_s

    def metrics(self) -> dict[str, Estimate]:
        """Means with 95 % intervals.

        Returns:
            `score` and `final_<metric>` (bootstrap; Wilson if all are 0 or 1), `success` (Wilson) and
            `steps_to_success` (bootstrap; mean over the successful episodes, whose number is its n). What no
            episode has is left out.
        """
        successes = [episode.success for episode in self.episodes if episode.success is not None]
        metrics = {"score": mean_interval([episode.score for episode in self.episodes])}
        metrics |= {f"final_{name}": mean_interval(values) for name, values in self._finals()}
        if successes:
            metrics["success"] = wilson_interval(sum(successes), len(successes))
        if any(successes):
            steps = [e.steps_to_success for e in self.episodes if e.steps_to_success is not None]
            metrics["steps_to_success"] = bootstrap_mean_interval(steps)
        return metrics

    def _finals(self) -> Iterator[tuple[str, list[float | bool]]]:
        names = dict.fromkeys(name for episode in self.episodes for name in episode.final)
        for name in names:
            yield name, [episode.final[name] for episode in self.episodes if name in episode.final]

    def table(self) -> str:
        """The metrics as a Markdown table."""
        rows = ["| metric | mean [95 % interval] |", "| --- | --- |"]
        rows += [f"| {name} | {estimate} |" for name, estimate in self.metrics().items()]
        return "\n".join(rows)

    def to_json(self) -> str:
        """The per-episode table and the time, as JSON text."""
        content = {"wall_time_s": self.wall_time_s, "steps_per_second": self.steps_per_second}
        rows = ",\n".join(json.dumps(asdict(episode)) for episode in self.episodes)  # a line per episode
        return f'{{"summary": {json.dumps(content)},\n"episodes": [\n{rows}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> "RolloutResult":
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else, or holds no episodes.
        """
        try:
            content = json.loads(text)
            episodes = tuple(EpisodeResult(**episode) for episode in content["episodes"])
            wall_time_s = float(content["summary"]["wall_time_s"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"these are not the episodes of a rollout ({error!r}); evaluate the policy again"
            ) from error
        if not episodes:
            raise ValueError("there are no episodes in this rollout; evaluate the policy again")
        return cls(episodes, wall_time_s)

    @classmethod
    def read(cls, path: Path) -> "RolloutResult":
        """Read a file with what `to_json` wrote.

        Raises:
            ValueError: it holds something else; names the file.
        """
        try:
            return cls.from_json(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

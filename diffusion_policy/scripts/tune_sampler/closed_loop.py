"""Rollouts of one policy with different samplers on the same seeds; those already made are not repeated."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.common.plain_data import read_json
from diffusion_policy.common.provenance import provenance
from diffusion_policy.env_runner.env_runner import EnvRunner
from diffusion_policy.env_runner.report import RolloutResult
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from diffusion_policy.scripts.evaluation_files import EPISODES, EVAL_LOG
from diffusion_policy.scripts.tune_sampler.candidates import Candidate


@dataclass(frozen=True)
class ClosedLoop:
    """Rolls a policy out with any candidate.

    Attributes:
        policy: whose sampler is set.
        runner: with the seeds.
        made_of: what else the episodes depend on, plain data: the weights, the `env_runner`.
        folder: where episodes are kept, a folder for each candidate.
    """

    policy: DiffusionPolicy
    runner: EnvRunner
    made_of: Mapping[str, Any]
    folder: Path

    @property
    def seeds(self) -> Sequence[int]:
        """Of the environments, one per episode."""
        return self.runner.seeds

    def roll_out(self, candidate: Candidate) -> RolloutResult:
        """The episodes of a candidate, made now or in an earlier run."""
        folder = self.folder / f"{candidate.sampler}_{candidate.steps}"
        made_of = {**self.made_of, "sampler": candidate.config}
        earlier = self._earlier(folder, made_of)
        if earlier is not None:
            return earlier
        self.policy.sampler = candidate.build()
        result = self.runner.run(self.policy)
        (folder / EVAL_LOG).unlink(missing_ok=True)  # it may be of other episodes
        atomic_write_text(folder / EPISODES, result.to_json())
        log = made_of | {"provenance": provenance(self.policy.device)}
        atomic_write_text(folder / EVAL_LOG, json.dumps(log, indent=2))
        return result

    def _earlier(self, folder: Path, made_of: Mapping[str, Any]) -> RolloutResult | None:
        if not (folder / EVAL_LOG).is_file():
            return None
        log = read_json(folder / EVAL_LOG)
        if any(log.get(name) != value for name, value in made_of.items()):
            return None
        result = RolloutResult.read(folder / EPISODES)
        return result if [episode.seed for episode in result.episodes] == list(self.seeds) else None

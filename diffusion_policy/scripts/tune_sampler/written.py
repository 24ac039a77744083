"""What tuning leaves: a table, all figures, and the choice beside the weights."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import yaml

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.common.checkpoint import Checkpoint
from diffusion_policy.common.provenance import provenance
from diffusion_policy.common.statistics import Estimate
from diffusion_policy.policy.sampler_choice import TUNED_FILE
from diffusion_policy.scripts.comparison.methods import Table, text
from diffusion_policy.scripts.tune_sampler.agreement import Agreement
from diffusion_policy.scripts.tune_sampler.candidates import Candidate
from diffusion_policy.scripts.tune_sampler.choice import Comparison, Measured
from diffusion_policy.scripts.tune_sampler.closed_loop import ClosedLoop

FIGURES = "tune_sampler.json"
COLUMNS = (
    *("sampler", "steps", "denoiser calls", "ms per chunk", "energy distance", "score", "success"),
    *("score minus reference's", "verdict"),
)


@dataclass(frozen=True)
class Tuning:
    """A choice and what it rests on.

    Attributes:
        checkpoint: whose sampler it is.
        device: on which times were measured.
        comparison: of the candidates; the reference's own distance is that of half of its samples to the others.
        observations: at which actions were sampled, in words.
        n_samples: at each of them.
        loop: how candidates were rolled out; None if they were not.
        own: the checkpoint's own sampler, if it was measured.
    """

    checkpoint: Checkpoint
    device: torch.device
    comparison: Comparison
    observations: str
    n_samples: int
    loop: ClosedLoop | None
    own: Candidate | None = None

    def __str__(self) -> str:
        table = Table(COLUMNS, tuple(self._row(m) for m in _all(self.comparison)))
        parts = [
            f"At {self.observations}, {self.n_samples} samples each; times on {self.device.type}.",
            table.markdown(),
            self.reason(),
        ]
        if self.comparison.reference.rollout is not None:
            parts += [self._meaning(), str(Agreement.of(self.comparison))]
        return "\n\n".join(parts)

    def _row(self, measured: Measured) -> tuple[str, ...]:
        score, success = measured.score(), measured.success()
        difference = measured.difference(self.comparison.reference)
        is_reference = measured is self.comparison.reference
        return (
            measured.candidate.sampler,
            str(measured.candidate.steps),
            str(measured.denoiser_calls),
            f"{measured.ms_per_chunk:.1f}",
            text(measured.energy_distance),
            "" if score is None else text(score),
            "" if success is None else text(success),
            "" if difference is None or is_reference else text(difference, sign="+"),
            self.comparison.verdict(measured),
        )

    def reason(self) -> str:
        """Why the choice is what it is, a sentence or two."""
        comparison, chosen = self.comparison, self.comparison.chosen
        if chosen is comparison.reference:
            return f"No candidate passes, so the reference stays: {chosen.candidate}.{self._what_to_do()}"
        times = comparison.reference.ms_per_chunk / chosen.ms_per_chunk
        said = (
            f"Chosen: {chosen.candidate}, {times:.2g} times as fast as {comparison.reference.candidate}. Its energy "
            f"distance {text(chosen.energy_distance)} is below {comparison.margins.energy_distance:g}"
        )
        difference = chosen.difference(comparison.reference)
        if difference is None:
            return f"{said}. Scores were not compared: the energy distance alone decides."
        return (
            f"{said}, and its score minus the reference's, {text(difference, sign='+')} over {difference.n} seeds, "
            f"is above -{comparison.margins.score:g}."
        )

    def _what_to_do(self) -> str:
        """Of a choice that makes the policy slower, and of measurements that decide nothing."""
        comparison = self.comparison
        said = ""
        own = next((m for m in comparison.candidates if m.candidate == self.own), None)
        if own is not None and own.cost_ms < comparison.reference.cost_ms:
            times = comparison.reference.ms_per_chunk / own.ms_per_chunk
            said += f" The checkpoint's own, {own.candidate}, is {times:.2g} times as fast; it did not pass."
        undecided = sum(m.is_undecided(comparison.margins) for m in comparison.candidates)
        if undecided:
            said += (
                f" The energy distance of {undecided} is undecided: its interval reaches across the margin; a larger "
                f"--n_observations or --n_samples narrows it."
            )
        return said

    def _meaning(self) -> str:
        looks = self.comparison.n_looks
        tried = f"{looks} candidates were" if looks != 1 else "1 candidate was"
        return (
            f"Intervals are at 95 %, each for itself. {tried} tried in closed loop on the same seeds up to the "
            f"choice: that one is accepted though it is worse by more than the margin has a probability of at most "
            f"{2.5 * max(looks, 1):g} %. A score to report comes from eval.py --sampler tuned, on seeds that chose "
            f"nothing."
        )


def check_not_tuned(checkpoint: Checkpoint, overwrite: bool) -> None:
    """Refuse to replace an earlier choice unasked.

    Raises:
        FileExistsError: there is one.
    """
    path = checkpoint.path / TUNED_FILE
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: a sampler was chosen already; add --overwrite to choose again")


def write_tuning(tuning: Tuning, overrides: Sequence[str]) -> None:
    """Write the figures, then the choice, beside the weights."""
    folder = tuning.checkpoint.path
    atomic_write_text(folder / FIGURES, json.dumps(_figures(tuning, overrides), indent=2))
    config = yaml.safe_dump(tuning.comparison.chosen.candidate.config, sort_keys=False)
    comment = f"# By diffusion-policy tune-sampler, from the figures in {FIGURES}. {tuning.reason()}\n"
    atomic_write_text(folder / TUNED_FILE, comment + config)


def _figures(tuning: Tuning, overrides: Sequence[str]) -> dict[str, Any]:
    comparison = tuning.comparison
    agreement = Agreement.of(comparison)
    return {
        "checkpoint": str(tuning.checkpoint.path),
        "overrides": list(overrides),
        "chosen": comparison.chosen.candidate.config,
        "reason": tuning.reason(),
        "margin": comparison.margins.energy_distance,
        "score_margin": comparison.margins.score,
        "observations": tuning.observations,
        "n_samples": tuning.n_samples,
        "seeds": None if tuning.loop is None else list(tuning.loop.seeds),
        "rollouts": None if tuning.loop is None else str(tuning.loop.folder),
        "n_looks": comparison.n_looks,
        "measured": [_measured(m, comparison) for m in _all(comparison)],
        "agreement": {
            "n": agreement.n,
            "rank_correlation": agreement.rank_correlation,
            "passed_first_then_second": agreement.counts,
        },
        "provenance": provenance(tuning.device),
    }


def _measured(measured: Measured, comparison: Comparison) -> dict[str, Any]:
    return {
        "sampler": measured.candidate.sampler,
        "steps": measured.candidate.steps,
        "denoiser_calls": measured.denoiser_calls,
        "ms_per_chunk": measured.ms_per_chunk,
        "energy_distance": _plain(measured.energy_distance),
        "score": _plain(measured.score()),
        "success": _plain(measured.success()),
        "difference": _plain(measured.difference(comparison.reference)),
        "verdict": comparison.verdict(measured),
    }


def _all(comparison: Comparison) -> list[Measured]:
    return [comparison.reference, *comparison.candidates]


def _plain(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate._asdict()

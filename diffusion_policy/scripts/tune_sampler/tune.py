"""Find the cheapest sampler of a checkpoint that acts as its reference does; see `command.py`."""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor
from tqdm import tqdm

from diffusion_policy.common.atomic_write import make_writable
from diffusion_policy.common.checkpoint import WEIGHTS, Checkpoint, find_checkpoint
from diffusion_policy.common.evaluation_seeds import SELECTION_SEEDS, TEST_SEEDS
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.common.random_seed import derived_generator
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.model.diffusion.noise_schedule import ForwardProcess
from diffusion_policy.model.diffusion.samplers import Denoise, Sampler, sample_consistency
from diffusion_policy.policy.base_policy import BasePolicy
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.scripts.evaluate import check_has_simulator
from diffusion_policy.scripts.tune_sampler.action_distribution import Observations, sample_chunks
from diffusion_policy.scripts.tune_sampler.candidates import (
    SAMPLERS,
    STEPS,
    Candidate,
    as_candidate,
    candidates,
    reference,
)
from diffusion_policy.scripts.tune_sampler.choice import Comparison, Margins, Measured
from diffusion_policy.scripts.tune_sampler.chunk_time import ms_per_chunk
from diffusion_policy.scripts.tune_sampler.closed_loop import ClosedLoop
from diffusion_policy.scripts.tune_sampler.energy_distance import relative_energy_distance
from diffusion_policy.scripts.tune_sampler.written import Tuning, check_not_tuned, write_tuning

log = logging.getLogger(__name__)

# For normal distributions an energy distance of 0.05 is a shift by half a standard deviation. On a Push-T policy DDIM
# with 16 steps has 0.02, with 4 steps 0.07; see docs/guides/faster-inference.md.
MARGINS = Margins(energy_distance=0.05, score=0.02)
REFERENCE_NOISE, CANDIDATE_NOISE = 0, 1  # what generators are derived from


def tune(
    path: Path | str,
    output_dir: Path | str | None = None,
    *,
    samplers: Sequence[str] = SAMPLERS,
    steps: Sequence[int] = STEPS,
    n_observations: int = 64,
    n_samples: int = 32,
    margins: Margins = MARGINS,
    rollouts: bool = True,
    every: bool = False,
    seeds: Sequence[int] = SELECTION_SEEDS,
    device: str = "auto",
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    trusted_targets: Sequence[str] = (),
) -> Tuning:
    """Measure samplers, choose one, and write the choice and all figures beside the weights.

    Args:
        path: a checkpoint's folder, or a run's folder (then its latest checkpoint).
        output_dir: where rollouts are kept, so that a later call does not repeat them; by default below the
            checkpoint's folder.
        samplers: names of `SAMPLERS`.
        steps: numbers of steps of each; what the policy's schedule does not have is left out.
        n_observations: held-out observations at which actions are sampled.
        n_samples: samples at each of them, of each candidate.
        margins: of both criteria.
        rollouts: whether to ask the simulator, where the task has one.
        every: roll all candidates out, which shows how well the first criterion predicts the second.
        seeds: of the rollouts.
        device: of the policy, and for whose speed it is tuned.
        overwrite: replace an earlier choice.
        overrides: changes of the checkpoint's configuration: of `task.dataset` and `task.env_runner`.
        trusted_targets: full names outside this package that the configuration may build.

    Raises:
        FileNotFoundError: there is no checkpoint, or its demonstrations are not there.
        FileExistsError: a sampler was chosen before, and `overwrite` is false.
        ValueError: the policy has nothing to tune, or an argument is out of range.
    """
    checkpoint = find_checkpoint(path)
    check_not_tuned(checkpoint, overwrite)
    make_writable(checkpoint.path)
    _check_arguments(n_samples, overrides, seeds)
    policy = _sampling_policy(
        load_policy(checkpoint.path, device, trusted_targets=trusted_targets), checkpoint
    )
    own = as_candidate(policy.sampler)
    to_measure = candidates(cast(ForwardProcess, policy.noise_schedule), samplers, steps, own)
    config = checkpoint.config(overrides)
    observations = Observations.of(
        _dataset(config["task"]["dataset"], trusted_targets), n_observations, policy.n_obs_steps
    )
    folder = checkpoint.path / "tune_sampler" if output_dir is None else Path(output_dir)
    loop = _closed_loop(policy, checkpoint, config, seeds, folder, trusted_targets) if rollouts else None

    of_reference, of_candidates = _measure(policy, observations, to_measure, n_samples)
    comparison = Comparison.of(of_reference, of_candidates, margins, has_simulator=loop is not None)
    if loop is not None:
        comparison.roll_out(loop.roll_out, every)
    tuning = Tuning(checkpoint, policy.device, comparison, str(observations), n_samples, loop, own)
    write_tuning(tuning, overrides)
    return tuning


def _measure(
    policy: DiffusionPolicy, observations: Observations, to_measure: Sequence[Candidate], n_samples: int
) -> tuple[Measured, list[Measured]]:
    """Time and distance of the candidates, and of the reference, half of whose samples stand against the others."""
    schedule = cast(ForwardProcess, policy.noise_schedule)
    features = observations.encoded(policy)
    expected = reference(schedule)
    every = [expected, *to_measure]
    log.info(
        "%d samples at each of %s, of %s and %d others", n_samples, observations, expected, len(to_measure)
    )
    n_calls = sum(candidate.denoiser_calls(schedule) for candidate in every)
    with tqdm(
        desc="sampling", total=n_calls * len(observations) * n_samples, unit="call", unit_scale=True
    ) as bar:

        def sampled(candidate: Candidate, noise: int) -> Tensor:
            policy.sampler = _showing_progress(candidate.build(), bar)
            return sample_chunks(policy, features, n_samples, derived_generator(noise))

        chunks = sampled(expected, REFERENCE_NOISE)  # (N, S, Ta Da)
        one_half, other_half = chunks.split([n_samples // 2, n_samples - n_samples // 2], dim=1)
        distances = [relative_energy_distance(one_half, other_half)]
        for candidate in to_measure:
            distances.append(relative_energy_distance(sampled(candidate, CANDIDATE_NOISE), chunks))

    times_ms = ms_per_chunk(policy, observations.first(policy.device), [c.build() for c in every])
    of_reference, *of_candidates = (
        Measured(candidate, candidate.denoiser_calls(schedule), ms, distance)
        for candidate, ms, distance in zip(every, times_ms, distances, strict=True)
    )
    return of_reference, of_candidates


def _showing_progress(sampler: Sampler, bar: tqdm) -> Sampler:
    """The sampler, telling `bar` of every row that is denoised."""

    def sample(denoise: Denoise, schedule: ForwardProcess, noise: Tensor, **arguments: Any) -> Tensor:
        def denoise_and_tell(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
            denoised = denoise(x, t)
            bar.update(len(x))
            return denoised

        return sampler(denoise_and_tell, schedule, noise, **arguments)

    return sample


def _closed_loop(
    policy: DiffusionPolicy,
    checkpoint: Checkpoint,
    config: dict[str, Any],
    seeds: Sequence[int],
    folder: Path,
    trusted_targets: Sequence[str],
) -> ClosedLoop | None:
    """The simulator, ready: what is missing of it is said before anything is measured. None if there is none."""
    runner_config = config["task"].get("env_runner")
    if runner_config is None:
        log.info("the task has no simulator (task.env_runner is null): the energy distance alone decides")
        return None
    check_has_simulator(checkpoint)
    runner = instantiate(runner_config, trusted_targets, seeds=list(seeds))
    make_writable(folder)
    with (checkpoint.path / WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ClosedLoop(policy, runner, {"weights_sha256": digest, "env_runner": runner_config}, folder)


def _sampling_policy(policy: BasePolicy, checkpoint: Checkpoint) -> DiffusionPolicy:
    """The policy, if there is something to tune."""
    if not isinstance(policy, DiffusionPolicy):
        raise ValueError(f"{checkpoint.path} holds a {type(policy).__name__}, which has no sampler to tune")
    if not isinstance(policy.noise_schedule, ForwardProcess):
        raise ValueError(
            f"{checkpoint.path} was trained with {type(policy.noise_schedule).__name__}: it predicts actions without "
            f"sampling, so there is nothing to tune"
        )
    if getattr(policy.sampler, "func", None) is sample_consistency:
        raise ValueError(
            f"{checkpoint.path} was distilled to be sampled with sample_consistency and nothing else; choose its "
            f"steps with load_policy(..., steps=1)"
        )
    return policy


def _dataset(config: dict[str, Any], trusted_targets: Sequence[str]) -> SequenceDataset:
    try:
        return instantiate(config, trusted_targets)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}. Samplers are compared at observations of the demonstrations: if they lie elsewhere now, add "
            f"task.dataset.path=PATH"
        ) from error


def _check_arguments(n_samples: int, overrides: Sequence[str], seeds: Sequence[int]) -> None:
    if set(seeds) & set(TEST_SEEDS):
        log.warning("these are test seeds: a score of the sampler chosen on them cannot be reported on them")
    if n_samples < 4:
        raise ValueError(f"n_samples must be at least 4, got {n_samples}")
    without_effect = [o for o in overrides if not o.startswith(("task.dataset.", "task.env_runner."))]
    if without_effect:
        raise ValueError(
            f"overrides {without_effect} would have no effect: only task.dataset.* and task.env_runner.* are read, "
            f"as in task.dataset.path=PATH"
        )

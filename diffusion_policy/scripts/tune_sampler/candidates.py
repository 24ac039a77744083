"""Samplers with numbers of steps, among which one is chosen, and the one that they are measured against."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.model.diffusion.noise_schedule import ForwardProcess
from diffusion_policy.model.diffusion.samplers import Sampler
from diffusion_policy.policy.sampler_choice import named_sampler

SAMPLERS = ("ddpm", "ddim", "ddim_trailing", "dpm_solver", "dpm_solver_sde", "heun")
STEPS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Candidate:
    """A sampler with its number of steps.

    Attributes:
        sampler: one of `SAMPLERS`, a file of `config/sampler`.
        steps: its steps.
    """

    sampler: str
    steps: int

    def __str__(self) -> str:
        return f"{self.sampler} with {self.steps} step{'s' * (self.steps > 1)}"

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration, as in a file of `config/sampler`."""
        return {**named_sampler(self.sampler), "steps": self.steps}

    def build(self) -> Sampler:
        """The sampler itself."""
        return instantiate(self.config)

    def denoiser_calls(self, schedule: ForwardProcess) -> int:
        """How often it calls the denoiser, counted."""
        calls = 0

        def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
            nonlocal calls
            calls += 1
            return x, x

        self.build()(denoise, schedule, torch.zeros(1, 1, 1), generator=torch.Generator())
        return calls


def reference(schedule: ForwardProcess) -> Candidate:
    """DDPM with all diffusion steps: the distribution that the policy was trained to sample from."""
    return Candidate("ddpm", schedule.num_train_timesteps)


def candidates(
    schedule: ForwardProcess,
    samplers: Sequence[str] = SAMPLERS,
    steps: Sequence[int] = STEPS,
    own: Candidate | None = None,
) -> list[Candidate]:
    """Every sampler with every number of steps that the schedule has, and the policy's own.

    Left out are the reference, and `ddim_trailing` with all steps, which is `ddim`.

    Raises:
        ValueError: a sampler is unknown, a number of steps is not positive, or there is no candidate.
    """
    unknown = [name for name in samplers if name not in SAMPLERS]
    if unknown:
        raise ValueError(f"samplers must be some of {','.join(SAMPLERS)}, got {','.join(unknown)}")
    if min(steps, default=0) < 1:
        raise ValueError(f"steps must be one or more positive numbers, got {list(steps)}")
    n_train = schedule.num_train_timesteps
    left_out = {reference(schedule), Candidate("ddim_trailing", n_train)}
    every = [
        Candidate(name, n) for name in dict.fromkeys(samplers) for n in sorted(set(steps)) if n <= n_train
    ]
    found = [candidate for candidate in every if candidate not in left_out]
    if not found:
        raise ValueError(
            f"no sampler to measure: steps {list(steps)} of {','.join(samplers)} must include one of at most "
            f"{n_train}, the diffusion steps of the policy, other than the reference, {reference(schedule)}"
        )
    return found if own is None or own in (reference(schedule), *found) else [*found, own]


def as_candidate(sampler: Any) -> Candidate | None:
    """The candidate that is called as a policy's own sampler is; None if none is."""
    steps = _arguments(sampler).get("steps")
    same = (
        Candidate(name, steps)
        for name in SAMPLERS
        if isinstance(steps, int) and _arguments(Candidate(name, steps).build()) == _arguments(sampler)
    )
    return next(same, None)


def _arguments(sampler: Any) -> dict[str, Any]:
    """What a sampler is bound to, defaults included."""
    arguments = {name: p.default for name, p in inspect.signature(sampler).parameters.items()}
    return {**arguments, "function": getattr(sampler, "func", sampler)}

"""What a scheduler of diffusers, as the original's configs name them, is here."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule
from diffusion_policy.model.diffusion.samplers import Sampler, sample_ddim, sample_ddpm


@dataclass
class Scheduler:
    """What a diffusers scheduler was: schedule, sampler without its number of steps, and clipping."""

    noise_schedule: NoiseSchedule
    sampler: Sampler
    clip_sample: bool


def ddpm_scheduler(
    num_train_timesteps: int = 1000,
    beta_start: float = 0.0001,
    beta_end: float = 0.02,
    beta_schedule: Any = "linear",
    variance_type: str = "fixed_small",
    clip_sample: bool = True,
    prediction_type: Any = "epsilon",
) -> Scheduler:
    """Its `DDPMScheduler`, with the defaults of diffusers."""
    schedule = NoiseSchedule(num_train_timesteps, beta_schedule, beta_start, beta_end, prediction_type)
    variance: Any = variance_type.removesuffix("_log")  # the logarithm is taken and undone: the same variance
    return Scheduler(schedule, partial(sample_ddpm, variance=variance), clip_sample)


def ddim_scheduler(
    num_train_timesteps: int = 1000,
    beta_start: float = 0.0001,
    beta_end: float = 0.02,
    beta_schedule: Any = "linear",
    clip_sample: bool = True,
    set_alpha_to_one: bool = True,
    steps_offset: int = 0,
    prediction_type: Any = "epsilon",
) -> Scheduler:
    """Its `DDIMScheduler`, with the defaults of diffusers."""
    schedule = NoiseSchedule(num_train_timesteps, beta_schedule, beta_start, beta_end, prediction_type)
    final: Any = "one" if set_alpha_to_one else "first"
    sampler = partial(sample_ddim, final_alpha_bar=final, steps_offset=steps_offset)
    return Scheduler(schedule, sampler, clip_sample)


def with_steps(sampler: Sampler, steps: int | None, step_kwargs: Mapping[str, Any]) -> Sampler:
    """Give a sampler its number of steps and what the original's policies passed on to `scheduler.step`."""
    unknown = set(step_kwargs) - ({"eta"} & set(signature(sampler).parameters))
    if unknown:
        raise ValueError(f"unknown arguments {sorted(unknown)}: neither the policy's nor its scheduler's")
    return partial(sampler, steps=steps, **step_kwargs)

"""From noise to a trajectory: samplers as short functions over one noise schedule.

Every sampler has the form `sampler(denoise, schedule, x, generator=...)`, where `x` (B, T, D) is standard
normal noise and
`denoise(x, t)` returns the denoiser's (clean trajectory, noise) at diffusion step `t`. Clipping and known
values live in
`denoise`; so every sampler can in-paint, and a checkpoint runs with any of them. In YAML a sampler is a Hydra
partial.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from diffusion_policy.common.noise import Generators, randn
from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule

Denoise = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Sampler = Callable[..., Tensor]


def spaced_timesteps(schedule: NoiseSchedule, steps: int | None, offset: int = 0) -> list[int]:
    """Diffusion steps `(steps - 1) * (N // steps), ..., N // steps, 0`, each plus `offset`; None takes all N.

    So diffusers spaces them ("leading"). Where `N // steps` is 1 or `steps` is 1 the first is far from the noisiest.
    """
    n_train = schedule.num_train_timesteps
    steps = n_train if steps is None else steps
    if not isinstance(steps, int) or not 1 <= steps <= n_train:
        raise ValueError(f"sampler steps must be between 1 and num_train_timesteps={n_train}, got {steps}")
    spacing = n_train // steps
    timesteps = [i * spacing + offset for i in reversed(range(steps))]
    if timesteps[0] >= n_train:
        raise ValueError(f"steps_offset {offset} leads beyond the last of {n_train} diffusion steps; use 0")
    return timesteps


def sample_ddpm(
    denoise: Denoise,
    schedule: NoiseSchedule,
    x: Tensor,
    *,
    steps: int | None = None,
    generator: Generators = None,
    variance: Literal["fixed_small", "fixed_large"] = "fixed_small",
    respacing: Literal["exact", "diffusers-0.11"] = "exact",
) -> Tensor:
    """Ancestral sampling, algorithm 2 of Ho et al. 2020, with the clean trajectory clipped as their code
    does.

    Args:
        denoise, schedule, x, generator: see the module.
        steps: number of denoiser calls; None takes all diffusion steps.
        variance: of the posterior, `fixed_small` (eqn. 7) or `fixed_large` (beta).
        respacing: with fewer steps than trained, go to the `exact` previous timestep of the sequence; the
            library that the original pinned always took `t - 1` (`diffusers-0.11`), which denoises too little
            per step.
    """
    if variance not in ("fixed_small", "fixed_large"):
        raise ValueError(f"variance must be 'fixed_small' or 'fixed_large', got {variance!r}")
    if respacing not in ("exact", "diffusers-0.11"):
        raise ValueError(f"respacing must be 'exact' or 'diffusers-0.11', got {respacing!r}")
    timesteps = spaced_timesteps(schedule, steps)
    spacing = 1 if respacing == "diffusers-0.11" else schedule.num_train_timesteps // len(timesteps)
    for t in timesteps:
        clean, _ = denoise(x, t)
        alpha_bar, alpha_bar_previous = _alpha_bar(schedule, t), _alpha_bar(schedule, t - spacing)
        alpha = alpha_bar / alpha_bar_previous
        beta = 1 - alpha
        if respacing == "diffusers-0.11":  # the tables that library read: they differ in the last bits
            beta = schedule.betas[t]
            alpha = 1 - beta
        # eqn. 7: mean and variance of x_{t-1} given x_t and x_0
        clean_share = alpha_bar_previous**0.5 * beta / (1 - alpha_bar)
        noisy_share = alpha**0.5 * (1 - alpha_bar_previous) / (1 - alpha_bar)
        x = clean_share * clean + noisy_share * x
        if t > 0:
            small = ((1 - alpha_bar_previous) / (1 - alpha_bar) * beta).clamp(min=1e-20)
            scale = (small if variance == "fixed_small" else beta) ** 0.5
            x = x + scale * randn(x.shape, generator, x.device, x.dtype)
    return x


def sample_ddim(
    denoise: Denoise,
    schedule: NoiseSchedule,
    x: Tensor,
    *,
    steps: int | None = None,
    generator: Generators = None,
    eta: float = 0.0,
    final_alpha_bar: Literal["one", "first"] = "one",
    steps_offset: int = 0,
) -> Tensor:
    """Denoising diffusion implicit models, eqn. 12 of Song et al. 2021; deterministic for `eta=0`.

    The clean trajectory is clipped by `denoise`; the noise is the denoiser's own, not derived from the
    clipped one.

    Args:
        denoise, schedule, x, generator: see the module.
        steps: number of denoiser calls; None takes all diffusion steps.
        eta: 0 is deterministic, 1 has the variance of DDPM (eqn. 16).
        final_alpha_bar: signal after the last step: `one`, or that of the `first` diffusion step.
        steps_offset: added to every diffusion step.
    """
    if final_alpha_bar not in ("one", "first"):
        raise ValueError(f"final_alpha_bar must be 'one' or 'first', got {final_alpha_bar!r}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be between 0 (deterministic) and 1 (as DDPM), got {eta}")
    final = 1.0 if final_alpha_bar == "one" else float(schedule.alphas_cumprod[0])
    timesteps = spaced_timesteps(schedule, steps, steps_offset)
    spacing = schedule.num_train_timesteps // len(timesteps)
    for t in timesteps:
        clean, noise = denoise(x, t)
        alpha_bar, alpha_bar_previous = _alpha_bar(schedule, t), _alpha_bar(schedule, t - spacing, final)
        variance = (1 - alpha_bar_previous) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_previous)
        scale = eta * variance**0.5
        noise_share = (1 - alpha_bar_previous - scale**2) ** 0.5
        x = alpha_bar_previous**0.5 * clean + noise_share * noise
        if eta > 0:
            x = x + scale * randn(x.shape, generator, x.device, x.dtype)
    return x


def _alpha_bar(schedule: NoiseSchedule, t: int, final: float = 1.0) -> Tensor:
    """Signal power at diffusion step `t`; `final` before the first one."""
    return schedule.alphas_cumprod[t] if t >= 0 else torch.tensor(final)

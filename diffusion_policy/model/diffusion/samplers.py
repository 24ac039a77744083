"""From noise to a trajectory: samplers as short functions over one noise schedule.

Every sampler has the form `sampler(denoise, schedule, x, steps=..., generator=...)`, where `x` (B, T, D) is standard
normal noise and `denoise(x, t)` returns the denoiser's (clean trajectory, noise) at diffusion step `t`. Clipping and
known values live in `denoise`; so every sampler can in-paint, and a checkpoint runs with any of them. In YAML a
sampler is a Hydra partial.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

from diffusion_policy.common.noise import Generators, randn
from diffusion_policy.model.diffusion.noise_schedule import ForwardProcess, NoiseSchedule

Denoise = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Sampler = Callable[..., Tensor]
Spacing = Literal["leading", "trailing"]


class Span(NamedTuple):
    """From diffusion step `t` with its (alpha, sigma) to a less noisy one.

    `added_variance` is that of `x_t` given the less noisy x: `beta_t` of Ho et al. 2020, for neighbours.
    """

    t: int
    alpha: float
    sigma: float
    next_alpha: float
    next_sigma: float
    added_variance: float

    @property
    def posterior_variance(self) -> float:
        """Variance of the less noisy x given `x_t` and `x_0`; eqn. 7 of Ho et al. 2020."""
        return (self.next_sigma / self.sigma) ** 2 * self.added_variance

    @property
    def log_snr_gain(self) -> float:
        """Growth of `log(alpha / sigma)`; infinite from pure noise, and to the clean end."""
        if self.alpha == 0 or self.next_sigma == 0:
            return math.inf
        return math.log(self.next_alpha / self.next_sigma) - math.log(self.alpha / self.sigma)


def spaced_timesteps(
    schedule: nn.Module, steps: int | None, offset: int = 0, spacing: Spacing = "leading"
) -> list[int]:
    """Diffusion steps, from noisy to clean; None takes all N.

    `leading`: `(steps - 1) * (N // steps), ..., N // steps, 0`, each plus `offset`, as diffusers spaces them by
    default. The first is not the noisiest, and with few steps far from it. `trailing`: the last of each N / steps,
    beginning with N - 1 (Lin et al. 2024, table 2), which few steps need.
    """
    if not isinstance(schedule, ForwardProcess):
        raise ValueError(
            f"this sampler needs a NoiseSchedule or a RectifiedFlow, got {type(schedule).__name__}: take the "
            f"sampler that the policy was trained for"
        )
    if spacing not in get_args(Spacing):
        raise ValueError(f"spacing must be 'leading' or 'trailing', got {spacing!r}")
    n_train = schedule.num_train_timesteps
    steps = n_train if steps is None else steps
    if not isinstance(steps, int) or not 1 <= steps <= n_train:
        raise ValueError(f"sampler steps must be between 1 and num_train_timesteps={n_train}, got {steps}")
    if offset < 0 or (offset > 0 and spacing == "trailing"):
        raise ValueError(f"steps_offset must be at least 0, and 0 with spacing 'trailing', got {offset}")
    if spacing == "trailing":
        return [round(n_train * (steps - i) / steps) - 1 for i in range(steps)]
    timesteps = [i * (n_train // steps) + offset for i in reversed(range(steps))]
    if timesteps[0] >= n_train:
        raise ValueError(f"steps_offset {offset} leads beyond the last of {n_train} diffusion steps; use 0")
    return timesteps


def _spans(
    schedule: ForwardProcess, steps: int | None, spacing: Spacing, offset: int = 0, end: int = -1
) -> list[Span]:
    """The way from noise to step `end`, where -1 is the clean trajectory."""
    timesteps = spaced_timesteps(schedule, steps, offset, spacing)
    if spacing == "leading":  # an offset above the spacing ends before the clean trajectory, as in diffusers
        beyond = offset - schedule.num_train_timesteps // len(timesteps)
        end = beyond if beyond >= 0 else end
    return [_span(schedule, t, s) for t, s in zip(timesteps, [*timesteps[1:], end], strict=True)]


def _span(schedule: ForwardProcess, t: int, following: int) -> Span:
    return Span(t, *schedule.level(t), *schedule.level(following), schedule.added_variance(t, following))


def sample_ddpm(
    denoise: Denoise,
    schedule: ForwardProcess,
    x: Tensor,
    *,
    steps: int | None = None,
    generator: Generators = None,
    variance: Literal["fixed_small", "fixed_large"] = "fixed_small",
    respacing: Literal["exact", "diffusers-0.11"] = "exact",
    spacing: Spacing = "leading",
) -> Tensor:
    """Ancestral sampling, algorithm 2 of Ho et al. 2020, with the clean trajectory clipped as their code does.

    Args:
        denoise, schedule, x, generator: see the module.
        steps: number of denoiser calls; None takes all diffusion steps.
        variance: of the posterior, `fixed_small` (eqn. 7) or `fixed_large` (beta).
        respacing: with fewer steps than trained, go to the `exact` previous timestep of the sequence; the
            library that the original pinned always took `t - 1` (`diffusers-0.11`), which denoises too little
            per step.
        spacing: see `spaced_timesteps`.
    """
    if variance not in ("fixed_small", "fixed_large"):
        raise ValueError(f"variance must be 'fixed_small' or 'fixed_large', got {variance!r}")
    if respacing not in ("exact", "diffusers-0.11"):
        raise ValueError(f"respacing must be 'exact' or 'diffusers-0.11', got {respacing!r}")
    spans = _spans(schedule, steps, spacing)
    if respacing == "diffusers-0.11":
        if not isinstance(schedule, NoiseSchedule):
            raise ValueError(
                f"respacing 'diffusers-0.11' needs a NoiseSchedule, got {type(schedule).__name__}"
            )
        # The tables that library read: they differ in the last bits.
        betas = schedule.betas.tolist()
        spans = [_span(schedule, span.t, span.t - 1)._replace(added_variance=betas[span.t]) for span in spans]
    for span in spans:
        clean, _ = denoise(x, span.t)
        # eqn. 7: mean of the less noisy x given x_t and x_0, in alpha and sigma (Kingma et al. 2021, eqn. 29)
        clean_share = span.next_alpha * span.added_variance / span.sigma**2
        noisy_share = span.alpha / span.next_alpha * (span.next_sigma / span.sigma) ** 2
        x = clean_share * clean + noisy_share * x
        if span.next_sigma > 0:
            added = span.posterior_variance if variance == "fixed_small" else span.added_variance
            x = x + added**0.5 * randn(x.shape, generator, x.device, x.dtype)
    return x


def sample_ddim(
    denoise: Denoise,
    schedule: ForwardProcess,
    x: Tensor,
    *,
    steps: int | None = None,
    generator: Generators = None,
    eta: float = 0.0,
    final_alpha_bar: Literal["one", "first"] = "one",
    steps_offset: int = 0,
    spacing: Spacing = "leading",
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
        spacing: see `spaced_timesteps`.
    """
    if final_alpha_bar not in ("one", "first"):
        raise ValueError(f"final_alpha_bar must be 'one' or 'first', got {final_alpha_bar!r}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be between 0 (deterministic) and 1 (as DDPM), got {eta}")
    end = -1 if final_alpha_bar == "one" else 0
    for span in _spans(schedule, steps, spacing, steps_offset, end):
        clean, noise = denoise(x, span.t)
        added = eta**2 * span.posterior_variance if eta > 0 else 0.0
        kept = max(span.next_sigma**2 - added, 0.0)  # from almost pure noise rounding makes it negative
        x = span.next_alpha * clean + kept**0.5 * noise
        if added > 0:
            x = x + added**0.5 * randn(x.shape, generator, x.device, x.dtype)
    return x


def sample_dpm_solver(
    denoise: Denoise,
    schedule: ForwardProcess,
    x: Tensor,
    *,
    steps: int | None = None,
    generator: Generators = None,
    stochastic: bool = False,
    spacing: Spacing = "trailing",
) -> Tensor:
    """DPM-Solver++(2M), algorithm 2 of Lu et al. 2022 (arXiv:2211.01095), or its SDE variant (their section 5).

    A multistep method: the line through the last two clean trajectories, in the logarithm of the signal-to-noise
    ratio, gives the change over the next step to second order with one denoiser call. The first step and the one to
    the clean end are of first order.

    Args:
        denoise, schedule, x, generator: see the module.
        steps: number of denoiser calls; None takes all diffusion steps.
        stochastic: SDE-DPM-Solver++(2M), which adds noise; its first-order steps are those of DDPM.
        spacing: see `spaced_timesteps`.
    """
    last: tuple[Tensor, float] | None = None  # clean trajectory and log-SNR gain of the step before
    for span in _spans(schedule, steps, spacing):
        clean, _ = denoise(x, span.t)
        gain = span.log_snr_gain
        estimate = clean
        if last is not None and span.next_sigma > 0:
            last_clean, last_gain = last
            estimate = clean + gain / (2 * last_gain) * (clean - last_clean)
        last = clean, gain
        decay = math.exp(-gain)  # 0 from pure noise and to the clean end
        if not stochastic:
            x = span.next_sigma / span.sigma * x + span.next_alpha * (1 - decay) * estimate
            continue
        x = span.next_sigma / span.sigma * decay * x + span.next_alpha * (1 - decay**2) * estimate
        if span.next_sigma > 0:
            scale = span.next_sigma * (1 - decay**2) ** 0.5
            x = x + scale * randn(x.shape, generator, x.device, x.dtype)
    return x


def sample_heun(
    denoise: Denoise,
    schedule: ForwardProcess,
    x: Tensor,
    *,
    steps: int | None = None,
    generator: Generators = None,
    spacing: Spacing = "trailing",
) -> Tensor:
    """Heun's method on the probability flow `dx = x_0 dalpha + eps dsigma`, after algorithm 1 of Karras et al. 2022.

    Each step averages the slopes at its two ends, but for the last, which is Euler's: `2 steps - 1` denoiser calls.
    Written in alpha and sigma, not in their ratio as there, so that it can begin where no signal is left. The noise
    is the one that belongs to the clipped clean trajectory, so that clipping bends both slopes.

    Args:
        denoise, schedule, x, generator: see the module; nothing is drawn.
        steps: number of steps; None takes all diffusion steps.
        spacing: see `spaced_timesteps`.
    """
    spans = _spans(schedule, steps, spacing)
    for span, following in zip(spans, [*spans[1:], None], strict=True):
        clean, _ = denoise(x, span.t)
        noise = (x - span.alpha * clean) / span.sigma
        euler = span.next_alpha * clean + span.next_sigma * noise
        if following is None:
            return euler
        next_clean, _ = denoise(euler, following.t)
        next_noise = (euler - span.next_alpha * next_clean) / span.next_sigma
        x = (
            x
            + (span.next_alpha - span.alpha) * (clean + next_clean) / 2
            + (span.next_sigma - span.sigma) * (noise + next_noise) / 2
        )
    return x


def sample_consistency(
    denoise: Denoise,
    schedule: ForwardProcess,
    x: Tensor,
    *,
    steps: int = 1,
    generator: Generators = None,
    spacing: Spacing = "trailing",
) -> Tensor:
    """Multistep consistency sampling, algorithm 1 of Song et al. 2023: predict the end, add less noise, repeat.

    Args:
        denoise, schedule, x, generator: see the module; of a policy distilled by `ConsistencyDistillation`.
        steps: number of denoiser calls.
        spacing: see `spaced_timesteps`.
    """
    for span in _spans(schedule, steps, spacing):
        clean, _ = denoise(x, span.t)
        if span.next_sigma == 0:
            return clean
        x = span.next_alpha * clean + span.next_sigma * randn(x.shape, generator, x.device, x.dtype)
    return x

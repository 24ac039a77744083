"""Tests for samplers.py on a Gaussian mixture, whose denoiser is known: what they draw, and how fast they converge.

A test of a law allows for two things. Sampling: 4.42 standard errors, which chance alone exceeds once in 100,000.
Steps: the bias of a finite number of them, measured with 100,000 samples.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion_policy.model.diffusion.noise_schedule import ForwardProcess, NoiseSchedule, RectifiedFlow
from diffusion_policy.model.diffusion.samplers import (
    Denoise,
    sample_consistency,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver,
    sample_heun,
)
from diffusion_policy.policy.conditioning import Condition
from tests.model.diffusion.gaussian_mixture import (
    GaussianMixture,
    exact_consistency_function,
    exact_denoiser,
    transport,
)

N_SAMPLES = 5_000
STANDARD_ERRORS = 4.42  # two-sided tail of 1e-5
DKW = math.sqrt(math.log(2 / 1e-5) / (2 * N_SAMPLES))  # Massart 1990: P(sup |F_n - F| > DKW) <= 1e-5

# The slowest to converge is DDPM with the small variance: with 250 steps variances are 1.8 to 2.3 % too small and
# probabilities up to 0.8 % off. Both fall as 1 / steps.
MEAN_BIAS, VARIANCE_BIAS, PROBABILITY_BIAS = 0.01, 0.025, 0.008

SAMPLERS = {
    "ddpm-small": (sample_ddpm, {"steps": 300}),
    "ddpm-large-trailing": (sample_ddpm, {"steps": 300, "variance": "fixed_large", "spacing": "trailing"}),
    "ddim": (sample_ddim, {"steps": 250}),
    "ddim-trailing": (sample_ddim, {"steps": 250, "spacing": "trailing"}),
    "ddim-eta1": (sample_ddim, {"steps": 300, "eta": 1.0, "spacing": "trailing"}),
    "dpm": (sample_dpm_solver, {"steps": 80}),
    "dpm-leading": (sample_dpm_solver, {"steps": 125, "spacing": "leading"}),
    "sde-dpm": (sample_dpm_solver, {"steps": 100, "stochastic": True}),
    "heun": (sample_heun, {"steps": 40}),
    "heun-leading": (sample_heun, {"steps": 125, "spacing": "leading"}),
}
PROCESSES = {"diffusion": NoiseSchedule, "flow": RectifiedFlow}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tensor(values: list) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def two_modes() -> GaussianMixture:
    """Of two steps of one action: 30 % go down, 70 % up, each with steps that depend on each other."""
    return GaussianMixture(
        weights=tensor([0.3, 0.7]),
        means=tensor([[-0.25, -0.5], [0.15, 0.45]]),
        covariances=tensor([[[0.06, 0.03], [0.03, 0.04]], [[0.05, -0.02], [-0.02, 0.03]]]),
    )


def line(weights: list[float], means: list[float], stds: list[float]) -> GaussianMixture:
    """A mixture of one dimension."""
    return GaussianMixture(tensor(weights), tensor(means)[:, None], tensor(stds)[:, None, None] ** 2)


def first_step_known(value: float, n: int = N_SAMPLES) -> Condition:
    """The first of two steps is given."""
    mask = torch.zeros(n, 2, 1, dtype=torch.bool)
    mask[:, 0] = True
    return Condition((n, 2, 1), known=torch.full((n, 2, 1), value, dtype=torch.float64), mask=mask)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=seeded(), dtype=torch.float64)


# The exact case itself


def test_denoiser_and_conditional_are_those_of_numerical_integration():
    law, alpha, sigma = two_modes(), 0.6, 0.8
    axis = torch.linspace(-2.5, 2.5, 201, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)  # (n, 2)
    modes = torch.distributions.MultivariateNormal(law.means, law.covariances)
    density = modes.log_prob(points[:, None]).exp() @ law.weights
    torch.testing.assert_close(density @ points / density.sum(), law.mean())
    torch.testing.assert_close(torch.cov(points.T, aweights=density, correction=0), law.covariance())

    x = tensor([[0.5, -1.2], [-0.3, 0.1], [0.0, 0.0]])
    likelihood = torch.exp(-((x[:, None] - alpha * points) ** 2).sum(dim=-1) / (2 * sigma**2))
    posterior = density * likelihood
    expected = posterior @ points / posterior.sum(dim=1, keepdim=True)
    levels = torch.full((2,), alpha, dtype=torch.float64), torch.full((2,), sigma, dtype=torch.float64)
    torch.testing.assert_close(law.posterior_mean(x, *levels), expected)

    known = 0.1
    row = density[points[:, 0] == axis[(axis - known).abs().argmin()]]
    given = law.given_first(known)
    torch.testing.assert_close(row @ axis / row.sum(), given.mean()[0])
    cumulative = (row.cumsum(0) - row / 2) / row.sum()
    torch.testing.assert_close(given.cdf(axis, tensor([1.0])), cumulative, rtol=0, atol=1e-3)


def test_denoiser_that_sees_a_known_step_is_that_of_the_conditional():
    process, law, condition = NoiseSchedule(100), two_modes(), first_step_known(0.1, n=50)
    x = noise(50, 2, 1)
    clean, _ = exact_denoiser(law, process, condition)(x, 40)
    expected, _ = exact_denoiser(law.given_first(0.1), process)(x[:, 1:], 40)
    torch.testing.assert_close(clean[:, 1:], expected)


def test_flow_of_a_single_gaussian_is_linear():
    process, law, z = RectifiedFlow(10), line([1.0], [0.3], [0.4]), noise(50, 1)
    alpha, sigma = process.level(6)
    moved = transport(line([1.0], [0.0], [1.0]), law.noised(alpha, sigma), z)
    torch.testing.assert_close(moved, alpha * 0.3 + math.sqrt(alpha**2 * 0.4**2 + sigma**2) * z)


# What is drawn


def assert_follows(sample: Tensor, law: GaussianMixture) -> None:
    """Mean, covariance, the weight of each mode and the whole law of points (B, D)."""
    spread = law.covariance().diagonal().sqrt()
    error = STANDARD_ERRORS / N_SAMPLES**0.5
    centred = sample - law.mean()
    assert (centred.mean(dim=0).abs() <= (error + MEAN_BIAS) * spread).all()

    products = centred[:, :, None] * centred[:, None, :]  # (B, D, D)
    bias = VARIANCE_BIAS * spread[:, None] * spread
    assert ((products.mean(dim=0) - law.covariance()).abs() <= error * products.std(dim=0) + bias).all()

    last = torch.eye(sample.shape[1], dtype=torch.float64)[-1]
    lower = law.cdf(tensor([0.0]), last).item()  # about the weight of the lower mode
    share = (sample[:, -1] < 0).double().mean().item()
    assert abs(share - lower) <= error * math.sqrt(lower * (1 - lower)) + PROBABILITY_BIAS

    directions = [last, torch.ones_like(last), last.flip(0) - 0.5 * last]
    for direction in directions:
        points = (sample @ direction).sort().values
        distance = (law.cdf(points, direction) - (torch.arange(len(points)) + 0.5) / len(points)).abs().max()
        assert distance <= DKW + PROBABILITY_BIAS


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize(("sampler", "kwargs"), SAMPLERS.values(), ids=SAMPLERS)
class TestLaw:
    def test_is_that_of_the_data(self, sampler, kwargs, process):
        schedule, law = process(1000), two_modes()
        x = noise(N_SAMPLES, 2, 1)
        sample = sampler(exact_denoiser(law, schedule), schedule, x, generator=seeded(1), **kwargs)
        assert_follows(sample.flatten(start_dim=1), law)

    def test_is_the_conditional_where_a_step_is_known(self, sampler, kwargs, process):
        """Whatever the denoiser says about the known step, which it does not have to get right."""
        schedule, law, condition = process(1000), two_modes(), first_step_known(0.0)
        denoise = exact_denoiser(law, schedule, condition)
        x = noise(N_SAMPLES, 2, 1)
        sample = sampler(denoise, schedule, x, generator=seeded(1), **kwargs)
        assert_follows(sample[:, 1], law.given_first(0.0))


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize(
    "law",
    [line([1.0], [0.3], [0.4]), line([0.3, 0.7], [-0.5, 0.45], [0.2, 0.17]), two_modes().given_first(0.0)],
    ids=["gaussian", "mixture", "conditional"],
)
def test_exact_consistency_function_draws_the_law_in_any_number_of_steps(law, steps, process):
    schedule = process(100)
    denoise = exact_consistency_function(law, schedule)
    x = noise(N_SAMPLES, 1, 1)
    sample = sample_consistency(denoise, schedule, x, steps=steps, generator=seeded(1))
    assert_follows(sample[:, 0], law)


def test_one_consistency_step_is_the_flow():
    schedule, z = RectifiedFlow(100), noise(50, 1, 1)
    denoise = exact_consistency_function(line([1.0], [0.3], [0.4]), schedule)
    torch.testing.assert_close(sample_consistency(denoise, schedule, z), 0.3 + 0.4 * z)


# Order of convergence to the probability flow

Z = torch.linspace(-2, 2, 21, dtype=torch.float64)[:, None]
LAWS = {
    "gaussian": line([1.0], [0.3], [0.4]),
    "mixture": line([0.3, 0.7], [-0.5, 0.45], [0.2, 0.17]),
}
ORDERS = {"ddim": (sample_ddim, 1), "dpm": (sample_dpm_solver, 2), "heun": (sample_heun, 2)}
STEPS = (32, 64, 128, 256)


def uniform_in_log_snr(share: Callable[[Tensor], Tensor]) -> ForwardProcess:
    """A process of 4096 steps along which log(alpha / sigma) falls evenly from 4 to -4."""
    log_snr = torch.linspace(4, -4, 4096, dtype=torch.float64)
    return ForwardProcess(share(log_snr), share(-log_snr), "sample")


UNIFORM = {
    "diffusion": uniform_in_log_snr(lambda log_snr: torch.sigmoid(2 * log_snr).sqrt()),
    "flow": uniform_in_log_snr(torch.sigmoid),
}


def flow_errors(sampler, schedule: ForwardProcess, law: GaussianMixture, steps: int) -> tuple[float, float]:
    """Largest distance from the exact flow: before the last step, and after it."""

    def exact(t: int) -> Tensor:
        return transport(line([1.0], [0.0], [1.0]), law.noised(*schedule.level(t)), Z)

    seen: list[tuple[Tensor, int]] = []
    denoise: Denoise = exact_denoiser(law, schedule)

    def recorded(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        seen.append((x, t))
        return denoise(x, t)

    start = exact(schedule.num_train_timesteps - 1)[:, :, None]
    sample = sampler(recorded, schedule, start, steps=steps, spacing="trailing")
    x, t = seen[-1]
    return (x[:, :, 0] - exact(t)).abs().max().item(), (sample[:, :, 0] - exact(-1)).abs().max().item()


def order(errors: list[float]) -> float:
    """Slope of log error over log step size."""
    return -np.polyfit(np.log(STEPS), np.log(errors), 1)[0]


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("schedule", UNIFORM.values(), ids=UNIFORM)
@pytest.mark.parametrize(("sampler", "expected"), ORDERS.values(), ids=ORDERS)
def test_order_is_the_published_one_where_every_step_shrinks(sampler, expected, schedule, law):
    """Before the last step, in steps of equal log-SNR, in which the solvers' theorems are stated."""
    errors = [flow_errors(sampler, schedule, law, steps)[0] for steps in STEPS]
    assert order(errors) == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize(("sampler", "expected"), ORDERS.values(), ids=ORDERS)
def test_order_on_the_schedules_themselves(sampler, expected, process, law):
    """In equal steps of t the first and last steps stay long in log-SNR (log 2, log 3/2, ...) however many there are.

    Each adds an error of 1 / steps^2. To DPM-Solver++, a method in log-SNR, all of them add `log(steps) / steps^2`,
    and a slope of 1.3 to 1.9 here; Heun's method, one in alpha and sigma, does not see them.
    """
    schedule = process(4096)
    slope = order([flow_errors(sampler, schedule, law, steps)[0] for steps in STEPS])
    if sampler is sample_dpm_solver:
        assert 1.25 < slope < 2.1
    else:
        assert slope == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("sampler", [sample_dpm_solver, sample_heun])
@pytest.mark.parametrize("steps", [32, 256])
def test_last_step_adds_the_error_of_its_closed_form(sampler, process, steps):
    """Of first order by design, it ends in E[x_0 | x_t]: too narrow by `1 - alpha s / sqrt(alpha^2 s^2 + sigma^2)`.

    That is about `sigma^2 / (2 s^2)`: of order 1 / steps^2 while sigma is proportional to t, as in flow matching. The
    cosine's offset makes sigma^2 proportional to t below t = 0.008: with over a hundred steps this error of order
    1 / steps is the largest.
    """
    schedule, std = process(4096), 0.4
    before, after = flow_errors(sampler, schedule, LAWS["gaussian"], steps)
    alpha, sigma = schedule.level(4096 // steps - 1)
    spread = math.sqrt(alpha**2 * std**2 + sigma**2)
    last = Z.max().item() * std * (1 - alpha * std / spread)
    assert last < 2 * std * sigma**2 / (2 * alpha**2 * std**2) + 1e-12
    assert (
        abs(after - last) <= before * alpha * std**2 / spread**2 + 1e-9
    )  # the last step shrinks what came before


# Few steps with clipping, as policies take them


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 8])
def test_few_clipped_steps_end_within_reach_of_the_data(process, spacing, steps):
    """Everything is finite, and the last step, which is a clipped prediction, lies within [-1, 1]."""
    schedule, x = process(100), noise(500, 2, 1)
    denoise = exact_denoiser(two_modes(), schedule)

    def clipped(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        clean, noise = denoise(x, t)
        return clean.clamp(-1, 1), noise

    for sampler, kwargs in SAMPLERS.values():
        few = kwargs | {"steps": steps, "spacing": spacing}
        sample = sampler(clipped, schedule, x, generator=seeded(1), **few)
        assert (sample.abs() <= 1 + 1e-6).all(), (sampler, kwargs)


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
def test_one_trailing_step_is_the_mean_and_four_find_both_modes(process):
    schedule, law, x = process(100), two_modes(), noise(N_SAMPLES, 2, 1)
    for sampler in (sample_ddim, sample_dpm_solver, sample_heun):
        one = sampler(exact_denoiser(law, schedule), schedule, x, steps=1, spacing="trailing")
        torch.testing.assert_close(one, law.mean()[:, None].expand_as(one), rtol=0, atol=2e-3)
        four = sampler(exact_denoiser(law, schedule), schedule, x, steps=4, spacing="trailing")
        assert 0.15 < (four[:, -1] < 0).double().mean() < 0.45

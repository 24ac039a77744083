"""Tests for samplers.py: against the diffusers package, a direct re-derivation and Gaussian closed forms."""

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule
from diffusion_policy.model.diffusion.samplers import (
    Denoise,
    sample_ddim,
    sample_ddpm,
    spaced_timesteps,
)

BETA_SCHEDULES = ("squaredcos_cap_v2", "linear", "scaled_linear")
PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
STEPS = (100, 50, 16, 8, 3, 1)
SHAPE = (3, 4, 2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(x: Tensor, t: int) -> Tensor:
    """Some smooth function of noisy trajectory and diffusion step; values at neighbouring steps mix."""
    return torch.tanh(0.8 * x + 0.3 * x.roll(1, dims=1) - t / 100)


def denoiser(schedule: NoiseSchedule, clip: bool) -> Denoise:
    def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        clean, noise = schedule.clean_and_noise(network(x, t), x, t)
        return (clean.clamp(-1, 1) if clip else clean), noise

    return denoise


def assert_agrees(sampler, schedule: NoiseSchedule, reference, clip: bool, steps: int, **kwargs) -> None:
    """Every step equals diffusers' from the same trajectory to 1e-6, and so the whole loop to 2e-6.

    The bound of the loop is wider because torch's `x ** 0.5`, which diffusers calls, misses the nearest
    float32 in about every fifth table entry, and that adds up. Measured for DDIM over all cases here: ours is
    1.6e-6 from diffusers, and 2.1e-7 from the same recursion in float64, from which diffusers is 1.7e-6. With
    torch's roots ours is diffusers' bit for bit.
    """
    step_kwargs = {"eta": kwargs["eta"]} if "eta" in kwargs else {}
    reference.set_timesteps(steps)
    seen: list[tuple[Tensor, int]] = []

    def recorded(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        seen.append((x, t))
        return denoiser(schedule, clip)(x, t)

    x = torch.randn(SHAPE, generator=seeded(), dtype=torch.float64)
    ours = sampler(recorded, schedule, x, steps=steps, generator=seeded(1), **kwargs)
    assert [t for _, t in seen] == reference.timesteps.tolist()

    generator = seeded(1)
    for (noisy, t), following in zip(seen, [*(x for x, _ in seen[1:]), ours], strict=True):
        stepped = reference.step(network(noisy, t), t, noisy, generator=generator, **step_kwargs)
        assert_same(following, stepped.prev_sample, 1e-6)

    generator = seeded(1)
    for t in reference.timesteps.tolist():
        x = reference.step(network(x, t), t, x, generator=generator, **step_kwargs).prev_sample
    assert_same(ours, x, 2e-6)


def assert_same(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    """Equal up to `tolerance` of the largest value."""
    atol = tolerance * max(1, reference.abs().max().item())
    torch.testing.assert_close(ours, reference, rtol=0, atol=atol)


# Against diffusers


@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", [100, 8])
@pytest.mark.parametrize("sampler", [sample_ddpm, sample_ddim])
def test_agrees_with_diffusers(sampler, beta_schedule, prediction_type, clip, steps):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler if sampler is sample_ddpm else diffusers.DDIMScheduler
    reference = scheduler(100, beta_schedule=beta_schedule, prediction_type=prediction_type, clip_sample=clip)
    schedule = NoiseSchedule(100, beta_schedule, prediction_type=prediction_type)
    assert_agrees(sampler, schedule, reference, clip, steps)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("steps", STEPS)
def test_ddpm_variances_agree_with_diffusers(variance, steps):
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.DDPMScheduler(100, beta_schedule="squaredcos_cap_v2", variance_type=variance)
    assert_agrees(sample_ddpm, NoiseSchedule(100), reference, True, steps, variance=variance)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", STEPS)
def test_stochastic_ddim_agrees_with_diffusers(eta, steps):
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.DDIMScheduler(100, beta_schedule="squaredcos_cap_v2")
    assert_agrees(sample_ddim, NoiseSchedule(100), reference, True, steps, eta=eta)


@pytest.mark.parametrize("final", ["one", "first"])
@pytest.mark.parametrize("offset", [0, 1, 3])
def test_ddim_end_and_offset_agree_with_diffusers(final, offset):
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.DDIMScheduler(
        100, beta_schedule="squaredcos_cap_v2", set_alpha_to_one=final == "one", steps_offset=offset
    )
    assert_agrees(
        sample_ddim, NoiseSchedule(100), reference, True, 10, final_alpha_bar=final, steps_offset=offset
    )


# Against the library that the original pinned, whose rule reads tables of neighbouring steps


def ddpm_of_neighbours(
    schedule: NoiseSchedule, x: Tensor, steps: int, generator: torch.Generator, variance: str
) -> Tensor:
    """Step from t to t - 1 whatever the spacing: `abar[t - 1]` and `beta[t]` in every coefficient."""
    denoise = denoiser(schedule, clip=True)
    betas = schedule.betas.numpy().astype(np.float64)
    alpha_bars = schedule.alphas_cumprod.numpy().astype(np.float64)
    for t in range((steps - 1) * (100 // steps), -1, -(100 // steps)):
        beta, alpha_bar, previous = betas[t], alpha_bars[t], alpha_bars[t - 1] if t > 0 else 1.0
        clean, _ = denoise(x, t)
        x = (previous**0.5 * beta * clean + (1 - beta) ** 0.5 * (1 - previous) * x) / (1 - alpha_bar)
        if t > 0:
            posterior = max(beta * (1 - previous) / (1 - alpha_bar), 1e-20)
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
            x = x + (posterior if variance == "fixed_small" else beta) ** 0.5 * noise
    return x


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("steps", STEPS)
def test_old_respacing_agrees_with_its_rule(variance, steps):
    schedule = NoiseSchedule(100)
    x = torch.randn(SHAPE, generator=seeded(), dtype=torch.float64)
    ours = sample_ddpm(
        denoiser(schedule, clip=True),
        schedule,
        x,
        steps=steps,
        generator=seeded(1),
        variance=variance,
        respacing="diffusers-0.11",
    )
    assert_same(ours, ddpm_of_neighbours(schedule, x, steps, seeded(1), variance), 1e-6)


def test_respacings_differ_only_with_fewer_steps():
    schedule = NoiseSchedule(100)
    denoise = denoiser(schedule, clip=True)
    x = torch.randn(SHAPE, generator=seeded(), dtype=torch.float64)

    def both(steps: int | None) -> list[Tensor]:
        return [
            sample_ddpm(denoise, schedule, x, steps=steps, generator=seeded(1), respacing=respacing)
            for respacing in ("exact", "diffusers-0.11")
        ]

    # Exact respacing takes beta from a float32 ratio of neighbours, which keeps it to 1.4e-5 of its value.
    torch.testing.assert_close(*both(None), rtol=0, atol=5e-5)
    exact, old = both(10)
    assert (exact - old).abs().max() > 0.1


# Gaussian data: with x_0 ~ N(m, s^2) the best prediction is linear in x_t

MEAN, N_SAMPLES = 0.3, 20_000


def gaussian_denoiser(schedule: NoiseSchedule, std: float) -> Denoise:
    """E[x_0 | x_t] for x_0 ~ N(MEAN, std^2), and the noise that belongs to it."""

    def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        alpha_bar = float(schedule.alphas_cumprod[t])
        gain = alpha_bar**0.5 * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        clean = MEAN + gain * (x - alpha_bar**0.5 * MEAN)
        return clean, (x - alpha_bar**0.5 * clean) / (1 - alpha_bar) ** 0.5

    return denoise


def moments(sampler, schedule: NoiseSchedule, std: float, **kwargs) -> tuple[float, float]:
    x = torch.randn((N_SAMPLES, 1, 1), generator=seeded(), dtype=torch.float64)
    x = (x - x.mean()) / x.std()
    sample = sampler(gaussian_denoiser(schedule, std), schedule, x, generator=seeded(1), **kwargs)
    return sample.mean().item(), sample.std().item()


@pytest.mark.parametrize("std", [1.0, 0.5, 0.1, 0.0])
@pytest.mark.parametrize(
    ("sampler", "kwargs"),
    [
        (sample_ddpm, {"variance": "fixed_small"}),
        (sample_ddpm, {"variance": "fixed_large"}),
        (sample_ddim, {"eta": 0.0}),
        (sample_ddim, {"eta": 1.0}),
    ],
    ids=["ddpm-small", "ddpm-large", "ddim", "ddim-eta1"],
)
def test_gaussian_data_are_reproduced(sampler, kwargs, std):
    """Mean and spread within four standard errors, and 4 % of the spread for 500 finite steps."""
    mean, spread = moments(sampler, NoiseSchedule(500), std, **kwargs)
    assert abs(mean - MEAN) < 4 * std / N_SAMPLES**0.5 + 1e-3
    assert abs(spread - std) < 4 * std / (2 * N_SAMPLES) ** 0.5 + 0.04 * std + 1e-4


def test_large_variance_is_exact_for_standard_normal_data_and_small_for_a_point():
    """The two ends between which Ho et al. 2020, section 3.2 place the best variance."""
    schedule = NoiseSchedule(100)
    _, spread = moments(sample_ddpm, schedule, 1.0, variance="fixed_large")
    assert abs(spread - 1) < 4 / (2 * N_SAMPLES) ** 0.5
    mean, spread = moments(sample_ddpm, schedule, 0.0, variance="fixed_small")
    assert abs(mean - MEAN) < 1e-6
    assert spread < 1e-6


@pytest.mark.parametrize("n_steps", [100, 400])
def test_deterministic_sampling_is_a_shift_and_a_scale_of_gaussian_data(n_steps):
    """The flow of a Gaussian is linear: quantiles keep their place."""
    schedule = NoiseSchedule(n_steps)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None, None]
    sample = sample_ddim(gaussian_denoiser(schedule, 0.5), schedule, x)
    torch.testing.assert_close(sample, MEAN + 0.5 * x, rtol=0, atol=4 / n_steps)


def test_ddim_with_eta_one_has_the_moments_of_ddpm():
    schedule = NoiseSchedule(100)
    ddim = moments(sample_ddim, schedule, 0.5, eta=1.0)
    ddpm = moments(sample_ddpm, schedule, 0.5)
    np.testing.assert_allclose(ddim, ddpm, atol=1e-6)


# Timesteps, generators, arguments


def test_timesteps_are_those_of_the_original():
    schedule = NoiseSchedule(100)
    assert spaced_timesteps(schedule, 8) == [84, 72, 60, 48, 36, 24, 12, 0]
    assert spaced_timesteps(schedule, 16) == list(range(90, -1, -6))
    assert spaced_timesteps(schedule, 100) == spaced_timesteps(schedule, None) == list(range(99, -1, -1))
    assert spaced_timesteps(schedule, 10, offset=2) == list(range(92, 0, -10))


@pytest.mark.parametrize("steps", [0, -1, 101])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"between 1 and num_train_timesteps=100, got {steps}"):
        spaced_timesteps(NoiseSchedule(100), steps)


@pytest.mark.parametrize(("offset", "spacing"), [(-1, "leading"), (1, "trailing")])
def test_an_offset_that_means_nothing_is_refused(offset, spacing):
    with pytest.raises(ValueError, match=f"steps_offset must be at least 0.*got {offset}"):
        spaced_timesteps(NoiseSchedule(100), 10, offset, spacing)


def test_an_offset_beyond_the_last_step_is_refused():
    with pytest.raises(ValueError, match="steps_offset 1 leads beyond"):
        spaced_timesteps(NoiseSchedule(100), 100, offset=1)


@pytest.mark.parametrize(
    ("sampler", "argument", "value"),
    [
        (sample_ddpm, "variance", "learned"),
        (sample_ddpm, "respacing", "old"),
        (sample_ddim, "final_alpha_bar", "zero"),
        (sample_ddim, "eta", -0.1),
        (sample_ddim, "eta", 1.1),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(sampler, argument, value):
    schedule = NoiseSchedule(10)
    with pytest.raises(ValueError, match=f"{argument} must be .*{value}"):
        sampler(denoiser(schedule, clip=True), schedule, torch.zeros(SHAPE), **{argument: value})


@pytest.mark.parametrize(
    ("sampler", "kwargs"), [(sample_ddpm, {}), (sample_ddim, {"eta": 0.5})], ids=["ddpm", "ddim"]
)
def test_a_row_with_its_own_generator_does_not_see_its_neighbours(sampler, kwargs):
    schedule = NoiseSchedule(20)
    denoise = denoiser(schedule, clip=True)
    x = torch.randn(SHAPE, generator=seeded())
    together = sampler(denoise, schedule, x, generator=[seeded(i) for i in range(3)], **kwargs)
    for i in range(3):
        alone = sampler(denoise, schedule, x[i : i + 1], generator=[seeded(i)], **kwargs)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-6)


def test_deterministic_sampler_draws_nothing():
    schedule = NoiseSchedule(20)
    generator = seeded(5)
    before = generator.get_state()
    sample_ddim(denoiser(schedule, clip=True), schedule, torch.zeros(SHAPE), generator=generator)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("sampler", [sample_ddpm, sample_ddim])
def test_shape_and_type_of_the_noise_are_kept_and_it_is_not_written_to(sampler):
    schedule = NoiseSchedule(5)
    x = torch.randn(SHAPE, generator=seeded(), dtype=torch.float64)
    copy = x.clone()
    sample = sampler(denoiser(schedule, clip=True), schedule, x, generator=seeded(1))
    assert sample.shape == x.shape
    assert sample.dtype == x.dtype
    assert torch.equal(x, copy)

"""Tests for samplers.py: single steps against other writings of the methods, and what holds for all of them."""

import functools
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diffusion_policy.model.diffusion.noise_schedule import ForwardProcess, NoiseSchedule, RectifiedFlow
from diffusion_policy.model.diffusion.regression import MinimalIterative, Regression
from diffusion_policy.model.diffusion.samplers import (
    Denoise,
    sample_consistency,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver,
    sample_heun,
    spaced_timesteps,
)

SHAPE = (3, 4, 2)
DETERMINISTIC = {"ddim": sample_ddim, "dpm": sample_dpm_solver, "heun": sample_heun}
STOCHASTIC = {
    "ddpm": sample_ddpm,
    "ddim-eta1": functools.partial(sample_ddim, eta=1.0),
    "sde-dpm": functools.partial(sample_dpm_solver, stochastic=True),
    "consistency": sample_consistency,
}
SAMPLERS = DETERMINISTIC | STOCHASTIC
SCHEDULES = {
    "epsilon": lambda n: NoiseSchedule(n, prediction_type="epsilon"),
    "sample": lambda n: NoiseSchedule(n, prediction_type="sample"),
    "v": lambda n: NoiseSchedule(n, prediction_type="v_prediction"),
    "flow": RectifiedFlow,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(SHAPE, generator=seeded(), dtype=dtype)


def network(x: Tensor, t: int) -> Tensor:
    """Some smooth function of noisy trajectory and diffusion step; values at neighbouring steps mix."""
    return torch.tanh(0.8 * x + 0.3 * x.roll(1, dims=1) - t / 100)


def denoiser(schedule: ForwardProcess, clip: bool = False) -> Denoise:
    def denoise(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        clean, noise = schedule.clean_and_noise(network(x, t), x, t)
        return (clean.clamp(-1, 1) if clip else clean), noise

    return denoise


def path(sampler: Callable[..., Tensor], schedule: ForwardProcess, **kwargs) -> list[tuple[Tensor, int]]:
    """Every (x, t) that the denoiser saw, and the sample at t = -1."""
    seen: list[tuple[Tensor, int]] = []

    def recorded(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        seen.append((x, t))
        return denoiser(schedule)(x, t)

    sample = sampler(recorded, schedule, start(), generator=seeded(1), **kwargs)
    return [*seen, (sample, -1)]


def assert_same(ours: Tensor, reference: Tensor, tolerance: float) -> None:
    """Equal up to `tolerance` of the largest value."""
    atol = tolerance * max(1, reference.abs().max().item())
    torch.testing.assert_close(ours, reference, rtol=0, atol=atol)


# Other writings of the same methods


def assert_follows(ours: list[tuple[Tensor, int]], reference) -> None:
    """Each of our steps is the one that a scheduler of diffusers takes from where we are."""
    generator = seeded(1)
    for (x, t), (following, _) in itertools.pairwise(ours):
        noise = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
        stepped = reference.step(network(x, t), t, x, variance_noise=noise).prev_sample
        assert_same(following, stepped, 1e-6)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 25])
def test_dpm_solver_agrees_with_diffusers(stochastic, spacing, prediction_type, steps):
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.DPMSolverMultistepScheduler(
        100,
        beta_schedule="squaredcos_cap_v2",
        prediction_type=prediction_type,
        algorithm_type="sde-dpmsolver++" if stochastic else "dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
    )
    schedule = NoiseSchedule(100, prediction_type=prediction_type)
    reference.set_timesteps(timesteps=spaced_timesteps(schedule, steps, spacing=spacing))
    ours = path(sample_dpm_solver, schedule, steps=steps, spacing=spacing, stochastic=stochastic)
    assert_follows(ours, reference)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers with numpy 2
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 3, 8, 25])
def test_dpm_solver_for_flow_matching_agrees_with_diffusers(stochastic, steps):
    """From pure noise on: there the log-SNR is minus infinity."""
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.DPMSolverMultistepScheduler(
        100,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        algorithm_type="sde-dpmsolver++" if stochastic else "dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
    )
    schedule = RectifiedFlow(100)
    reference.set_timesteps(steps)
    timesteps = spaced_timesteps(schedule, steps, spacing="trailing")
    reference.timesteps = torch.tensor(timesteps)
    reference.sigmas = torch.tensor([(t + 1) / 100 for t in [*timesteps, -1]])
    assert_follows(path(sample_dpm_solver, schedule, steps=steps, stochastic=stochastic), reference)


@pytest.mark.parametrize("schedule", [NoiseSchedule(100), RectifiedFlow(100)], ids=["diffusion", "flow"])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_first_step_of_the_stochastic_solver_is_that_of_ddpm(schedule, steps):
    solver = path(sample_dpm_solver, schedule, steps=steps, stochastic=True)
    ddpm = path(sample_ddpm, schedule, steps=steps, spacing="trailing")
    assert_same(solver[1][0], ddpm[1][0], 1e-6)
    if steps > 2:
        assert (solver[-1][0] - ddpm[-1][0]).abs().max() > 1e-6, "only the first and last are of first order"


@pytest.mark.parametrize("schedule", [NoiseSchedule(100), RectifiedFlow(100)], ids=["diffusion", "flow"])
def test_first_step_of_the_deterministic_solver_is_that_of_ddim(schedule):
    solver, ddim = (path(s, schedule, steps=5, spacing="trailing") for s in (sample_dpm_solver, sample_ddim))
    assert_same(solver[1][0], ddim[1][0], 1e-6)


def velocity(x: np.ndarray, time: float) -> np.ndarray:
    """The network of a rectified flow with 100 steps, at time t."""
    return network(torch.from_numpy(x), round(100 * time) - 1).numpy()


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_on_a_rectified_flow_is_euler(steps, spacing):
    schedule = RectifiedFlow(100)
    times = [(t + 1) / 100 for t in [*spaced_timesteps(schedule, steps, spacing=spacing), -1]]
    x = start().numpy()
    for now, later in itertools.pairwise(times):
        x = x + (later - now) * velocity(x, now)
    ours = sample_ddim(denoiser(schedule), schedule, start(), steps=steps, spacing=spacing)
    assert_same(ours, torch.from_numpy(x), 1e-6)


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 50])
def test_heun_on_a_rectified_flow_is_the_textbook_method(steps):
    schedule = RectifiedFlow(100)
    times = [(t + 1) / 100 for t in [*spaced_timesteps(schedule, steps, spacing="trailing"), -1]]
    x = start().numpy()
    for now, later in itertools.pairwise(times):
        slope = velocity(x, now)
        if later > 0:
            slope = (slope + velocity(x + (later - now) * slope, later)) / 2
        x = x + (later - now) * slope
    ours = sample_heun(denoiser(schedule), schedule, start(), steps=steps)
    assert_same(ours, torch.from_numpy(x), 1e-6)


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_heun_on_a_diffusion_is_the_textbook_method_in_alpha_and_sigma(steps, spacing):
    """Along the straight line from one (alpha, sigma) to the next, in one step of length 1."""
    schedule = NoiseSchedule(100, prediction_type="v_prediction")
    timesteps = spaced_timesteps(schedule, steps, spacing=spacing)
    powers = schedule.alphas_cumprod.numpy().astype(np.float64)

    def slope(x: np.ndarray, t: int, move: np.ndarray) -> np.ndarray:
        alpha, sigma = np.sqrt(powers[t]), np.sqrt(1 - powers[t])
        v = network(torch.from_numpy(x), t).numpy()
        return move[0] * (alpha * x - sigma * v) + move[1] * (sigma * x + alpha * v)

    x = start().numpy()
    for t, following in zip(timesteps, [*timesteps[1:], -1], strict=True):
        power = 1.0 if following < 0 else powers[following]
        move = np.sqrt([power, 1 - power]) - np.sqrt([powers[t], 1 - powers[t]])
        first = slope(x, t, move)
        x = x + (first if following < 0 else (first + slope(x + first, following, move)) / 2)
    ours = sample_heun(denoiser(schedule), schedule, start(), steps=steps, spacing=spacing)
    assert_same(ours, torch.from_numpy(x), 1e-6)


def test_consistency_sampling_predicts_the_end_and_adds_less_noise():
    schedule, generator, x = RectifiedFlow(100), seeded(1), start()
    for t, later in ((99, 0.75), (74, 0.5), (49, 0.25)):
        clean, _ = denoiser(schedule)(x, t)
        x = (1 - later) * clean + later * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    clean, _ = denoiser(schedule)(x, 24)
    assert_same(path(sample_consistency, schedule, steps=4)[-1][0], clean, 1e-6)
    assert len(path(sample_consistency, schedule)) == 2, "one call by default, and the sample"


# What holds for every sampler


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@settings(max_examples=15)
@given(
    make=st.sampled_from(list(SCHEDULES.values())),
    n_train=st.integers(1, 60),
    share=st.floats(0, 1),
    spacing=st.sampled_from(["leading", "trailing"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    clip=st.booleans(),
)
def test_noise_keeps_shape_and_type_and_is_not_written_to(
    sampler, make, n_train, share, spacing, dtype, clip
):
    schedule, x = make(n_train), start(dtype)
    copy = x.clone()
    steps = 1 + int(share * (n_train - 1))
    sample = sampler(denoiser(schedule, clip), schedule, x, steps=steps, spacing=spacing, generator=seeded(1))
    assert sample.shape == x.shape
    assert sample.dtype == dtype
    assert sample.isfinite().all()
    assert torch.equal(x, copy)


@pytest.mark.parametrize("sampler", DETERMINISTIC.values(), ids=DETERMINISTIC)
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_deterministic_samplers_draw_nothing(sampler, make):
    schedule, generator = make(20), seeded(5)
    before, global_before = generator.get_state(), torch.get_rng_state()
    for own in (generator, None):
        sampler(denoiser(schedule), schedule, start(), steps=7, generator=own)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), global_before)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
def test_rows_with_their_own_generators_do_not_see_their_neighbours(sampler, make):
    schedule, x = make(20), start()
    together = sampler(denoiser(schedule), schedule, x, steps=7, generator=[seeded(i) for i in range(len(x))])
    for i in range(len(x)):
        alone = sampler(denoiser(schedule), schedule, x[i : i + 1], steps=7, generator=[seeded(i)])
        assert_same(together[i : i + 1], alone, 1e-6)


@pytest.mark.parametrize("sampler", STOCHASTIC.values(), ids=STOCHASTIC)
def test_stochastic_samplers_draw_from_the_generator_they_are_given(sampler):
    schedule = NoiseSchedule(20)
    first, again, other = (
        sampler(denoiser(schedule), schedule, start(), steps=5, generator=seeded(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 1e-3


@given(n_train=st.integers(1, 2000), data=st.data(), spacing=st.sampled_from(["leading", "trailing"]))
def test_timesteps_fall_within_range(n_train, data, spacing):
    steps = data.draw(st.integers(1, n_train))
    timesteps = spaced_timesteps(RectifiedFlow(n_train), steps, spacing=spacing)
    assert len(timesteps) == steps
    assert all(earlier > later for earlier, later in itertools.pairwise(timesteps))
    assert timesteps[0] <= n_train - 1
    assert timesteps[-1] >= 0
    if spacing == "trailing":
        assert timesteps[0] == n_train - 1
    else:
        assert timesteps[-1] == 0


def test_each_sampler_visits_its_timesteps_in_order():
    schedule = NoiseSchedule(100)
    for spacing in ("leading", "trailing"):
        timesteps = spaced_timesteps(schedule, 6, spacing=spacing)
        for sampler in SAMPLERS.values():
            visited = [t for _, t in path(sampler, schedule, steps=6, spacing=spacing)][:-1]
            twice = [t for t in timesteps[1:] for _ in range(2)] if sampler is sample_heun else timesteps[1:]
            assert visited == [timesteps[0], *twice]


# Refusals


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("schedule", [Regression(), MinimalIterative()], ids=["regression", "mip"])
def test_a_policy_of_regression_is_not_sampled_as_a_diffusion(sampler, schedule):
    with pytest.raises(
        ValueError, match=f"needs a NoiseSchedule or a RectifiedFlow, got {type(schedule).__name__}"
    ):
        sampler(denoiser(NoiseSchedule(2)), schedule, start())


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"steps": 0}, "steps must be between 1 and num_train_timesteps=10, got 0"),
        ({"steps": 11}, "steps must be between 1 and num_train_timesteps=10, got 11"),
        ({"steps": 2.5}, "steps must be between 1 and num_train_timesteps=10, got 2.5"),
        ({"steps": 2, "spacing": "linspace"}, "spacing must be 'leading' or 'trailing', got 'linspace'"),
    ],
)
def test_a_wrong_argument_is_named_with_its_value(sampler, kwargs, message):
    schedule = RectifiedFlow(10)
    with pytest.raises(ValueError, match=message):
        sampler(denoiser(schedule), schedule, start(), **kwargs)


def test_old_respacing_is_refused_for_flow_matching():
    with pytest.raises(
        ValueError, match="respacing 'diffusers-0.11' needs a NoiseSchedule, got RectifiedFlow"
    ):
        sample_ddpm(denoiser(RectifiedFlow(10)), RectifiedFlow(10), start(), respacing="diffusers-0.11")

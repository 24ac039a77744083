"""Tests for the forward processes of noise_schedule.py: flow matching, and what holds for each of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.model.diffusion.noise_schedule import ForwardProcess, NoiseSchedule, RectifiedFlow
from diffusion_policy.model.diffusion.samplers import sample_ddim
from tests.model.diffusion.gaussian_mixture import GaussianMixture, exact_denoiser

PROCESSES = [
    *((NoiseSchedule, kind) for kind in ("epsilon", "sample", "v_prediction", "velocity")),
    *((RectifiedFlow, kind) for kind in ("velocity", "sample")),
]
N_STEPS = st.integers(2, 300)


def pair(rows: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean trajectories and noise, (rows, 3, 2)."""
    clean, noise = torch.randn(2, rows, 3, 2, generator=torch.Generator().manual_seed(0))
    return clean, noise


def test_signal_falls_in_equal_steps_until_none_is_left():
    schedule = RectifiedFlow(4)
    assert schedule.levels == [(0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0)]
    assert schedule.level(-1) == (1.0, 0.0)
    torch.testing.assert_close(schedule.alpha, torch.tensor([0.75, 0.5, 0.25, 0.0]))
    torch.testing.assert_close(schedule.sigma, torch.tensor([0.25, 0.5, 0.75, 1.0]))


def test_velocity_is_the_derivative_of_the_noisy_trajectory():
    schedule, (clean, noise) = RectifiedFlow(100), pair()
    earlier, later = (schedule.add_noise(clean, noise, torch.tensor([t])) for t in (20, 60))
    target = schedule.target(clean, noise, torch.tensor([20]))
    torch.testing.assert_close((later - earlier) / 0.4, target, rtol=0, atol=1e-5)


def test_rows_are_noised_by_their_own_timestep():
    clean, noise = torch.ones(2, 3, 2), torch.zeros(2, 3, 2)
    noisy = RectifiedFlow(10).add_noise(clean, noise, torch.tensor([0, 9]))
    torch.testing.assert_close(noisy[:, 0, 0], torch.tensor([0.9, 0.0]))


def test_error_of_every_row_counts_alike():
    assert RectifiedFlow(10).loss_weight(torch.arange(10)) is None


@pytest.mark.parametrize(("process", "kind"), PROCESSES)
@given(n=N_STEPS, share=st.floats(0, 1))
def test_a_perfect_prediction_gives_back_clean_trajectory_and_noise(process, kind, n, share):
    """Up to float32's rounding of x_t, which division by the smaller share magnifies."""
    schedule: ForwardProcess = process(n, prediction_type=kind)
    t = int(share * (n - 1))
    clean, noise = pair()
    noisy = schedule.add_noise(clean, noise, torch.tensor([t]))
    prediction = schedule.target(clean, noise, torch.tensor([t]))
    clean_again, noise_again = schedule.clean_and_noise(prediction, noisy, t)
    alpha, sigma = schedule.level(t)
    least_alpha, least_sigma = (
        (alpha, 1.0) if kind == "epsilon" else (1.0, sigma if kind == "sample" else 1.0)
    )
    torch.testing.assert_close(clean_again, clean, rtol=0, atol=3e-6 / least_alpha)
    torch.testing.assert_close(noise_again, noise, rtol=0, atol=3e-6 / least_sigma)


@pytest.mark.parametrize("process", [NoiseSchedule, RectifiedFlow])
@given(n=N_STEPS)
def test_levels_are_the_tables_and_log_snr_falls(process, n):
    schedule = process(n)
    torch.testing.assert_close(
        torch.tensor(schedule.levels), torch.stack((schedule.alpha, schedule.sigma), dim=1)
    )
    ratios = [alpha / sigma for alpha, sigma in schedule.levels]
    assert ratios == sorted(ratios, reverse=True)
    assert len(set(ratios)) == n


@pytest.mark.parametrize("process", [NoiseSchedule, RectifiedFlow])
@given(n=N_STEPS, data=st.data())
def test_added_variance_is_what_is_missing_between_two_steps(process, n, data):
    """Noising to s and then adding this variance is noising to t, so that variances add up."""
    schedule = process(n)
    t = data.draw(st.integers(0, n - 1))
    s = data.draw(st.integers(-1, t - 1))
    (alpha, sigma), (cleaner_alpha, cleaner_sigma) = schedule.level(t), schedule.level(s)
    added = schedule.added_variance(t, s)
    assert 0 < added <= 1
    total = (alpha / cleaner_alpha * cleaner_sigma) ** 2 + added
    assert math.isclose(total, sigma**2, abs_tol=2e-7)


@pytest.mark.parametrize("n", [100, 500, 1000, 4096])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 2, 4, 8])
def test_steps_from_almost_pure_noise_stay_real(n, spacing, steps):
    """There the variance of the added noise is that of x up to rounding, and their difference may not be negative."""
    schedule = NoiseSchedule(n)
    law = GaussianMixture(*(torch.ones(shape, dtype=torch.float64) for shape in ((1,), (1, 1), (1, 1, 1))))
    x = torch.randn(20, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sample = sample_ddim(exact_denoiser(law, schedule), schedule, x, steps=steps, eta=1.0, spacing=spacing)
    assert sample.dtype == torch.float64
    assert sample.isfinite().all()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_objectives_of_diffusion_are_refused(kind):
    with pytest.raises(ValueError, match=f"prediction_type must be 'velocity' or 'sample', got '{kind}'"):
        RectifiedFlow(10, prediction_type=kind)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("num_train_timesteps", 0), ("num_train_timesteps", -3), ("prediction_type", "score")],
)
def test_a_wrong_argument_is_named_with_its_value(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be .*{value}"):
        RectifiedFlow(**{argument: value})


def test_tables_follow_the_module_but_are_not_saved():
    schedule = RectifiedFlow(10).to("meta")
    assert schedule.alpha.device.type == schedule.sigma.device.type == "meta"
    assert schedule.level(4) == RectifiedFlow(10).level(4), "samplers read levels on the host"
    assert not schedule.state_dict()

"""Tests for noise_schedule.py."""

import math

import numpy as np
import pytest
import torch

from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule

BETA_SCHEDULES = ("squaredcos_cap_v2", "linear", "scaled_linear")
PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


def test_paper_schedule_has_the_published_values():
    schedule = NoiseSchedule()
    np.testing.assert_allclose(schedule.betas[[0, 50, 99]], [6.3128e-4, 0.0315463, 0.999], rtol=1e-5)
    np.testing.assert_allclose(
        schedule.alphas_cumprod[[0, 50, 99]], [0.9993687, 0.4782646, 2.4285e-7], rtol=1e-4
    )


@pytest.mark.parametrize("n_steps", [1, 10, 100, 1000])
def test_squared_cosine_is_its_closed_form_where_no_beta_is_capped(n_steps):
    def alpha_bar(s: float) -> float:
        return math.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2

    schedule = NoiseSchedule(n_steps)
    expected = [alpha_bar((i + 1) / n_steps) / alpha_bar(0) for i in range(n_steps - 1)]
    np.testing.assert_allclose(schedule.alphas_cumprod[:-1], expected, rtol=1e-3, atol=1e-7)
    assert schedule.betas[-1] == np.float32(0.999)


@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
@pytest.mark.parametrize("n_steps", [10, 100, 1000])
def test_tables_agree_with_diffusers(beta_schedule, n_steps):
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.DDPMScheduler(n_steps, beta_start=0.001, beta_end=0.03, beta_schedule=beta_schedule)
    schedule = NoiseSchedule(n_steps, beta_schedule, beta_start=0.001, beta_end=0.03)
    np.testing.assert_allclose(schedule.betas, reference.betas, rtol=1e-6, atol=0)
    np.testing.assert_allclose(schedule.alphas_cumprod, reference.alphas_cumprod, rtol=1e-6, atol=0)


@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
def test_noising_and_velocity_agree_with_diffusers(beta_schedule):
    diffusers = pytest.importorskip("diffusers")
    reference = diffusers.DDPMScheduler(100, beta_schedule=beta_schedule)
    schedule = NoiseSchedule(100, beta_schedule, prediction_type="v_prediction")
    timestep = torch.arange(100)
    clean, noise = torch.randn(2, 100, 3, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        schedule.add_noise(clean, noise, timestep),
        reference.add_noise(clean, noise, timestep),
        rtol=0,
        atol=1e-6,
    )
    torch.testing.assert_close(
        schedule.target(clean, noise, timestep),
        reference.get_velocity(clean, noise, timestep),
        rtol=0,
        atol=1e-6,
    )


def test_signal_falls_and_its_power_and_the_noise_add_up_to_one():
    schedule = NoiseSchedule(100)
    torch.testing.assert_close(schedule.alpha**2 + schedule.sigma**2, torch.ones(100))
    assert (schedule.alpha.diff() < 0).all()
    assert (schedule.sigma.diff() > 0).all()


@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_a_perfect_prediction_gives_back_clean_trajectory_and_noise(beta_schedule, prediction_type):
    schedule = NoiseSchedule(100, beta_schedule, prediction_type=prediction_type)
    clean, noise = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(1))
    for t in range(100):
        timestep = torch.tensor([t])
        noisy = schedule.add_noise(clean, noise, timestep)
        prediction = schedule.target(clean, noise, timestep)
        clean_again, noise_again = schedule.clean_and_noise(prediction, noisy, t)
        alpha, sigma = schedule.alpha[t].item(), schedule.sigma[t].item()
        torch.testing.assert_close(clean_again, clean, rtol=0, atol=1e-6 / alpha)
        torch.testing.assert_close(noise_again, noise, rtol=0, atol=1e-6 / sigma)


def test_rows_are_noised_by_their_own_timestep():
    schedule = NoiseSchedule(100)
    clean, noise = torch.ones(2, 1, 1), torch.zeros(2, 1, 1)
    noisy = schedule.add_noise(clean, noise, torch.tensor([3, 70]))
    torch.testing.assert_close(noisy.flatten(), schedule.alpha[[3, 70]])


def test_tables_follow_the_module_but_are_not_saved():
    schedule = NoiseSchedule(10).to("meta")
    assert schedule.alpha.device.type == schedule.sigma.device.type == "meta"
    assert schedule.betas.device.type == "cpu", "samplers read it on the host"
    assert not schedule.state_dict()
    assert not list(schedule.parameters())


@pytest.mark.parametrize(
    ("argument", "value"),
    [("num_train_timesteps", 0), ("beta_schedule", "cosine"), ("prediction_type", "noise")],
)
def test_a_wrong_argument_is_named_with_its_value(argument, value):
    with pytest.raises(ValueError, match=f"{argument} must be .*{value}"):
        NoiseSchedule(**{argument: value})

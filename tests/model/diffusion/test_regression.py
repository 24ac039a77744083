"""Tests for regression.py."""

import torch

from diffusion_policy.model.diffusion.regression import Regression, sample_regression


def test_network_sees_zeros_at_step_zero_and_its_answer_is_the_sample():
    schedule = Regression()
    seen = []

    def denoise(x, t):
        seen.append((x, t))
        return schedule.clean_and_noise(torch.full_like(x, 0.25), x, t)

    sample = sample_regression(denoise, schedule, torch.randn(2, 4, 3), generator=torch.Generator())
    assert len(seen) == 1
    assert torch.equal(seen[0][0], torch.zeros(2, 4, 3))
    assert seen[0][1] == 0
    assert torch.equal(sample, torch.full((2, 4, 3), 0.25))


def test_training_target_is_the_clean_trajectory_without_noise():
    schedule = Regression()
    clean, noise = torch.randn(2, 3, 4, 2)
    timestep = torch.randint(0, schedule.num_train_timesteps, (3,))
    assert timestep.tolist() == [0, 0, 0]
    assert torch.equal(schedule.add_noise(clean, noise, timestep), torch.zeros_like(clean))
    assert torch.equal(schedule.target(clean, noise, timestep), clean)
    assert not schedule.state_dict()

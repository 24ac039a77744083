"""Tests for regression.py."""

import math

import pytest
import torch

from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule
from diffusion_policy.model.diffusion.regression import (
    MinimalIterative,
    Regression,
    sample_minimal_iterative,
    sample_regression,
)


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


def test_regression_is_refused_for_a_policy_of_diffusion():
    with pytest.raises(ValueError, match="needs a policy trained with Regression .* got NoiseSchedule"):
        sample_regression(lambda x, t: (x, x), NoiseSchedule(10), torch.zeros(1, 2, 3))


# Twice: a minimal iterative policy


def test_first_guess_is_from_zeros_and_the_second_from_the_truth_with_a_little_noise():
    schedule = MinimalIterative(0.9)
    clean, noise = torch.randn(2, 4, 3, 2)
    noisy = schedule.add_noise(clean, noise, torch.tensor([0, 1, 1, 0]))
    assert torch.equal(noisy[[0, 3]], torch.zeros(2, 3, 2))
    torch.testing.assert_close(noisy[1:3], clean[1:3] + 0.1 * noise[1:3])
    assert noisy.dtype == clean.dtype
    assert torch.equal(schedule.target(clean, noise, torch.tensor([0, 1, 1, 0])), clean)


@pytest.mark.parametrize("level", [0.9, 0.5])
def test_errors_count_by_the_size_of_the_guess_they_correct(level):
    weight = MinimalIterative(level).loss_weight(torch.tensor([0, 1]))
    torch.testing.assert_close(weight, torch.tensor([1 / level**2, 1 / (1 - level) ** 2]))
    assert Regression().loss_weight(torch.tensor([0])) is None


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_each_call_after_the_first_starts_from_the_last_answer(steps):
    schedule, generator, seen = MinimalIterative(), torch.Generator(), []
    state, x = generator.get_state(), torch.randn(2, 4, 3)
    copy = x.clone()

    def denoise(x, t):
        seen.append((x, t))
        return schedule.clean_and_noise(0.5 * x + 0.25, x, t)

    sample = sample_minimal_iterative(denoise, schedule, x, steps=steps, generator=generator)
    assert [t for _, t in seen] == [0, *[1] * (steps - 1)]
    answer = torch.zeros(2, 4, 3)
    for noisy, _ in seen:
        torch.testing.assert_close(noisy, answer)
        answer = 0.5 * answer + 0.25
    torch.testing.assert_close(sample, answer)
    assert torch.equal(generator.get_state(), state), "nothing is drawn"
    assert torch.equal(x, copy)


def test_of_two_modes_regression_takes_the_mean_and_a_second_guess_leans_to_the_nearer_one():
    """The best network answers E[x_0], then E[x_0 | guess]: it goes from between two modes towards one of them.

    With x_0 = -1 (30 %) or 1 and a guess x_0 + 0.1 eps the second answer is tanh of half the log-odds.
    """
    schedule = MinimalIterative(0.9)
    mean, prior = 0.4, math.log(0.7 / 0.3)

    def best(x, t):
        clean = torch.full_like(x, mean) if t == 0 else torch.tanh((2 * x / 0.1**2 + prior) / 2)
        return schedule.clean_and_noise(clean, x, t)

    x = torch.randn(5, 1, 1)
    once, twice = (sample_minimal_iterative(best, schedule, x, steps=steps) for steps in (1, 2))
    torch.testing.assert_close(once, torch.full_like(x, mean))
    torch.testing.assert_close(twice, torch.ones_like(x))


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 2.0])
def test_a_level_outside_zero_to_one_is_refused(level):
    with pytest.raises(ValueError, match=f"second_level must lie between 0 and 1, got {level}"):
        MinimalIterative(level)


@pytest.mark.parametrize("schedule", [Regression(), NoiseSchedule(10)], ids=["regression", "diffusion"])
def test_two_steps_are_refused_for_a_policy_of_another_objective(schedule):
    with pytest.raises(ValueError, match=f"trained with MinimalIterative, got {type(schedule).__name__}"):
        sample_minimal_iterative(lambda x, t: (x, x), schedule, torch.zeros(1, 2, 3))


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(steps):
    with pytest.raises(ValueError, match=f"steps must be at least 1, got {steps}"):
        sample_minimal_iterative(lambda x, t: (x, x), MinimalIterative(), torch.zeros(1, 2, 3), steps=steps)


def test_one_regression_step_also_runs_a_minimal_iterative_policy():
    sample = sample_regression(lambda x, t: (x + 1, x), MinimalIterative(), torch.randn(1, 2, 3))
    assert torch.equal(sample, torch.ones(1, 2, 3))

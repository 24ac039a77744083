"""Noise and targets of the kitchen's robot, in closed form."""

import numpy as np
import pytest

from diffusion_policy.common import kitchen

# ORIGINAL: `.1 x9, .005 x2, .0005 x6, .005 x3, .1 x3, .005 x3, .1 x3, .005`, written out.
AMPLITUDES = [
    *[
        0.1,
        0.1,
        0.1,
        0.1,
        0.1,
        0.1,
        0.1,
        0.1,
        0.1,
        0.005,
        0.005,
        0.0005,
        0.0005,
        0.0005,
        0.0005,
        0.0005,
        0.0005,
    ],
    *[0.005, 0.005, 0.005, 0.1, 0.1, 0.1, 0.005, 0.005, 0.005, 0.1, 0.1, 0.1, 0.005],
]
MIDDLE = (kitchen.JOINT_LOW + kitchen.JOINT_HIGH) / 2


def test_noise_stays_within_its_amplitudes_and_reaches_them():
    positions = np.linspace(-1, 1, 2000 * 30).reshape(2000, 30)
    noise = kitchen.noisy(positions, 0.1, np.random.default_rng(0)) - positions
    bound = 0.1 * np.array(AMPLITUDES)
    assert (np.abs(noise) <= bound + 1e-12).all()
    assert (np.abs(noise).max(0) > 0.98 * bound).all()
    np.testing.assert_allclose(noise.std(0), bound / np.sqrt(3), rtol=0.06)


def test_noise_is_drawn_as_one_step_after_another():
    positions = np.zeros((4, 30))
    random = np.random.default_rng(3)
    by_step = [kitchen.noisy(step, 0.5, random) for step in positions]
    np.testing.assert_array_equal(by_step, kitchen.noisy(positions, 0.5, np.random.default_rng(3)))


@pytest.mark.parametrize(("action", "velocity"), [(0.25, 0.5), (-1, -2), (3, 2), (-9, -2)])
def test_velocities(action, velocity):
    np.testing.assert_array_equal(kitchen.velocities(np.full((5, 9), action)), np.full((5, 9), velocity))


@pytest.mark.parametrize(("velocity", "moved"), [(1.5, 0.12), (-0.5, -0.04), (11.0, 0.8), (-100.0, -0.8)])
def test_targets_of_the_arm(velocity, moved):
    targets = kitchen.targets(MIDDLE, np.full(9, velocity))
    np.testing.assert_allclose(targets[:7], MIDDLE[:7] + moved, atol=1e-12)


def test_targets_stay_within_the_joints_ranges():
    low = kitchen.targets(kitchen.JOINT_LOW + 0.01, np.full(9, -10.0))
    high = kitchen.targets(kitchen.JOINT_HIGH - 0.01, np.full(9, 10.0))
    np.testing.assert_array_equal(low, [-2.9, -1.8, -2.9, -3.1, -2.9, 0, -2.9, 0, 0])
    np.testing.assert_array_equal(high, [2.9, 1.8, 2.9, 0, 2.9, 3.8, 2.9, 0.04, 0.04])

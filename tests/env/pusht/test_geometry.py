import math

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_policy.env.pusht import BLOCK_KEYPOINTS, GOAL_POSE, block_keypoints, coverage

poses = st.tuples(st.floats(100, 400), st.floats(100, 400), st.floats(-10, 10))


def inside_t(points: np.ndarray, pose: tuple[float, float, float]) -> np.ndarray:
    """Whether points (N, 2) lie in a T, by its definition."""
    x, y, angle = pose
    offset = points - (x, y)
    across = offset @ (math.cos(angle), math.sin(angle))
    along = offset @ (-math.sin(angle), math.cos(angle))
    bar = (abs(across) <= 60) & (along >= 0) & (along <= 30)
    stem = (abs(across) <= 15) & (along >= 30) & (along <= 120)
    return bar | stem


def coverage_by_grid(pose: tuple[float, float, float], spacing: float = 0.5) -> float:
    axis = np.arange(100, 400, spacing) + spacing / 2
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    goal = inside_t(points, GOAL_POSE)
    return (inside_t(points, pose) & goal).sum() / goal.sum()


@pytest.mark.parametrize("seed", range(20))
def test_coverage_equals_counting_grid_points(seed):
    rng = np.random.default_rng(seed)
    pose = (*(256 + rng.normal(0, 25, 2)), math.pi / 4 + rng.normal(0, 0.8))
    assert coverage(pose) == pytest.approx(coverage_by_grid(pose), abs=0.004)


def test_coverage_of_known_poses():
    assert coverage(GOAL_POSE) == pytest.approx(1, abs=1e-12)
    # Moved by 30 px along the goal's stem, the bar lies across the stem and the stem has lost 30 of 90 px.
    moved = (256 - 30 * math.sin(math.pi / 4), 256 + 30 * math.cos(math.pi / 4), math.pi / 4)
    assert coverage(moved) == pytest.approx((30 * 30 + 60 * 30) / 6300, abs=1e-12)
    # Turned by pi about its origin, the T only touches the goal.
    assert coverage((256, 256, math.pi * 5 / 4)) == pytest.approx(0, abs=1e-12)
    assert coverage((256 + 250, 256, 0.3)) == 0


@settings(deadline=None)
@given(poses)
def test_coverage_is_a_share(pose):
    assert 0 <= coverage(pose) <= 1


@settings(deadline=None)
@given(poses, st.integers(-3, 3))
def test_coverage_does_not_depend_on_whole_turns(pose, turns):
    x, y, angle = pose
    assert coverage((x, y, angle + turns * 2 * math.pi)) == pytest.approx(coverage(pose), abs=1e-9)


@settings(deadline=None)
@given(st.floats(0, 2 * math.pi), st.floats(243, 1e6), st.floats(-10, 10))
def test_coverage_far_away_is_zero(direction, distance, angle):
    pose = (256 + distance * math.cos(direction), 256 + distance * math.sin(direction), angle)
    assert coverage(pose) == 0


@settings(deadline=None)
@given(poses)
def test_coverage_is_symmetric_under_exchange_of_block_and_goal(pose):
    """Two T's share the same area when both are moved so that the block lies on the goal's pose."""
    x, y, angle = pose
    goal_x, goal_y, goal_angle = GOAL_POSE
    turn = goal_angle - angle
    dx, dy = goal_x - x, goal_y - y
    exchanged = (
        goal_x + math.cos(turn) * dx - math.sin(turn) * dy,
        goal_y + math.sin(turn) * dx + math.cos(turn) * dy,
        goal_angle + turn,
    )
    assert coverage(exchanged) == pytest.approx(coverage(pose), abs=1e-9)


@pytest.mark.parametrize("pose", [(math.nan, 0, 0), (0, math.inf, 0), (0, 0, -math.inf)])
def test_coverage_of_a_pose_that_is_not_finite(pose):
    with pytest.raises(ValueError, match="block_pose"):
        coverage(pose)


def test_keypoints_are_the_recorded_ones(pusht_zarr):
    """They agree but for blocks in contact: those were recorded up to a physics step later than the state."""
    group = zarr.open_group(pusht_zarr, mode="r")
    expected = group["data/keypoint"][::10]
    keypoints = np.array([block_keypoints(state[2:]) for state in group["data/state"][::10]])
    error = np.abs(keypoints - expected).max(axis=(1, 2))
    assert (error < 1e-3).mean() > 0.75
    assert np.quantile(error, 0.99) < 0.15


def test_keypoints_turn_and_move_with_the_block():
    np.testing.assert_array_equal(block_keypoints((0, 0, 0)), BLOCK_KEYPOINTS)
    quarter = block_keypoints((10, 20, math.pi / 2))
    expected = np.stack([10 - BLOCK_KEYPOINTS[:, 1], 20 + BLOCK_KEYPOINTS[:, 0]], axis=1)
    np.testing.assert_allclose(quarter, expected, atol=1e-12)

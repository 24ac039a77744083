"""Tests for path_around_block.py."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.env.pusht.geometry import AGENT_RADIUS
from diffusion_policy.env.pusht.path_around_block import (
    CLEARANCE,
    DETOURS,
    PathsAroundBlock,
    distance_to_block,
    pushed_out,
    to_block,
    to_window,
)

coordinate = st.floats(-150, 250)
POSE = (256.0, 240.0, 0.7)
INSIDE_THE_T = np.array(
    [(x, y) for x in np.linspace(-60, 60, 61) for y in np.linspace(0, 120, 61) if y <= 30 or abs(x) <= 15]
)


def sampled(way: np.ndarray) -> np.ndarray:
    """Points along a line of corners (n, 2)."""
    share = np.linspace(0, 1, 200)[:, None]
    return np.concatenate([a * (1 - share) + b * share for a, b in itertools.pairwise(way)])


@given(coordinate, coordinate)
def test_distance_is_that_to_the_nearest_point_of_the_t(x: float, y: float) -> None:
    brute_force = np.linalg.norm(INSIDE_THE_T - (x, y), axis=1).min()
    assert distance_to_block(np.array([x, y])) == pytest.approx(brute_force, abs=1.5)


@given(coordinate, coordinate)
def test_from_anywhere_there_is_a_clear_place_nearby(x: float, y: float) -> None:
    point = np.array([x, y])
    out = pushed_out(point)
    assert distance_to_block(out) > CLEARANCE - 0.5
    if distance_to_block(point) >= CLEARANCE:
        np.testing.assert_array_equal(out, point)
    assert math.dist(out, point) < CLEARANCE + 75


def test_frames_are_each_others_inverse() -> None:
    points = np.random.default_rng(0).uniform(0, 512, (5, 7, 2))
    np.testing.assert_allclose(to_window(to_block(points, POSE), POSE), points)


def test_ways_are_clear_and_as_long_as_they_say() -> None:
    random = np.random.default_rng(0)
    places = random.uniform(30, 480, (40, 2))
    ends = places[distance_to_block(to_block(places, POSE)) > CLEARANCE]
    start = (random.uniform(30, 480), 60.0)
    ways = PathsAroundBlock(POSE, start, ends)
    assert np.isfinite(ways.lengths).sum() > 20
    for end in np.flatnonzero(np.isfinite(ways.lengths)):
        way = ways.to(end)
        np.testing.assert_array_equal(way[0], start)
        np.testing.assert_allclose(way[-1], ends[end])
        assert np.hypot(*np.diff(way, axis=0).T).sum() == pytest.approx(ways.lengths[end])
        assert distance_to_block(to_block(sampled(way), POSE)).min() > AGENT_RADIUS + 5


def test_ways_are_the_shortest_by_trying_all_detours() -> None:
    start, end = (256.0, 190.0), np.array([[200.0, 420.0]])  # on opposite sides of the T
    ways = PathsAroundBlock(POSE, start, end)
    corners = to_window(DETOURS, POSE)
    lengths = []
    for n_detours in range(5):
        for order in itertools.permutations(range(6), n_detours):
            way = np.vstack([start, corners[list(order)].reshape(-1, 2), end])
            if distance_to_block(to_block(sampled(way), POSE)).min() > CLEARANCE - 1:
                lengths.append(np.hypot(*np.diff(way, axis=0).T).sum())
    assert ways.lengths[0] == pytest.approx(min(lengths))
    assert ways.lengths[0] > math.dist(start, end[0]) + 10


def test_a_pusher_that_touches_the_block_first_leaves_it() -> None:
    start = to_window(np.array([0.0, -AGENT_RADIUS]), POSE)  # at the middle of the bar
    end = to_window(np.array([[0.0, 200.0]]), POSE)
    way = PathsAroundBlock(POSE, tuple(start), end).to(0)
    np.testing.assert_allclose(way[1], to_window(np.array([0.0, -CLEARANCE]), POSE))


def test_what_lies_outside_the_window_or_behind_the_block_is_out_of_reach() -> None:
    ends = np.array([[600.0, 256.0], [400.0, 400.0]])
    assert np.isfinite(PathsAroundBlock(POSE, (100, 100), ends).lengths).tolist() == [False, True]
    across_the_corner = (60.0, 60.0, -math.pi / 4)  # the bar shuts the upper left corner in
    assert np.isinf(PathsAroundBlock(across_the_corner, (20, 20), ends).lengths).all()

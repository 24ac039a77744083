"""Tests for scripted_pusher.py."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from diffusion_policy.env.pusht.geometry import GOAL_POSE
from diffusion_policy.env.pusht.pusht_env import PushTEnv
from diffusion_policy.env.pusht.scripted_pusher import FREE_SPEED, ScriptedPusher, goal_distance

pytestmark = pytest.mark.sim
SEEDS = (900_000, 900_001)


@dataclass
class Episode:
    states: np.ndarray  # (L + 1, 5)
    actions: np.ndarray  # (L, 2)
    success: bool


def run(seed: int, pusher: ScriptedPusher, max_steps: int = 300) -> Episode:
    env = PushTEnv(legacy=True)
    state, info = env.reset(seed=seed)
    states, actions = [state], []
    while len(actions) < max_steps and not info["is_success"]:
        actions.append(pusher.act(info["pos_agent"], info["block_pose"]))
        state, _, _, _, info = env.step(actions[-1])
        states.append(state)
    return Episode(np.array(states), np.array(actions), info["is_success"])


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return [run(seed, ScriptedPusher(seed)) for seed in SEEDS]


def test_it_succeeds(episodes: list[Episode]) -> None:
    assert [episode.success for episode in episodes] == [True, True]


def test_actions_are_what_a_mouse_could_do(episodes: list[Episode]) -> None:
    """Whole pixels of the window, and no jumps: a person's steps have 27 px at the 95th percentile."""
    for episode in episodes:
        assert ((episode.actions >= 0) & (episode.actions <= 512)).all()
        np.testing.assert_array_equal(episode.actions, np.round(episode.actions))
        targets = np.vstack([episode.states[0, :2], episode.actions])
        assert np.hypot(*np.diff(targets, axis=0).T).max() < FREE_SPEED + 8


def test_it_does_not_stand_still(episodes: list[Episode]) -> None:
    """A policy that sees two observations could not tell how long a pause has lasted."""
    for episode in episodes:
        moves = np.hypot(*np.diff(episode.states[:, :2], axis=0).T)
        assert np.mean(moves < 0.5) < 0.02


def test_the_seed_decides_all(episodes: list[Episode]) -> None:
    again = run(SEEDS[0], ScriptedPusher(SEEDS[0]), max_steps=40)
    np.testing.assert_array_equal(again.actions, episodes[0].actions[:40])
    other = run(SEEDS[0], ScriptedPusher(1), max_steps=40)
    assert not np.array_equal(other.actions, again.actions)


def test_goal_distance_of_a_shifted_block() -> None:
    x, y, angle = GOAL_POSE
    assert goal_distance(GOAL_POSE) == pytest.approx(0, abs=1e-9)
    assert goal_distance((x + 3, y - 4, angle)) == pytest.approx(5)


@pytest.mark.parametrize(
    ("agent", "block_pose"),
    [
        ((256, 270), (256, 256, 0.0)),  # inside the block
        ((20, 20), (60, 60, -math.pi / 4)),  # shut in between block and corner
        ((256, 256), (600, -90, 1.0)),  # the block was forced out of the window
    ],
)
def test_odd_places_give_an_action_too(
    agent: tuple[float, float], block_pose: tuple[float, float, float]
) -> None:
    action = ScriptedPusher(0).act(agent, block_pose)
    assert action.shape == (2,)
    assert ((action >= 0) & (action <= 512)).all()

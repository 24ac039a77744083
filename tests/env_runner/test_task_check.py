"""Tests for task_check.py, through the runner that calls it."""

import logging
from functools import partial

import gymnasium
import numpy as np
import pytest

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.env_runner.env_runner import EnvRunner

SHAPE_META = {"obs": {"position": {"shape": [2]}}, "action": {"shape": [2]}}


class Room(gymnasium.Env):
    """Shows a position and takes positions in [-1, 1]."""

    def __init__(
        self, key: str = "position", size: int = 2, action_size: int = 2, bounded: bool = True
    ) -> None:
        bound = 1 if bounded else np.inf
        self.action_space = gymnasium.spaces.Box(-bound, bound, (action_size,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {key: gymnasium.spaces.Box(-1, 1, (size,), np.float32)}
        )

    def reset(self, *, seed=None, options=None):
        (key, space) = next(iter(self.observation_space.items()))
        return {key: np.zeros(space.shape, np.float32)}, {}


def dataset(largest: float = 1.0) -> SequenceDataset:
    buffer = ReplayBuffer.create_empty_numpy()
    action = np.linspace(-largest, largest, 40, dtype=np.float32).reshape(20, 2)
    buffer.add_episode({"position": np.zeros((20, 2), np.float32), "action": action})
    return SequenceDataset(buffer, SHAPE_META, horizon=4, n_obs_steps=1, n_action_steps=4)


def check(largest: float = 1.0, **room) -> None:
    runner = EnvRunner(partial(Room, **room), [0], n_obs_steps=1, n_action_steps=4, max_steps=8)
    runner.check(dataset(largest), SHAPE_META)


@pytest.mark.parametrize("room", [{}, {"bounded": False}])
def test_what_fits_is_passed_in_silence(caplog, room):
    check(**room)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("room", "message"),
    [
        ({"key": "place"}, r"observation has no 'position', which shape_meta names; it has \['place'\]"),
        ({"size": 3}, r"'position' has shape \(3,\), but shape_meta says \(2,\)"),
        ({"action_size": 3}, r"takes actions of shape \(3,\), but the recorded ones have \(2,\)"),
    ],
)
def test_what_does_not_fit_is_named(room, message):
    with pytest.raises(ValueError, match=message):
        check(**room)


def test_actions_outside_the_action_space_are_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        check(largest=5.0)
    assert "outside the environment's action space in 2 of 2 dimensions" in caplog.text
    assert "[-1, 1]. Are units" in caplog.text

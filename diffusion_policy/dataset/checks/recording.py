"""A replay buffer as the checks look at it."""

import math
import re
from functools import cached_property

import numpy as np

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import frames_per_second, is_image
from diffusion_policy.dataset.robomimic_format import NOT_OBSERVED

STRETCH_S = 1.0  # a pause or a frozen camera counts from this length on ...
STRETCH_STEPS = 10  # ... or from this one on, where the frame rate is not known
MAX_LOWDIM = 512  # numbers per step; what has more is a map or a point cloud, not a vector of measurements

_BOOKKEEPING = re.compile(r"reward|done|success|time|index|stage|task|label")
_RATES = re.compile(r"vel|force|torque|wrench|effort|current|accel")


class Recording:
    """Low-dimensional keys as float64 (n_steps, D), the step changes within episodes, and what the names tell.

    Args:
        buffer: The demonstrations.
    """

    def __init__(self, buffer: ReplayBuffer) -> None:
        self.buffer = buffer
        self.fps = frames_per_second(buffer)
        self.ends = buffer.episode_ends
        self.episode_of_step = buffer.get_episode_idxs()
        self.images = [key for key, array in buffer.items() if is_image(array)]

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Keys with finite vectors, (n_steps, D) float64."""
        found = {}
        for key, array in self.buffer.items():
            if key not in self.images and math.prod(array.shape[1:]) <= MAX_LOWDIM:
                values = np.asarray(array).reshape(len(array), -1).astype(np.float64)
                if np.isfinite(values).all():
                    found[key] = values
        return found

    @cached_property
    def learned(self) -> dict[str, np.ndarray]:
        """What a policy may be trained on: not what robomimic's files hold beside it, nor copies of the actions."""
        return {
            key: v
            for key, v in self.columns.items()
            if key not in NOT_OBSERVED and not key.startswith("actions_")
        }

    @cached_property
    def state(self) -> np.ndarray:
        """Measured positions and the like, (n_steps, D): no actions, rates or bookkeeping."""
        chosen = [
            values
            for key, values in self.learned.items()
            if not key.startswith("action") and not _BOOKKEEPING.search(key) and not _RATES.search(key)
        ]
        return np.concatenate(chosen, axis=1) if chosen else np.zeros((self.buffer.n_steps, 0))

    @cached_property
    def action(self) -> np.ndarray:
        """The actions (n_steps, Da); Da = 0 if there are none."""
        return self.columns.get("action", np.zeros((self.buffer.n_steps, 0)))

    @cached_property
    def within(self) -> np.ndarray:
        """Whether step t + 1 is of the same episode as step t, (n_steps - 1,) bool."""
        return self.episode_of_step[1:] == self.episode_of_step[:-1]

    @cached_property
    def motion(self) -> np.ndarray:
        """Greatest change of state or action from step t to t + 1 as a share of its range, (n_steps - 1,)."""
        values = np.concatenate([self.state, self.action], axis=1)
        span = np.ptp(values, axis=0)
        moving = values[:, span > 0] / span[span > 0]
        return np.abs(np.diff(moving, axis=0)).max(axis=1, initial=0)

    @property
    def stretch_steps(self) -> int:
        """From how many steps on a pause counts."""
        return STRETCH_STEPS if self.fps is None else max(2, math.ceil(STRETCH_S * self.fps))

    def runs(self, still: np.ndarray) -> list[tuple[int, int]]:
        """Stretches (first step, last step) of at least `stretch_steps` still changes within an episode.

        Args:
            still: Whether nothing changes from step t to t + 1, (n_steps - 1,) bool.
        """
        flags = np.concatenate([[False], still & self.within, [False]]).astype(np.int8)
        starts, stops = np.flatnonzero(np.diff(flags) == 1), np.flatnonzero(np.diff(flags) == -1)
        return [(int(a), int(b)) for a, b in zip(starts, stops, strict=True) if b - a >= self.stretch_steps]

    def episodes_of(self, steps: np.ndarray) -> tuple[int, ...]:
        """The episodes of some steps, each once."""
        return tuple(np.unique(self.episode_of_step[steps]).tolist())

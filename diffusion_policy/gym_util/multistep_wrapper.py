"""An environment seen in chunks: To observations in, Ta actions out."""

from collections import deque
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Space
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

Observation = NDArray | dict[str, NDArray]


class MultiStepWrapper(gymnasium.Wrapper):
    """Executes a chunk of actions in one `step` and returns the latest observations, stacked.

    Observation: every array (...) of the environment's becomes (To, ...), oldest first. Where an episode is
    younger than To steps, its first observation is repeated.

    Action: (n, Da). Usually n = `n_action_steps`; any n >= 1 is executed.

    Reward: the greatest reward of the episode so far, not of the chunk.

    Images take most of the time of a simulator that draws them, and of a chunk only the last To are seen. An
    environment that has an attribute `draws_images` is told so: while it is false, its images may be anything of
    their shape. They are in no stack, but where an episode ends within a chunk, when no policy looks any more.

    Args:
        env: environment whose observations are arrays or dicts of arrays.
        n_obs_steps: To, number of observations in a stack.
        n_action_steps: Ta, number of actions in a chunk; sets the action space.
        max_episode_steps: number of the environment's own steps after which an episode is truncated.
    """

    def __init__(
        self, env: gymnasium.Env, n_obs_steps: int, n_action_steps: int, max_episode_steps: int | None = None
    ) -> None:
        super().__init__(env)
        limits = {"n_obs_steps": n_obs_steps, "n_action_steps": n_action_steps}
        if max_episode_steps is not None:
            limits["max_episode_steps"] = max_episode_steps
        for name, value in limits.items():
            if value < 1:
                raise ValueError(f"{name} is {value}; expected at least 1")
        _check_stackable(env.observation_space)
        self.observation_space = batch_space(env.observation_space, n_obs_steps)
        self.action_space = batch_space(env.action_space, n_action_steps)
        self._n_obs_steps = n_obs_steps
        self._max_episode_steps = max_episode_steps
        self._observations: deque[Any] = deque(maxlen=n_obs_steps)
        self._step_count = 0
        self._max_reward = -np.inf
        self._running = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; the arguments are the environment's."""
        self._draw_images(True)
        observation, info = self.env.reset(seed=seed, options=options)
        self._observations.extend([observation] * self._n_obs_steps)
        self._step_count = 0
        self._max_reward = -np.inf
        self._running = True
        return self._stacked(), info

    def step(self, actions: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Execute actions in order until they or the episode end.

        Args:
            actions: (n, Da), n >= 1.

        Returns:
            Stacked observations, the episode's greatest reward, terminated, truncated, and the info of the
            last executed step, to which `rewards` adds the list of the rewards of the steps executed now.

        Raises:
            ValueError: if `actions` has another shape.
            gymnasium.error.ResetNeeded: if no episode is running.
        """
        chunk = np.asarray(actions)
        action_shape = self.env.action_space.shape
        if chunk.ndim == 0 or len(chunk) == 0 or chunk.shape[1:] != action_shape:
            expected = ("n >= 1", *action_shape)
            raise ValueError(f"actions have shape {chunk.shape}; expected ({', '.join(map(str, expected))})")
        if not self._running:
            raise gymnasium.error.ResetNeeded("no episode is running; call reset() first")
        rewards: list[float] = []
        for i, action in enumerate(chunk):
            self._draw_images(len(chunk) - i <= self._n_obs_steps)
            observation, reward, terminated, truncated, info = self.env.step(action)
            self._observations.append(observation)
            rewards.append(float(reward))
            self._step_count += 1
            truncated = truncated or self._step_count == self._max_episode_steps
            if terminated or truncated:
                self._running = False
                break
        self._max_reward = max(self._max_reward, *rewards)
        return self._stacked(), self._max_reward, terminated, truncated, {**info, "rewards": rewards}

    def _draw_images(self, are_seen: bool) -> None:
        if hasattr(self.unwrapped, "draws_images"):
            self.unwrapped.draws_images = are_seen

    def _stacked(self) -> Observation:
        first = self._observations[0]
        if isinstance(first, dict):
            return {key: np.stack([step[key] for step in self._observations]) for key in first}  # (To, ...)
        return np.stack(list(self._observations))  # (To, ...)


def _check_stackable(space: Space) -> None:
    parts = space.spaces.values() if isinstance(space, Dict) else [space]
    if not all(isinstance(part, Box) for part in parts):
        raise ValueError(f"observation_space is {space}; expected a Box or a Dict of Boxes")

"""Toy environments, in a module that spawned processes can import quickly."""

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict


class ToyEnv(gymnasium.Env):
    """A point on a line: each action moves it; it ends at 1. Seed s starts at -0.1 (s mod 10).

    Observation: position and number of steps. Reward: the position, at most 1.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    action_space = Box(-1, 1, (1,))
    observation_space = Box(-np.inf, np.inf, (2,), dtype=np.float64)
    render_mode = "rgb_array"

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        assert seed is not None
        self.seed = seed
        self.position = -0.1 * (seed % 10) + (options or {}).get("offset", 0.0)
        self.n_steps = 0
        return self.observe(), {}

    def step(self, action):
        self.position += float(action[0])
        self.n_steps += 1
        done = self.position > 1 - 1e-6
        info = {"is_success": done, "coverage": self.position / 2, "process": os.getpid()}
        return self.observe(), min(self.position, 1.0), done, False, info

    def observe(self):
        return np.array([self.position, self.n_steps], dtype=np.float64)

    def render(self):
        return np.full((32, 32, 3), 40 * (self.n_steps % 6), dtype=np.uint8)


class DictEnv(ToyEnv):
    """`ToyEnv` with an image, and another integer array."""

    observation_space = Dict(
        {
            "position": Box(-np.inf, np.inf, (2,), dtype=np.float64),
            "image": Box(0, 255, (3, 4, 4), dtype=np.uint8),
        }
    )

    def observe(self):
        return {"position": super().observe(), "image": np.full((3, 4, 4), self.n_steps, dtype=np.uint8)}


class BlinkingEnv(ToyEnv):
    """`ToyEnv` that is successful after step 3 only, never ends, and says nothing of coverage."""

    def step(self, action):
        obs, reward, _, _, _ = super().step(action)
        return obs, reward, False, False, {"is_success": np.bool_(self.n_steps == 3)}


class SilentEnv(ToyEnv):
    """`ToyEnv` that reports nothing in its info."""

    def step(self, action):
        return *super().step(action)[:4], {}


class StubbornError(Exception):
    """An exception that cannot be unpickled."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class FailingEnv(ToyEnv):
    """`ToyEnv` whose seeds 7, 8, 9 go wrong at the second step."""

    def step(self, action):
        if self.n_steps == 1 and self.seed == 7:
            raise ZeroDivisionError("the simulator diverged")
        if self.n_steps == 1 and self.seed == 8:
            raise StubbornError("cannot ", "travel")
        if self.n_steps == 1 and self.seed == 9:
            os._exit(3)
        return super().step(action)


class UnbuildableEnv(ToyEnv):
    def __init__(self) -> None:
        raise FileNotFoundError("no such model file")

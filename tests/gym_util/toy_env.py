"""An environment whose numbers say what was done to it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict


class CountingEnv(gymnasium.Env):
    """Observes the number of steps; rewards with the action; terminates on a negative action."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12.5}

    def __init__(self, observe_dict: bool = False, size: tuple[int, int] = (32, 48)) -> None:
        count = Box(0, np.inf, (1,), np.float64)
        picture = Box(0, 255, (3, 4, 4), np.uint8)
        self.observe_dict = observe_dict
        self.observation_space = Dict({"count": count, "picture": picture}) if observe_dict else count
        self.action_space = Box(-1, 1, (2,), np.float64)
        self.render_mode = "rgb_array"
        self.size = size
        self.count = 0
        self.closed = False
        self.draws_images = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.count = 0
        return self.observation(), {"seed": seed, "options": options}

    def step(self, action):
        self.count += 1
        return self.observation(), action[0], bool(action[0] < 0), bool(action[1] < 0), {"count": self.count}

    def render(self) -> np.ndarray:
        return np.full((*self.size, 3), 10 * self.count, np.uint8)

    def close(self) -> None:
        self.closed = True

    def observation(self):
        count = np.array([self.count], np.float64)
        if not self.observe_dict:
            return count
        return {
            "count": count,
            "picture": np.full((3, 4, 4), self.count if self.draws_images else 255, np.uint8),
        }

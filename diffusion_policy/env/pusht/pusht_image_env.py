"""Push-T observed through a camera above the table."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

from diffusion_policy.env.pusht.geometry import WINDOW_SIZE
from diffusion_policy.env.pusht.pusht_env import PushTEnv


class PushTImageEnv(PushTEnv):
    """`PushTEnv` whose observation is an image of the scene, and the agent.

    Observation: `image` (3, render_size, render_size) float32 in [0, 1], channels red, green, blue, which never shows
    the action; and `agent_pos` (2,) float64: agent x, y in pixels of the 512 x 512 window. At `render_size=96` the
    image is that of the recorded demonstrations, bit for bit.

    While the attribute `draws_images` is false, images are black: for steps that nobody looks at.

    Args:
        legacy: as in `PushTEnv`.
        render_size: height and width of the observed and of the rendered images, in pixels.
        render_mode: as in `PushTEnv`.
    """

    def __init__(
        self, legacy: bool = False, render_size: int = 96, render_mode: str | None = "rgb_array"
    ) -> None:
        super().__init__(legacy=legacy, render_size=render_size, render_mode=render_mode)
        self.draws_images = True
        self.observation_space = Dict(
            {
                "image": Box(0.0, 1.0, shape=(3, render_size, render_size), dtype=np.float32),
                "agent_pos": Box(0.0, WINDOW_SIZE, shape=(2,), dtype=np.float64),
            }
        )

    def _observe(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        _, info = super()._observe()
        return {"image": self._observed_image(), "agent_pos": info["pos_agent"].copy()}, info

    def _observed_image(self) -> NDArray[Any]:
        """(3, S, S) float32 in [0, 1]."""
        if not self.draws_images:
            return np.zeros(self.observation_space["image"].shape, np.float32)
        return self.render_observation().transpose(2, 0, 1) / np.float32(255)

"""Push-T observed through keypoints on the block."""

from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from diffusion_policy.env.pusht.geometry import BLOCK_KEYPOINTS, WINDOW_SIZE, block_keypoints
from diffusion_policy.env.pusht.pusht_env import BLOCK_HIGH, BLOCK_LOW, PushTEnv

KEYPOINT_REACH = 128.0  # no keypoint is further from the block's origin, in pixels


class PushTKeypointsEnv(PushTEnv):
    """`PushTEnv` whose observation is nine points fixed to the block, and the agent.

    Observation: (20,) float64: x, y of the nine keypoints, then agent x, y, in pixels. `info["visible"]` is
    a (20,) bool mask. Each observation hides each keypoint with probability `1 - keypoint_visible_rate`
    (drawn from the environment's generator); hidden values are still the true ones, and the agent is always
    visible.

    Args:
        legacy: as in `PushTEnv`.
        render_size: as in `PushTEnv`.
        render_mode: as in `PushTEnv`.
        keypoint_visible_rate: probability in [0, 1] that a keypoint is visible.
    """

    def __init__(
        self,
        legacy: bool = False,
        render_size: int = 96,
        render_mode: str | None = "rgb_array",
        keypoint_visible_rate: float = 1.0,
    ) -> None:
        super().__init__(legacy=legacy, render_size=render_size, render_mode=render_mode)
        if not 0 <= keypoint_visible_rate <= 1:
            raise ValueError(f"keypoint_visible_rate is {keypoint_visible_rate}; expected a number in [0, 1]")
        self.keypoint_visible_rate = keypoint_visible_rate
        count = BLOCK_KEYPOINTS.size
        self.observation_space = Box(
            low=np.array([BLOCK_LOW - KEYPOINT_REACH] * count + [0.0] * 2),
            high=np.array([BLOCK_HIGH + KEYPOINT_REACH] * count + [float(WINDOW_SIZE)] * 2),
            dtype=np.float64,
        )

    def _observe(self) -> tuple[NDArray[np.float64], dict[str, Any]]:
        _, info = super()._observe()
        keypoints = block_keypoints(info["block_pose"])  # (9, 2)
        visible = self.np_random.random(len(keypoints)) < self.keypoint_visible_rate
        info["visible"] = np.append(visible.repeat(2), [True, True])
        return np.append(keypoints, info["pos_agent"]), info

"""The Push-T demonstrations as a camera sees them."""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_dataset import EpisodeDataset
from diffusion_policy.dataset.pusht_dataset import pusht_path
from diffusion_policy.dataset.sequence_dataset import Sample
from diffusion_policy.dataset.zarr_format import ZarrFormat

IMAGES = "img"  # what the published data call them


class PushTImageDataset(EpisodeDataset):
    """Push-T seen from above: `image` (3, 96, 96) and the agent's x, y in pixels of [0, 512] as `agent_pos` (2).

    `action` (2) is the position the agent is told to go to.

    Args:
        path: The zarr directory or zip file with `img` (96, 96, 3), `state` (5) and `action` (2), or
            `bundled:pusht_generated`, which comes with the package and has no images.
        shape_meta: As in `EpisodeDataset`, like `options`.
        render: Draws states (N, 5) as images (N, H, W, 3) uint8, where the data have none. They are kept in memory.
        options: All other arguments of `EpisodeDataset`.

    Raises:
        FileNotFoundError: nothing at `path`; the message says how to get the demonstrations.
        ValueError: no data of that name come with the package; or what is there cannot be used, or has no images
            and `render` is None.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        shape_meta: Mapping[str, Any],
        *,
        render: Callable[[np.ndarray], np.ndarray] | None = None,
        **options: Any,
    ) -> None:
        self._render = render
        super().__init__(path, shape_meta, **options)

    def find(self, path: str | PathLike[str]) -> Path:
        """Where the demonstrations lie; those that are missing can be downloaded."""
        return pusht_path(path, "pusht_image_generated")

    def recorded_keys(self, path: Path, shape_meta: Mapping[str, Any]) -> list[str]:
        """The images where there are any, and the state."""
        has_images = ZarrFormat().has(path, IMAGES)
        return [*([IMAGES] if has_images else []), "state", "action"]

    def to_sample(self, replay_buffer: ReplayBuffer) -> Sample:
        """Take the images, or draw them; and the agent's position out of the state."""
        states = np.asarray(replay_buffer["state"])
        images = replay_buffer[IMAGES] if IMAGES in replay_buffer else self._rendered(states, replay_buffer)
        return {"obs": {"image": images, "agent_pos": states[:, :2]}, "action": replay_buffer["action"]}

    def _rendered(self, states: np.ndarray, replay_buffer: ReplayBuffer) -> np.ndarray:
        if self._render is None:
            raise ValueError(
                f"{replay_buffer.where}: there is no array '{IMAGES}' and render is None; give a function that draws "
                "states, as config/task/pusht_image_generated.yaml does, or data with images"
            )
        images = self._render(states)
        if images.dtype != np.uint8 or len(images) != len(states):
            raise ValueError(
                f"render must give one uint8 image per state, ({len(states)}, H, W, 3), got {images.dtype} of shape "
                f"{images.shape}"
            )
        return images

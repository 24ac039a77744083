"""Open-loop replay of the human demonstrations."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from diffusion_policy.env.pusht.pusht_env import PushTEnv


@dataclass
class Demonstrations:
    state: np.ndarray  # (N, 5) float32
    action: np.ndarray  # (N, 2) float32
    img: zarr.Array  # (N, 96, 96, 3) float32, whole numbers
    episode_ends: np.ndarray

    @classmethod
    def load(cls, path: Path) -> "Demonstrations":
        group = zarr.open_group(path, mode="r")
        return cls(
            group["data/state"][:], group["data/action"][:], group["data/img"], group["meta/episode_ends"][:]
        )

    def rows(self, episode: int) -> range:
        start = 0 if episode == 0 else int(self.episode_ends[episode - 1])
        return range(start, int(self.episode_ends[episode]))


def replay(env: PushTEnv, demonstrations: Demonstrations, episode: int) -> Iterator[int]:
    """Start as the episode did and execute its actions; yields each row before its action is executed."""
    env.reset(seed=episode, options={"legacy": True})
    for row in demonstrations.rows(episode):
        yield row
        env.step(demonstrations.action[row])

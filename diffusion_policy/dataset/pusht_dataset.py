"""The Push-T demonstrations: push a T-shaped block onto its mark."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.bundled_data import data_path
from diffusion_policy.dataset.episode_dataset import EpisodeDataset
from diffusion_policy.dataset.sequence_dataset import Sample


class PushTLowdimDataset(EpisodeDataset):
    """Push-T seen by keypoints, in pixels of [0, 512].

    The one observation `obs` (20) is nine keypoints of the block, x0, y0, ..., x8, y8, then the agent's x, y.
    `action` (2) is the position the agent is told to go to.

    Args:
        path: Demonstrations in any format with `keypoint` (9, 2), `state` (5) and `action` (2), or
            `bundled:pusht_generated`, which comes with the package. All other arguments are `EpisodeDataset`'s.

    Raises:
        FileNotFoundError: nothing at `path`; the message says how to get the demonstrations.
        ValueError: no data of that name come with the package, or what is there cannot be used.
    """

    def find(self, path: str | PathLike[str]) -> Path:
        """Where the demonstrations lie; those that are missing can be downloaded."""
        return pusht_path(path, "pusht_lowdim_generated")

    def recorded_keys(self, path: Path, shape_meta: Mapping[str, Any]) -> list[str]:
        """What keypoints and positions were recorded as."""
        return ["keypoint", "state", "action"]

    def to_sample(self, replay_buffer: ReplayBuffer) -> Sample:
        """Join keypoints and agent position to one observation."""
        keypoints = np.asarray(replay_buffer["keypoint"])  # (n_steps, 9, 2)
        agent = np.asarray(replay_buffer["state"])[:, :2]
        obs = np.concatenate([keypoints.reshape(len(keypoints), -1), agent], axis=1)  # (n_steps, 20)
        return {"obs": {"obs": obs}, "action": replay_buffer["action"]}


def pusht_path(path: str | PathLike[str], generated_task: str) -> Path:
    """Where Push-T demonstrations lie.

    Args:
        path: As the datasets take it.
        generated_task: The task that needs no download.

    Raises:
        FileNotFoundError: nothing there; the message says how to get the demonstrations.
    """
    found = data_path(path)
    if not found.exists():
        raise FileNotFoundError(
            f"no Push-T demonstrations at {found}. Fetch them with `diffusion-policy data download pusht`, or "
            "set the environment variable DIFFUSION_POLICY_DATA (default: data/) to the folder that holds "
            "pusht/pusht_cchi_v7_replay.zarr. Those of a scripted expert come with the package: "
            f"task={generated_task}"
        )
    return found

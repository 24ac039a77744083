"""The Push-T demonstrations: push a T-shaped block onto its mark."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.bundled_data import data_path
from diffusion_policy.dataset.sequence_dataset import Sample, SequenceDataset
from diffusion_policy.dataset.zarr_format import ZarrFormat


class PushTLowdimDataset(SequenceDataset):
    """Push-T seen by keypoints, in pixels of [0, 512].

    The one observation `obs` (20) is nine keypoints of the block, x0, y0, ..., x8, y8, then the agent's x, y.
    `action` (2) is the position the agent is told to go to.

    Args:
        path: The zarr directory or zip file with `keypoint` (9, 2), `state` (5) and `action` (2), or
            `bundled:pusht_generated`, which comes with the package.
        shape_meta: As in `SequenceDataset`, like the arguments below.
        horizon: T.
        n_obs_steps: To.
        n_action_steps: Ta.
        seed: Of the draws of validation and training episodes.
        val_ratio: Share of episodes to validate on.
        max_train_episodes: Number of episodes to train on; None takes all.
        pad_before: By default n_obs_steps - 1.
        pad_after: By default n_action_steps - 1.

    Raises:
        FileNotFoundError: nothing at `path`; the message says how to get the demonstrations.
        ValueError: no data of that name come with the package, or what is there cannot be used.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        shape_meta: Mapping[str, Any],
        horizon: int,
        n_obs_steps: int,
        n_action_steps: int,
        seed: int = 42,
        val_ratio: float = 0.0,
        max_train_episodes: int | None = None,
        pad_before: int | None = None,
        pad_after: int | None = None,
    ) -> None:
        super().__init__(
            ZarrFormat().load(pusht_path(path, "pusht_lowdim_generated"), ["keypoint", "state", "action"]),
            shape_meta,
            horizon,
            n_obs_steps,
            n_action_steps,
            seed,
            val_ratio,
            max_train_episodes,
            pad_before,
            pad_after,
        )

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

"""Small demonstrations for the contract tests of tasks whose own are not here, by the class of their dataset.

A task that is not listed is tested with what its YAML names, and skipped where that is not there.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.robomimic_format import RobomimicFormat
from tests.dataset.kitchen_episodes import write_kitchen
from tests.tiny_run import write_episodes

Dataset = Mapping[str, Any]  # the task's `dataset` block


def _pusht(folder: Path, dataset: Dataset) -> Path:
    return write_episodes(folder / "pusht.zarr", length=40, images=True)


def _robomimic(folder: Path, dataset: Dataset) -> Path:
    """Values and actions of the sizes that the task names, and images of noise."""
    random, length = np.random.default_rng(0), 20
    (action_size,) = dataset["shape_meta"]["action"]["shape"]
    recorded_size, most = (action_size // 10 * 7, np.pi) if dataset["abs_action"] else (action_size, 1)
    episode = {"action": random.uniform(-most, most, (length, recorded_size))}
    for key, meta in dataset["shape_meta"]["obs"].items():
        if meta["type"] == "rgb":
            channels, height, width = meta["shape"]
            episode[key] = random.integers(0, 256, (length, height, width, channels), np.uint8)
        else:
            episode[key] = random.normal(size=(length, *meta["shape"]))
    buffer = ReplayBuffer.create_empty_numpy()
    buffer.add_episode(episode)
    buffer.add_episode(episode)
    RobomimicFormat().save(buffer, folder / "demonstrations.hdf5")
    return folder / "demonstrations.hdf5"


def _kitchen(folder: Path, dataset: Dataset) -> Path:
    return write_kitchen(folder / "kitchen.zarr", length=40)


WRITERS: dict[str, Callable[[Path, Dataset], Path]] = {
    "PushTLowdimDataset": _pusht,
    "PushTImageDataset": _pusht,
    "KitchenLowdimDataset": _kitchen,
    "RobomimicDataset": _robomimic,
}

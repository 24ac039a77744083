"""The demonstrations that a diagnosis looks at."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.policy.base_policy import BasePolicy, Episode
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy

Array = NDArray[np.float64]

MAX_EPISODES = 60  # enough for ranges and regressions; image episodes are large
PIXELS = 64  # of an image, to see whether it changes


@dataclass(frozen=True)
class Recordings:
    """A sample of the training episodes, and the held-out ones.

    Attributes:
        training: spread evenly over the training episodes.
        held_out: validation episodes; where there are none, training episodes.
        has_validation: whether `held_out` were not trained on.
        low_dim_keys: the observations that are no images.
    """

    training: Sequence[Episode]
    held_out: Sequence[Episode]
    has_validation: bool
    low_dim_keys: Sequence[str]

    @classmethod
    def of(cls, dataset: SequenceDataset, shape_meta: dict[str, Any]) -> "Recordings":
        """Read the episodes of a dataset."""
        attributes = shape_meta["obs"]
        low_dim = [key for key in attributes if attributes[key].get("type", "low_dim") == "low_dim"]
        training = [dataset.episode(i) for i in _spread(np.flatnonzero(dataset.train_mask), MAX_EPISODES)]
        held_out = [dataset.episode(i) for i in _spread(np.flatnonzero(dataset.val_mask), MAX_EPISODES)]
        return cls(training, held_out or training, bool(held_out), low_dim)

    @property
    def all(self) -> list[Episode]:
        """Every episode once."""
        return [*self.training, *(self.held_out if self.has_validation else ())]

    def __str__(self) -> str:
        n_steps = sum(len(episode["action"]) for episode in self.held_out)
        where = f"{len(self.held_out)} episodes, {n_steps} steps"
        if self.has_validation:
            return f"{where}, held out of the training"
        return f"{where} of the training, as none are held out (task.dataset.val_ratio is 0)"

    def low_dim(self, episode: Episode) -> Array:
        """All low-dim observations of an episode side by side, (L, D); D may be 0."""
        columns = [features(episode["obs"][key]) for key in self.low_dim_keys]
        return np.concatenate([np.empty((len(episode["action"]), 0)), *columns], axis=1)

    def low_dim_names(self) -> list[str]:
        """A name such as `obs[3]` for each column of `low_dim`."""
        sizes = {key: features(self.held_out[0]["obs"][key]).shape[1] for key in self.low_dim_keys}
        return [f"{key}[{i}]" for key, size in sizes.items() for i in range(size)]


def features(values: NDArray[Any]) -> Array:
    """Steps (L, ...) as rows (L, D); of images a fixed grid of pixels."""
    rows = values.reshape(len(values), -1)
    if values.ndim == 4:
        rows = rows[:, :: max(1, rows.shape[1] // PIXELS)]
    return rows.astype(np.float64)


def actions(episode: Episode) -> Array:
    """The actions of an episode, (L, Da)."""
    return features(episode["action"])


def learned_actions(episode: Episode, policy: BasePolicy) -> Array:
    """The actions of an episode as the policy learns them, (N, Da): absolute, or else those of all its windows."""
    if not isinstance(policy, DiffusionPolicy) or policy.action_repr is None:
        return actions(episode)
    length, n_obs_steps = len(episode["action"]), policy.n_obs_steps
    starts = np.arange(1 - n_obs_steps, length - policy.horizon + policy.n_action_steps)
    steps = (starts[:, None] + np.arange(policy.horizon)).clip(0, length - 1)
    seen = steps[:, :n_obs_steps]
    obs = {key: torch.as_tensor(episode["obs"][key][seen]) for key in policy.action_repr.keys}
    written = policy.written_actions(torch.as_tensor(episode["action"][steps]), obs)
    return written.flatten(0, 1).numpy().astype(np.float64)


def _spread(indices: NDArray[np.int64], n: int) -> list[int]:
    """At most `n` of some indices, evenly spread over them."""
    if len(indices) <= n:
        return indices.tolist()
    return indices[np.linspace(0, len(indices) - 1, n).round().astype(int)].tolist()

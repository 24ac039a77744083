"""What a policy would do at held-out observations: samples of the executed chunk."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy

OBSERVATIONS_AT_ONCE = 64  # images are large
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Observations:
    """Moments of recorded episodes.

    Attributes:
        obs: `{key: (N, To, ...)}` in the task's units.
        held_out: whether they are of validation episodes.
        n_episodes: of which they are.
    """

    obs: dict[str, Tensor]
    held_out: bool
    n_episodes: int

    @classmethod
    def of(cls, dataset: SequenceDataset, n: int, n_obs_steps: int) -> "Observations":
        """At most `n`, evenly spread over the validation episodes; where there are none, over the training ones.

        Raises:
            ValueError: `n` is less than 2.
        """
        if n < 2:
            raise ValueError(f"n_observations must be at least 2, got {n}")
        held_out = bool(dataset.val_mask.any()) and len(dataset.get_validation_dataset()) > 0
        windows = dataset.get_validation_dataset() if held_out else dataset
        rows = np.unique(np.linspace(0, len(windows) - 1, n).round().astype(int))
        mask = dataset.val_mask if held_out else dataset.train_mask
        return cls(windows.batch(rows, n_obs_steps)["obs"], held_out, int(mask.sum()))

    def __len__(self) -> int:
        return len(next(iter(self.obs.values())))

    def __str__(self) -> str:
        if self.held_out:
            episodes = "1 episode" if self.n_episodes == 1 else f"{self.n_episodes} episodes"
            return f"{len(self)} observations of {episodes} held out of the training"
        return (
            f"{len(self)} observations of {self.n_episodes} training episodes, as none are held out "
            f"(task.dataset.val_ratio is 0)"
        )

    def first(self, device: torch.device) -> dict[str, Tensor]:
        """The first one, `{key: (1, To, ...)}`."""
        return {key: values[:1].to(device) for key, values in self.obs.items()}

    def encoded(self, policy: DiffusionPolicy) -> Tensor:
        """Features (N, To, F) of all, on the policy's device."""
        with torch.inference_mode():
            parts = [
                policy.encode(
                    {
                        key: values[first : first + OBSERVATIONS_AT_ONCE].to(policy.device)
                        for key, values in self.obs.items()
                    }
                )
                for first in range(0, len(self), OBSERVATIONS_AT_ONCE)
            ]
        return torch.cat(parts)


def sample_chunks(
    policy: DiffusionPolicy, features: Tensor, n_samples: int, generator: torch.Generator
) -> Tensor:
    """Sample the executed actions in normalised units with the policy's sampler.

    Args:
        policy: in evaluation mode.
        features: (N, To, F), of `Observations.encoded`.
        n_samples: S of each observation.
        generator: of all noise.

    Returns:
        (N, S, Ta Da), on the CPU.
    """
    start = 0 if policy.pred_action_steps_only else policy.first_action_step
    executed = slice(start, start + policy.n_action_steps)
    with torch.inference_mode():
        parts = []
        for rows in features.repeat_interleave(n_samples, dim=0).split(ROWS_AT_ONCE):
            trajectory = policy.conditional_sample(
                policy.condition(rows), generator=generator
            )  # (rows, T, D)
            parts.append(trajectory[:, executed, : policy.action_dim].flatten(start_dim=1).cpu())
    return torch.cat(parts).unflatten(0, (len(features), n_samples))

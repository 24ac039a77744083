"""A toy policy for the toy environments."""

from typing import Any

import torch
from torch import nn

from diffusion_policy.policy.base_policy import BasePolicy

SHAPE_META = {"obs": {"obs": {"shape": [2], "type": "low_dim"}}, "action": {"shape": [1]}}


class ToyPolicy(BasePolicy):
    """Moves by 0.1 plus `noise_scale` times noise per step, and writes down what it is asked."""

    def __init__(self, n_obs_steps: int = 2, n_action_steps: int = 3, noise_scale: float = 0.0) -> None:
        super().__init__(SHAPE_META, 8, n_obs_steps, n_action_steps)
        self.noise_scale = noise_scale
        self.layer = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
        self.calls: list[Any] = []

    def compute_loss(self, batch):
        raise NotImplementedError

    def reset(self, episode_seeds=None):
        self.calls.append(("reset", list(episode_seeds)))

    def retain(self, rows):
        self.calls.append(("retain", list(rows)))

    def predict_action(self, obs, *, generator=None, noise=None, committed=None):
        self.calls.append(("predict", obs))
        noise = torch.stack([torch.randn(8, 1, generator=g) for g in generator])
        return self.executed_part(0.1 + self.noise_scale * noise)

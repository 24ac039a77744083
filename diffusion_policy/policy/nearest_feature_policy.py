"""The control that shares its features with the policy it is compared with."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.policy.base_policy import BasePolicy
from diffusion_policy.policy.control_policies import NeighborPolicy
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy

STEPS_ENCODED_AT_ONCE = 256


class NearestFeaturePolicy(NeighborPolicy):
    """`NeighborPolicy` that compares what a trained policy's encoder makes of an observation.

    It says what the policy adds to its own features. Each camera's features are scaled as a whole, and so is each
    low-dim observation.

    Args:
        policy: whose encoder, shapes and time line are taken.

    Raises:
        ValueError: the policy has no encoder of images.
    """

    def __init__(self, policy: BasePolicy) -> None:
        if not isinstance(policy, DiffusionPolicy) or not isinstance(
            policy.obs_encoder, MultiImageObsEncoder
        ):
            raise ValueError(f"{type(policy).__name__} has no encoder whose features could be compared")
        if not policy.obs_encoder.cameras:
            raise ValueError("the policy sees no images; nearest_neighbor compares what it sees")
        super().__init__(policy.shape_meta, policy.horizon, policy.n_obs_steps, policy.n_action_steps)
        self._policy = policy
        self._dims = policy.obs_encoder.feature_dims

    @torch.no_grad()
    def described(self, obs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The features of N steps, by key, each (N, F)."""
        steps = {key: torch.as_tensor(obs[key])[:, None] for key in self._dims}  # (N, 1, ...)
        n_steps = len(next(iter(steps.values())))
        blocks = [self._encoded(steps, start) for start in range(0, n_steps, STEPS_ENCODED_AT_ONCE)]
        features = torch.cat(blocks)  # (N, F)
        return dict(zip(self._dims, features.split(list(self._dims.values()), dim=-1), strict=True))

    def _encoded(self, steps: Mapping[str, Tensor], start: int) -> Tensor:
        rows = slice(start, start + STEPS_ENCODED_AT_ONCE)
        block = {key: values[rows].to(self._policy.device) for key, values in steps.items()}
        return self._policy.eval().encode(block)[:, 0]

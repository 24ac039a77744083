"""Observations that are vectors already: concatenated in the order of `shape_meta`."""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn


class LowdimObsEncoder(nn.Module):
    """Concatenate normalised low-dimensional observations into one feature vector per step.

    Args:
        shape_meta: `{"obs": {key: {"shape": [...]}}, ...}`; features keep its order of keys.
    """

    def __init__(self, shape_meta: Mapping[str, Any]):
        super().__init__()
        self.shapes = {key: tuple(meta["shape"]) for key, meta in shape_meta["obs"].items()}
        images = [key for key, meta in shape_meta["obs"].items() if meta.get("type", "low_dim") != "low_dim"]
        if images:
            raise ValueError(f"obs_encoder: {images} are not low_dim; give the policy an image encoder")
        self.feature_dim = sum(prod(shape) for shape in self.shapes.values())

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Encode `{key: (B, steps, *shape)}` as features (B, steps, feature_dim)."""
        return torch.cat([obs[key].reshape(*obs[key].shape[:2], -1) for key in self.shapes], dim=-1)

    def decode(self, features: Tensor) -> dict[str, Tensor]:
        """Split features (B, steps, feature_dim) into `{key: (B, steps, *shape)}` again."""
        parts = features.split([prod(shape) for shape in self.shapes.values()], dim=-1)
        return {
            key: part.reshape(*part.shape[:2], *shape)
            for (key, shape), part in zip(self.shapes.items(), parts, strict=True)
        }

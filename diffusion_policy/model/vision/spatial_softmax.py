"""From a feature map to image positions."""

import torch
from torch import Tensor, nn


class SpatialSoftmax(nn.Module):
    """Expected image positions of K learned features (Finn et al. 2016, "Deep Spatial Autoencoders").

    A 1 x 1 convolution makes one map per keypoint; its softmax over all places is a distribution, whose mean
    is the keypoint, x to the right and y down, -1 and 1 being the centres of the outermost places.

    Args:
        in_channels: C of the feature map.
        n_keypoints: K.
        temperature: of the softmax; lower is sharper.
    """

    def __init__(self, in_channels: int, n_keypoints: int = 32, temperature: float = 1.0):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, n_keypoints, kernel_size=1)
        self.temperature = temperature
        self.out_dim = 2 * n_keypoints

    def keypoints(self, features: Tensor) -> Tensor:
        """Positions (N, K, 2) of the keypoints in a feature map (N, C, h, w)."""
        maps = self.conv(features).float()  # (N, K, h, w)
        height, width = maps.shape[-2:]
        attention = (maps.flatten(2) / self.temperature).softmax(dim=-1).unflatten(-1, (height, width))
        # Not by matrix products, which mixed precision would round to a third of a pixel.
        x = (attention.sum(dim=-2) * _positions(width, attention)).sum(dim=-1)
        y = (attention.sum(dim=-1) * _positions(height, attention)).sum(dim=-1)
        return torch.stack((x, y), dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, 2 K): x0, y0, x1, y1, ..."""
        return self.keypoints(features).flatten(1)


def _positions(n: int, like: Tensor) -> Tensor:
    return torch.linspace(-1, 1, n, device=like.device, dtype=like.dtype)

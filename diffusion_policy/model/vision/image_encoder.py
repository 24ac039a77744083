"""From one camera's images to feature vectors."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn


class ImageEncoder(nn.Module):
    """A network that makes a feature map, a pooling of it, and optionally a linear layer.

    The paper's encoder is `ResNet(18)`, `SpatialSoftmax` with 32 keypoints and `feature_dim=64`.

    Args:
        backbone: class, with its arguments, of a module from images (N, C, H, W) to a feature map (N, C', h,
            w), whose `out_channels` is C' (a Hydra partial), such as `ResNet`.
        pool: class, with its arguments but for C', of a module that maps (N, C', h, w) to (N, out_dim), such
            as `SpatialSoftmax` (a Hydra partial); None averages over all places.
        feature_dim: size of a last linear layer with ReLU; None has none.
    """

    def __init__(
        self,
        backbone: Callable[[], nn.Module],
        pool: Callable[[int], nn.Module] | None = None,
        feature_dim: int | None = None,
    ):
        super().__init__()
        self.backbone = backbone()
        channels = cast(int, self.backbone.out_channels)
        self.pool = AveragePool(channels) if pool is None else pool(channels)
        pooled_dim = cast(int, self.pool.out_dim)
        self.head: nn.Module = nn.Identity()
        if feature_dim is not None:
            self.head = nn.Sequential(nn.Linear(pooled_dim, feature_dim), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F)."""
        return self.head(self.pool(self.backbone(images)))


class AveragePool(nn.Module):
    """Mean over all places, (N, C, h, w) to (N, C)."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.out_dim = in_channels

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C)."""
        return features.mean(dim=(-2, -1))

"""A small convolutional network for images that a CPU can learn from."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

CHANNELS_PER_GROUP = 8


class ConvNet(nn.Module):
    """Convolution, GroupNorm and ReLU per stage: (N, C, H, W) to (N, channels[-1], H/s, W/s).

    s is the product of the strides. With 8 an image of 84 pixels becomes a map of 11 x 11 places, among which a
    spatial softmax interpolates.

    Args:
        channels: of each stage, multiples of 8.
        strides: of each stage.
        kernel_sizes: of each stage, odd.
        in_channels: C of the images.

    Raises:
        ValueError: the lists differ in length, or channels are no multiples of 8.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 128),
        strides: Sequence[int] = (2, 2, 2, 1),
        kernel_sizes: Sequence[int] = (5, 3, 3, 3),
        in_channels: int = 3,
    ):
        super().__init__()
        if not len(channels) == len(strides) == len(kernel_sizes) > 0:
            raise ValueError(
                f"channels, strides and kernel_sizes must have equal lengths, got {len(channels)}, "
                f"{len(strides)} and {len(kernel_sizes)}"
            )
        if any(width % CHANNELS_PER_GROUP for width in channels):
            raise ValueError(f"channels must be multiples of {CHANNELS_PER_GROUP}, got {list(channels)}")
        self.out_channels, self.stride = channels[-1], prod(strides)
        stages: list[nn.Module] = []
        for width, stride, size in zip(channels, strides, kernel_sizes, strict=True):
            stages += [
                nn.Conv2d(in_channels, width, size, stride, padding=size // 2, bias=False),
                nn.GroupNorm(width // CHANNELS_PER_GROUP, width),
                nn.ReLU(inplace=True),
            ]
            in_channels = width
        self.stages = nn.Sequential(*stages)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to a feature map (N, channels[-1], H/s, W/s), rounded up."""
        return self.stages(images)

"""What happens to an image before a network sees it: resize, crop, pixel statistics."""

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_policy.common.noise import Generators
from diffusion_policy.model.vision.crop_randomizer import CropRandomizer, When

PixelNorm = Literal["none", "imagenet", "imagenet_unscaled"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of colours in [0, 1]
LEAST_CROP_SHARE = 0.5
LARGEST_SQUASH = 1.05


class ImageTransform(nn.Module):
    """Resize, crop, normalise pixels, in this order.

    Args:
        image_shape: (C, H, W) of the images.
        resize_shape: (h, w) to resize to, by bilinear interpolation with antialiasing; None keeps the size.
        crop_shape: (h, w) to cut out of the resized image, or the share of each side to keep, as 0.9; None
            keeps all.
        random_crop: when the crop's place is random, as in `CropRandomizer`.
        pixel_norm: "none" leaves colours in [-1, 1]; "imagenet" gives them the mean and deviation that
            networks trained on ImageNet expect; "imagenet_unscaled" is a defect of the original, which took
            [-1, 1] for [0, 1].
        antialias: of the resizing.
        last_place: as in `CropRandomizer`.

    Raises:
        ValueError: a shape is no pair of positive integers, the crop is larger than the image, or ImageNet
            statistics are asked for of images that have not three channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        image_shape: Sequence[int],
        resize_shape: Sequence[int] | None = None,
        crop_shape: Sequence[int] | float | None = None,
        random_crop: When = "training",
        pixel_norm: PixelNorm = "none",
        antialias: bool = True,
        last_place: bool = True,
    ):
        super().__init__()
        self.image_shape = tuple(image_shape)
        full = self.image_shape[1:]
        self.resize_shape = None if resize_shape is None else _pair("resize_shape", resize_shape)
        resized = self.resize_shape or full
        self.crop_shape = None if crop_shape is None else _crop_shape(crop_shape, resized)
        self.antialias = antialias
        self.crop = None
        if self.crop_shape is not None:
            self.crop = CropRandomizer(self.crop_shape, random_crop, last_place)
        self._warn(resized)
        shift, scale = _pixel_statistics(pixel_norm, self.image_shape[0])
        self.register_buffer("mean", shift, persistent=False)
        self.register_buffer("std", scale, persistent=False)
        self.pixel_norm = pixel_norm

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of what the network sees."""
        height, width = self.crop_shape or self.resize_shape or self.image_shape[1:]
        return self.image_shape[0], height, width

    @property
    def crop_share(self) -> float:
        """Share of the resized image's area that the crop keeps."""
        height, width = self.resize_shape or self.image_shape[1:]
        kept = self.crop_shape or (height, width)
        return kept[0] * kept[1] / (height * width)

    def view(self, images: Tensor, generator: Generators = None) -> Tensor:
        """Resize and crop (B, ..., C, H, W) to (B, ..., C, h, w); `generator` is that of random crops."""
        if self.resize_shape is not None and images.shape[-2:] != self.resize_shape:
            flat = images.reshape(-1, *images.shape[-3:])
            flat = functional.interpolate(flat, self.resize_shape, mode="bilinear", antialias=self.antialias)
            images = flat.reshape(*images.shape[:-2], *self.resize_shape)
        return images if self.crop is None else self.crop(images, generator)

    def normalized(self, images: Tensor) -> Tensor:
        """Give colours in [-1, 1] (..., C, h, w) the statistics that the network expects."""
        return images if self.pixel_norm == "none" else (images - self.mean) / self.std

    def forward(self, images: Tensor, generator: Generators = None) -> Tensor:
        """Map images (B, ..., C, H, W) in [-1, 1] to what the network sees, (B, ..., C, h, w)."""
        return self.normalized(self.view(images, generator))

    def _warn(self, resized: tuple[int, ...]) -> None:
        if self.crop_share < LEAST_CROP_SHARE:
            warnings.warn(
                f"the crop {self.crop_shape} keeps {self.crop_share:.0%} of an image of {tuple(resized)}: "
                "the policy sees less than half of it. Resize first (resize_shape), or crop less; "
                "`diffusion-policy data preview` shows what is left",
                stacklevel=4,
            )
        height, width = self.image_shape[1:]
        squash = resized[0] / height * width / resized[1]
        if not 1 / LARGEST_SQUASH <= squash <= LARGEST_SQUASH:
            warnings.warn(
                f"resize_shape {tuple(resized)} changes the proportions of images of {(height, width)} by a "
                f"factor of {max(squash, 1 / squash):.2f}: choose a shape with the same ratio, and crop",
                stacklevel=4,
            )


def _pair(name: str, shape: Sequence[int]) -> tuple[int, int]:
    if len(shape) != 2 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise ValueError(f"{name} must be two positive integers (height, width), got {shape!r}")
    return shape[0], shape[1]


def _crop_shape(crop: Sequence[int] | float, image: Sequence[int]) -> tuple[int, int]:
    if isinstance(crop, int | float):
        if not 0 < crop <= 1:
            raise ValueError(
                f"crop_shape must be (height, width), or a share in (0, 1] of each side, got {crop}"
            )
        return max(1, round(crop * image[0])), max(1, round(crop * image[1]))
    height, width = _pair("crop_shape", crop)
    if height > image[0] or width > image[1]:
        raise ValueError(
            f"crop_shape {(height, width)} is larger than the (resized) image {tuple(image)}; choose a smaller one"
        )
    return height, width


def _pixel_statistics(pixel_norm: PixelNorm, n_channels: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation, (C, 1, 1), to normalise pixels with."""
    if pixel_norm == "none":
        return torch.zeros(n_channels, 1, 1), torch.ones(n_channels, 1, 1)
    if pixel_norm not in ("imagenet", "imagenet_unscaled"):
        raise ValueError(f"pixel_norm must be none, imagenet or imagenet_unscaled, got {pixel_norm!r}")
    if n_channels != 3:
        raise ValueError(f"pixel_norm={pixel_norm!r} is for images of 3 channels, got {n_channels}")
    mean, std = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_STD)[:, None, None]
    return (2 * mean - 1, 2 * std) if pixel_norm == "imagenet" else (mean, std)

"""Crops at random places: the augmentation of Diffusion Policy's image policies."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from diffusion_policy.common.noise import Generators, rand

When = Literal["training", "always", "never"]


class CropRandomizer(nn.Module):
    """Crop every image to the same size, at a random place of its own or in the middle.

    Places are drawn on the CPU, first all rows, then all columns, so that a run does not depend on the device.

    Args:
        crop_shape: (h, w), at most that of the images.
        random: when the place is random: "training" (in evaluation the middle), "always" or "never".
        last_place: whether the last row and column of places can be drawn. The original never drew them.
    """

    def __init__(self, crop_shape: Sequence[int], random: When = "training", last_place: bool = True):
        super().__init__()
        if random not in ("training", "always", "never"):
            raise ValueError(f"random must be 'training', 'always' or 'never', got {random!r}")
        self.height, self.width = crop_shape
        self.random = random
        self.last_place = last_place

    def forward(self, images: Tensor, generator: Generators = None) -> Tensor:
        """Map (B, ..., C, H, W) to (B, ..., C, h, w).

        Args:
            images: of B rows.
            generator: of the places: None for torch's global one, one generator, or a list with one per row.

        Raises:
            ValueError: an image is smaller than the crop.
        """
        rows, columns = images.shape[-2] - self.height, images.shape[-1] - self.width
        if rows < 0 or columns < 0:
            raise ValueError(
                f"crop_shape ({self.height}, {self.width}) is larger than the images {tuple(images.shape[-2:])}"
            )
        if self.random == "never" or (self.random == "training" and not self.training):
            top, left = round(rows / 2), round(columns / 2)
            return images[..., top : top + self.height, left : left + self.width]
        flat = images.reshape(-1, *images.shape[-3:])  # (N, C, H, W)
        per_row = len(flat) // len(images)
        top_rows, left_columns = (
            (rand(len(images), per_row, generator).flatten() * (largest + self.last_place)).long()
            for largest in (rows, columns)
        )
        return self._crop(flat, top_rows, left_columns).reshape(*images.shape[:-2], self.height, self.width)

    def _crop(self, images: Tensor, top: Tensor, left: Tensor) -> Tensor:
        if images.device.type != "cpu":  # where each copy would be a kernel of its own
            return self._gather(images, top.to(images.device), left.to(images.device))
        places = zip(images, top.tolist(), left.tolist(), strict=True)
        return torch.stack([image[:, t : t + self.height, x : x + self.width] for image, t, x in places])

    def _gather(self, images: Tensor, top: Tensor, left: Tensor) -> Tensor:
        rows = top[:, None] + torch.arange(self.height, device=images.device)  # (N, h)
        columns = left[:, None] + torch.arange(self.width, device=images.device)  # (N, w)
        image = torch.arange(len(images), device=images.device)[:, None, None]
        cropped = images.movedim(1, -1)[image, rows[:, :, None], columns[:, None, :]]  # (N, h, w, C)
        return cropped.movedim(-1, 1)

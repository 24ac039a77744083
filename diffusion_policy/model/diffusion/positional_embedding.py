"""Sinusoidal embedding of the diffusion step (Vaswani et al. 2017, section 3.5, sines first)."""

import math

import torch
from torch import Tensor, nn


class SinusoidalPosEmb(nn.Module):
    """`cat(sin(t f), cos(t f))` with `f_j = 10000^(-j / (dim/2 - 1))`.

    Args:
        dim: size of the embedding; even, at least 4.
    """

    def __init__(self, dim: int):
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"dim must be even and at least 4, got {dim}")
        self.dim = dim

    def forward(self, timestep: Tensor) -> Tensor:
        """Embed `timestep` (B,) as (B, dim)."""
        half = self.dim // 2
        frequency = torch.exp(torch.arange(half, device=timestep.device) * -(math.log(10000) / (half - 1)))
        angle = timestep[:, None] * frequency[None, :]  # (B, dim/2)
        return torch.cat((angle.sin(), angle.cos()), dim=-1)

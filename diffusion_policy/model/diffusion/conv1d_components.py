"""Parts of the U-Net: convolutions over time, and residual blocks that a condition modulates.

Parameter names, their order and the arithmetic are those of the original implementation. Modulation is FiLM (Perez et
al. 2018).
"""

from torch import Tensor, nn


class Conv1dBlock(nn.Module):
    """Conv1d -> GroupNorm -> Mish, (B, C_in, T) -> (B, C_out, T)."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, n_groups: int = 8):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2),
            nn.GroupNorm(n_groups, out_channels),
            nn.Mish(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, T) to (B, C_out, T)."""
        return self.block(x)


class Downsample1d(nn.Module):
    """Halve the time axis with a strided convolution, (B, C, T) -> (B, C, T/2)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, kernel_size=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C, T/2)."""
        return self.conv(x)


class Upsample1d(nn.Module):
    """Double the time axis with a transposed convolution, (B, C, T) -> (B, C, 2T)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.ConvTranspose1d(channels, channels, kernel_size=4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, C, 2T)."""
        return self.conv(x)


class ConditionalResidualBlock1D(nn.Module):
    """Two convolution blocks with a residual; the condition modulates the first one's output.

    `h = block_0(x);  h = scale * h + bias  or  h = h + bias;  out = block_1(h) + residual(x)`,
    where scale and bias are linear in `Mish(condition)`. The scale is used raw, not as `1 + scale`.

    Args:
        in_channels, out_channels: channels C_in, C_out.
        cond_dim: size of the condition vector.
        kernel_size, n_groups: of the convolution blocks.
        cond_predict_scale: modulate by scale and bias (FiLM) instead of the bias alone.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        cond_dim: int,
        kernel_size: int = 3,
        n_groups: int = 8,
        cond_predict_scale: bool = False,
    ):
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                Conv1dBlock(in_channels, out_channels, kernel_size, n_groups),
                Conv1dBlock(out_channels, out_channels, kernel_size, n_groups),
            ]
        )
        self.cond_predict_scale = cond_predict_scale
        cond_channels = 2 * out_channels if cond_predict_scale else out_channels
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(cond_dim, cond_channels))
        self.residual_conv = (
            nn.Conv1d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        )

    def modulation(self, cond: Tensor) -> Tensor:
        """Scale and bias, or the bias alone, under `cond` (B, cond_dim): (B, C_out or 2 C_out)."""
        return self.cond_encoder(cond)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Map `x` (B, C_in, T) to (B, C_out, T), modulated as `modulation` says."""
        h = self.blocks[0](x)
        modulation = modulation[..., None]
        if self.cond_predict_scale:
            scale, bias = modulation.chunk(2, dim=1)
            h = scale * h + bias
        else:
            h = h + modulation
        return self.blocks[1](h) + self.residual_conv(x)

"""The convolutional denoiser: a 1-D U-Net over time whose residual blocks are modulated by the condition.

Chi et al. 2023, section 3.1 "CNN-based Diffusion Policy", after Janner et al. 2022; modulation is FiLM (Perez et
al. 2018). Parameter names, their order and the arithmetic are those of the original implementation, so that its
weights load.
"""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from diffusion_policy.model.common.derived_from_weights import DerivedFromWeights
from diffusion_policy.model.diffusion.conv1d_components import (
    ConditionalResidualBlock1D,
    Conv1dBlock,
    Downsample1d,
    Upsample1d,
)
from diffusion_policy.model.diffusion.positional_embedding import SinusoidalPosEmb
from diffusion_policy.model.diffusion.sampling_unet1d import SamplingUnet1D


def _check_sizes(down_dims: Sequence[int], kernel_size: int, n_groups: int) -> None:
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, got {kernel_size}")
    if n_groups < 1 or not down_dims:
        raise ValueError(
            f"n_groups must be at least 1 and down_dims not empty, got {n_groups} and {list(down_dims)}"
        )
    if any(dim % n_groups for dim in down_dims) or down_dims[0] % 8:
        raise ValueError(
            f"down_dims must be multiples of n_groups={n_groups}, and the first of 8, got {list(down_dims)}"
        )


class ConditionalUnet1D(nn.Module):
    """U-Net over the time axis of a trajectory, conditioned on the diffusion step and on observations.

    Args:
        input_dim: size D of one trajectory step.
        local_cond_dim: size of a condition given for every trajectory step, or None.
        global_cond_dim: size of one condition for the whole trajectory, or None.
        diffusion_step_embed_dim: size of the diffusion step's embedding.
        down_dims: channels of each level; the time axis is halved between levels.
        kernel_size: of the convolutions, odd.
        n_groups: of the group normalisations.
        cond_predict_scale: FiLM with scale and bias instead of the bias alone.
        local_cond_at: where local features are added: `both` ends of the U-Net, or only its `input`, as in
            the original, whose test for the output end can never be true.
    """

    def __init__(
        self,
        input_dim: int,
        local_cond_dim: int | None = None,
        global_cond_dim: int | None = None,
        diffusion_step_embed_dim: int = 256,
        down_dims: Sequence[int] = (256, 512, 1024),
        kernel_size: int = 3,
        n_groups: int = 8,
        cond_predict_scale: bool = False,
        local_cond_at: Literal["both", "input"] = "both",
    ):
        super().__init__()
        if local_cond_at not in ("both", "input"):
            raise ValueError(f"local_cond_at must be 'both' or 'input', got {local_cond_at!r}")
        _check_sizes(down_dims, kernel_size, n_groups)
        self.input_dim = input_dim
        self.down_dims = tuple(down_dims)
        self.local_cond_dim = local_cond_dim
        self.global_cond_dim = global_cond_dim
        self._for_sampling = DerivedFromWeights()
        cond_dim = diffusion_step_embed_dim + (global_cond_dim or 0)

        def residual(in_channels: int, out_channels: int) -> ConditionalResidualBlock1D:
            return ConditionalResidualBlock1D(
                in_channels, out_channels, cond_dim, kernel_size, n_groups, cond_predict_scale
            )

        first, last = self.down_dims[0], self.down_dims[-1]
        pairs = list(zip((input_dim, *self.down_dims), self.down_dims, strict=False))
        # The order in which modules are registered is the original's: optimizer states refer to it.
        self.mid_modules = nn.ModuleList([residual(last, last), residual(last, last)])
        self.diffusion_step_encoder = _diffusion_step_encoder(diffusion_step_embed_dim)
        self.local_cond_encoder: nn.ModuleList | None = None
        if local_cond_dim is not None:
            n_encoders = 2 if local_cond_at == "both" else 1
            self.local_cond_encoder = nn.ModuleList(
                [residual(local_cond_dim, first) for _ in range(n_encoders)]
            )
        self.up_modules = nn.ModuleList(
            nn.ModuleList([residual(2 * deep, shallow), residual(shallow, shallow), Upsample1d(shallow)])
            for shallow, deep in reversed(pairs[1:])
        )
        self.down_modules = nn.ModuleList(
            nn.ModuleList(
                [
                    residual(shallow, deep),
                    residual(deep, deep),
                    Downsample1d(deep) if level < len(pairs) - 1 else nn.Identity(),
                ]
            )
            for level, (shallow, deep) in enumerate(pairs)
        )
        # The last block has 8 groups whatever n_groups says: so every published checkpoint was trained.
        self.final_conv = nn.Sequential(
            Conv1dBlock(first, first, kernel_size, n_groups=8), nn.Conv1d(first, input_dim, 1)
        )

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | int,
        local_cond: Tensor | None = None,
        global_cond: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise, clean trajectory or velocity of a noisy trajectory.

        Args:
            sample: noisy trajectory (B, T, input_dim); T divisible by `2^(levels - 1)`.
            timestep: diffusion step, (B,) or one integer for all.
            local_cond: (B, T, local_cond_dim), if the network was built with it.
            global_cond: (B, global_cond_dim), if the network was built with it.

        Returns:
            The prediction, (B, T, input_dim).
        """
        self.check_inputs(sample.shape[1], local_cond, global_cond)
        if torch.is_grad_enabled():
            self._for_sampling.drop()
        timestep = torch.as_tensor(timestep, dtype=torch.long, device=sample.device).expand(sample.shape[0])
        cond = self.embed_step(timestep, sample.dtype)
        if global_cond is not None:
            cond = torch.cat((cond, global_cond), dim=-1)
        return self.denoise(sample, lambda block: block.modulation(cond), local_cond)

    def denoise(
        self,
        sample: Tensor,
        modulation: Callable[[ConditionalResidualBlock1D], Tensor],
        local_cond: Tensor | None = None,
    ) -> Tensor:
        """Predict as `forward` does, with the condition already turned into each block's modulation."""

        def run(block: nn.Module, x: Tensor) -> Tensor:
            return block(x, modulation(cast(ConditionalResidualBlock1D, block)))

        local_features = []
        if local_cond is not None and self.local_cond_encoder is not None:
            local_features = [run(encoder, local_cond.transpose(1, 2)) for encoder in self.local_cond_encoder]

        x = sample.transpose(1, 2)  # (B, D, T)
        skips: list[Tensor] = []
        for level, modules in enumerate(self.down_modules):
            resnet, resnet2, downsample = cast(nn.ModuleList, modules)
            x = run(resnet, x)
            if level == 0 and local_features:
                x = x + local_features[0]
            x = run(resnet2, x)
            skips.append(x)
            x = downsample(x)  # (B, C, T / 2^(level+1)) but for the last
        for mid_module in self.mid_modules:
            x = run(mid_module, x)
        for modules in self.up_modules:
            resnet, resnet2, upsample = cast(nn.ModuleList, modules)
            x = torch.cat((x, skips.pop()), dim=1)
            x = upsample(run(resnet2, run(resnet, x)))
        if len(local_features) == 2:
            x = x + local_features[1]
        return self.final_conv(x).transpose(1, 2)  # (B, T, D)

    def embed_step(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed diffusion steps (B,), (B, diffusion_step_embed_dim)."""
        embedding = self.diffusion_step_encoder[0](timestep).to(dtype)
        return self.diffusion_step_encoder[1:](embedding)

    def conditioned(
        self, *, local_cond: Tensor | None = None, global_cond: Tensor | None = None
    ) -> Callable[[Tensor, int], Tensor]:
        """The network under one condition, `(sample, timestep) -> prediction`, faster over many steps.

        What does not change between the steps is computed once; see `SamplingUnet1D`. Arguments as for `forward`.
        """
        if self.training or torch.is_grad_enabled():
            return lambda sample, timestep: self(sample, timestep, local_cond, global_cond)
        prepared = self._for_sampling.get(self, SamplingUnet1D).conditioned(local_cond, global_cond)

        def predict(sample: Tensor, timestep: int) -> Tensor:
            if torch.is_grad_enabled():  # a sampler that differentiates
                return self(sample, timestep, local_cond, global_cond)
            return prepared(sample, timestep)

        return predict

    def check_inputs(self, horizon: int, local_cond: Tensor | None, global_cond: Tensor | None) -> None:
        """Refuse a trajectory that cannot be halved, and conditions that the network has no weights for, or lacks."""
        for name, given, dim in (
            ("global_cond", global_cond, self.global_cond_dim),
            ("local_cond", local_cond, self.local_cond_dim),
        ):
            if (given is None) != (dim is None):
                raise ValueError(
                    f"{name} must {'not ' if dim is None else ''}be given: "
                    f"the network was built with {name}_dim={dim}"
                )
        factor = 2 ** (len(self.down_dims) - 1)
        if horizon % factor:
            raise ValueError(
                f"horizon {horizon} cannot be halved {len(self.down_dims) - 1} times: with down_dims="
                f"{list(self.down_dims)} it must be a multiple of {factor}. "
                f"Use horizon {-(-horizon // factor) * factor}, or fewer down_dims"
            )


def _diffusion_step_encoder(dim: int) -> nn.Sequential:
    """Sinusoids of the diffusion step (B,) through two layers, (B, dim)."""
    return nn.Sequential(SinusoidalPosEmb(dim), nn.Linear(dim, dim * 4), nn.Mish(), nn.Linear(dim * 4, dim))

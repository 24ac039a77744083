"""What a sampler's many calls of the U-Net have in common, computed once. Exact but for rounding."""

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_policy.model.common.packed_conv1d import with_packed_convolutions
from diffusion_policy.model.diffusion.conv1d_components import ConditionalResidualBlock1D


class Unet(Protocol):
    """What is needed of a `ConditionalUnet1D`: its forward pass in parts."""

    global_cond_dim: int | None

    def check_inputs(self, horizon: int, local_cond: Tensor | None, global_cond: Tensor | None) -> None:
        """Refuse inputs that do not fit."""

    def embed_step(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed diffusion steps (B,), (B, E)."""

    def denoise(
        self,
        sample: Tensor,
        modulation: Callable[[ConditionalResidualBlock1D], Tensor],
        local_cond: Tensor | None = None,
    ) -> Tensor:
        """Predict with given modulations, (B, T, D)."""


class SamplingUnet1D:
    """A `ConditionalUnet1D` whose weights stay as they are, to be called at many diffusion steps of many chunks.

    A block's modulation is `W Mish(cat(step, obs)) + b`, hence the sum of a term of the diffusion step, computed once
    per step for good, and one of the observation, computed once per chunk; all blocks' terms lie in one vector of S
    numbers. On the CPU the weights of convolutions are reordered once (`PackedConv1d`).

    Args:
        unet: the network, in eval mode.
    """

    def __init__(self, unet: Unet):
        network = with_packed_convolutions(cast(nn.Module, unet))
        self._network = cast(Unet, network)
        blocks = [m for m in network.modules() if isinstance(m, ConditionalResidualBlock1D)]
        linears = [cast(nn.Linear, block.cond_encoder[1]) for block in blocks]
        ends = torch.tensor([linear.out_features for linear in linears]).cumsum(0).tolist()
        self._span = {block: slice(a, b) for block, a, b in zip(blocks, [0, *ends], ends, strict=False)}
        weight = torch.cat([linear.weight for linear in linears])  # (S, cond_dim)
        self._bias = torch.cat([linear.bias for linear in linears])  # (S,)
        obs_dim = unet.global_cond_dim or 0
        self._step_weight, self._obs_weight = weight.split([weight.shape[1] - obs_dim, obs_dim], dim=1)
        self._step_terms: dict[int, Tensor] = {}  # (1, S)

    def conditioned(
        self, local_cond: Tensor | None, global_cond: Tensor | None
    ) -> Callable[[Tensor, int], Tensor]:
        """The network under one condition: `(sample (B, T, D), timestep) -> prediction (B, T, D)`."""
        obs_term: Tensor | float = 0.0
        if global_cond is not None:
            obs_term = functional.linear(functional.mish(global_cond), self._obs_weight)  # (B, S)

        def predict(sample: Tensor, timestep: int) -> Tensor:
            self._network.check_inputs(sample.shape[1], local_cond, global_cond)
            modulation = self._step_term(timestep, sample) + obs_term  # (B or 1, S)
            return self._network.denoise(sample, lambda block: modulation[:, self._span[block]], local_cond)

        return predict

    def _step_term(self, timestep: int, sample: Tensor) -> Tensor:
        """Term (1, S) of a diffusion step."""
        if timestep not in self._step_terms:
            step = torch.tensor([timestep], device=sample.device)
            embedding = functional.mish(self._network.embed_step(step, sample.dtype))
            self._step_terms[timestep] = functional.linear(embedding, self._step_weight, self._bias)
        return self._step_terms[timestep]

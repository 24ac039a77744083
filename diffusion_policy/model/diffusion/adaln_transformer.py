"""A transformer denoiser whose blocks are modulated by the condition, and which begins as the identity.

The transformer of Chi et al. 2023 reads its condition through cross-attention. Here one vector, made of the diffusion
step and the observations, shifts, scales and gates every block ("adaLN-Zero"; Peebles & Xie 2023, section 3.2).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from diffusion_policy.model.common.derived_from_weights import DerivedFromWeights
from diffusion_policy.model.common.weight_decay import weight_decay_groups
from diffusion_policy.model.diffusion.positional_embedding import SinusoidalPosEmb
from diffusion_policy.model.diffusion.transformer_for_diffusion import check_heads


class AdaLNBlock(nn.Module):
    """Self-attention and a feed-forward network, both modulated by the condition.

    `x = x + gate_1 * attention(norm(x) * (1 + scale_1) + shift_1)`, and likewise with the feed-forward network.
    Shifts, scales and gates are linear in the condition and begin at zero, so that the block begins as the identity.

    Args:
        n_emb: size of a token.
        n_head: attention heads.
        dropout: of attention weights and of the feed-forward network.
        is_causal: whether a token sees no later one.
    """

    def __init__(self, n_emb: int, n_head: int, dropout: float, is_causal: bool):
        super().__init__()
        self.n_head = n_head
        self.dropout = dropout
        self.is_causal = is_causal
        self.norm1 = nn.LayerNorm(n_emb, elementwise_affine=False)
        self.qkv = nn.Linear(n_emb, 3 * n_emb)
        self.proj = nn.Linear(n_emb, n_emb)
        self.norm2 = nn.LayerNorm(n_emb, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(n_emb, 4 * n_emb), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * n_emb, n_emb)
        )
        self.modulation = _modulation(n_emb, n_terms=6)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Map tokens `x` (B, T, n_emb) under `cond` (B, n_emb) to tokens of the same shape."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(cond)[:, None].chunk(6, dim=-1)
        x = x + gate1 * self._attention(_modulated(self.norm1(x), shift1, scale1))
        return x + gate2 * self.mlp(_modulated(self.norm2(x), shift2, scale2))

    def _attention(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.n_head, -1))  # (B, T, 3, heads, n_emb / heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, n_emb / heads)
        dropout = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=self.is_causal
        )
        return self.proj(attended.transpose(1, 2).flatten(2))


class AdaLNTransformer(nn.Module):
    """Transformer over the steps of a trajectory, modulated by the diffusion step and one condition vector.

    Works with `GlobalConditioning` and `InpaintConditioning`.

    Args:
        input_dim: size D of one trajectory step.
        global_cond_dim: size of the condition for the whole trajectory, or None.
        horizon: trajectory steps T, at most.
        n_layer: blocks.
        n_head: attention heads; a divisor of `n_emb`.
        n_emb: size of a token.
        p_drop_attn: dropout inside the blocks.
        causal_attn: a step sees no later step.
    """

    def __init__(
        self,
        input_dim: int,
        global_cond_dim: int | None = None,
        horizon: int = 16,
        n_layer: int = 8,
        n_head: int = 4,
        n_emb: int = 256,
        p_drop_attn: float = 0.0,
        causal_attn: bool = False,
    ):
        super().__init__()
        check_heads(n_emb, n_head)
        self.horizon = horizon
        self.global_cond_dim = global_cond_dim
        self.pos_emb = nn.Parameter(0.02 * torch.randn(1, horizon, n_emb))
        self.input_emb = nn.Linear(input_dim, n_emb)
        self.diffusion_step_encoder = nn.Sequential(SinusoidalPosEmb(n_emb), *_two_layers(n_emb, n_emb))
        self.global_cond_encoder = _two_layers(global_cond_dim, n_emb) if global_cond_dim else None
        self._step_embeddings = DerivedFromWeights()
        self.blocks = nn.ModuleList(
            AdaLNBlock(n_emb, n_head, p_drop_attn, is_causal=causal_attn) for _ in range(n_layer)
        )
        self.norm = nn.LayerNorm(n_emb, elementwise_affine=False)
        self.modulation = _modulation(n_emb, n_terms=2)
        self.head = nn.Linear(n_emb, input_dim)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups for a torch optimizer: what weight decay applies to, and the rest."""
        return weight_decay_groups(self)

    def forward(self, sample: Tensor, timestep: Tensor | int, global_cond: Tensor | None = None) -> Tensor:
        """Predict the noise, clean trajectory or velocity of a noisy trajectory.

        Args:
            sample: noisy trajectory (B, T, input_dim).
            timestep: diffusion step, (B,) or one integer for all.
            global_cond: (B, global_cond_dim), if the network was built with it.

        Returns:
            The prediction, (B, T, input_dim).
        """
        self._check_inputs(sample, global_cond)
        if torch.is_grad_enabled():
            self._step_embeddings.drop()
        if not isinstance(timestep, Tensor):
            timestep = torch.full((1,), timestep, device=sample.device)  # filled there: nothing is copied
        cond = self._embedded_step(timestep.to(sample.device).expand(sample.shape[0]), sample.dtype)
        if global_cond is not None and self.global_cond_encoder is not None:
            cond = cond + self.global_cond_encoder(global_cond)
        return self._denoise(sample, cond)

    def conditioned(self, *, global_cond: Tensor | None = None) -> Callable[[Tensor, int], Tensor]:
        """The network under one condition, `(sample, timestep) -> prediction`.

        The condition is embedded once, each diffusion step once for the weights.
        """
        if self.training or torch.is_grad_enabled():
            return lambda sample, timestep: self(sample, timestep, global_cond)
        of_obs: Tensor | float = 0.0
        if global_cond is not None and self.global_cond_encoder is not None:
            of_obs = self.global_cond_encoder(global_cond)
        of_steps: dict[int, Tensor] = self._step_embeddings.get(self, lambda _: {})

        def predict(sample: Tensor, timestep: int) -> Tensor:
            if torch.is_grad_enabled():  # a sampler that differentiates
                return self(sample, timestep, global_cond)
            self._check_inputs(sample, global_cond)
            if timestep not in of_steps:
                step = torch.full((1,), timestep, device=sample.device)
                of_steps[timestep] = self._embedded_step(step, sample.dtype)
            return self._denoise(sample, (of_steps[timestep] + of_obs).expand(len(sample), -1))

        return predict

    def _denoise(self, sample: Tensor, cond: Tensor) -> Tensor:
        """Predict from a trajectory (B, T, input_dim) and its embedded condition (B, n_emb)."""
        x = self.input_emb(sample) + self.pos_emb[:, : sample.shape[1]]
        for block in self.blocks:
            x = block(x, cond)
        shift, scale = self.modulation(cond)[:, None].chunk(2, dim=-1)
        return self.head(_modulated(self.norm(x), shift, scale))

    def _embedded_step(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """Embed diffusion steps (B,), (B, n_emb)."""
        return self.diffusion_step_encoder[1:](self.diffusion_step_encoder[0](timestep).to(dtype))

    def _check_inputs(self, sample: Tensor, global_cond: Tensor | None) -> None:
        if sample.shape[1] > self.horizon:
            raise ValueError(
                f"the trajectory has {sample.shape[1]} steps, but the transformer was built with "
                f"horizon={self.horizon}: set model.horizon={sample.shape[1]}"
            )
        if (global_cond is None) != (self.global_cond_encoder is None):
            raise ValueError(
                f"global_cond must {'' if self.global_cond_dim else 'not '}be given: "
                f"the network was built with global_cond_dim={self.global_cond_dim}"
            )


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def _modulation(n_emb: int, n_terms: int) -> nn.Sequential:
    """Shifts, scales and gates from the condition, (B, n_emb) to (B, n_terms * n_emb); zero at first."""
    linear = nn.Linear(n_emb, n_terms * n_emb)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.SiLU(), linear)


def _two_layers(in_dim: int, n_emb: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(in_dim, n_emb), nn.SiLU(), nn.Linear(n_emb, n_emb))

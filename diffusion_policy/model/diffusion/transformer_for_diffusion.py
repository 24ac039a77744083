"""The transformer denoiser: the steps of a trajectory attend to the diffusion step and the observations.

Chi et al. 2023, section 3.1 "Time-series diffusion transformer", after minGPT. Parameter names and the arithmetic,
dropout included, are those of the original implementation: its weights load, and its trainings can be followed.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_policy.model.common.derived_from_weights import DerivedFromWeights
from diffusion_policy.model.common.weight_decay import weight_decay_groups
from diffusion_policy.model.diffusion.positional_embedding import SinusoidalPosEmb


class TransformerForDiffusion(nn.Module):
    """Transformer over the steps of a trajectory, conditioned on the diffusion step and on observation tokens.

    A decoder: trunk tokens, one per trajectory step, attend to each other and to condition tokens, the diffusion step
    first and the observations after it. With `time_as_cond=False` it is an encoder without condition: the diffusion
    step is one more token in front of the trunk. All blocks normalise first (Xiong et al. 2020).

    Args:
        input_dim: size D of one trajectory step.
        output_dim: size of one predicted step; None is D.
        horizon: trajectory steps T, at most; exactly, where attention is causal.
        n_obs_steps: observation tokens To; None is T.
        cond_dim: size F of one observation token; 0 for none.
        n_layer: blocks of the trunk.
        n_head: attention heads; a divisor of `n_emb`.
        n_emb: size of a token.
        p_drop_emb: dropout of the tokens that enter.
        p_drop_attn: dropout inside the blocks.
        causal_attn: a step sees no later step, and the observation of step k only from step k on.
        time_as_cond: the diffusion step is a condition token instead of a token of the trunk.
        n_cond_layers: self-attention blocks over the condition tokens; 0 is a small network for each token.

    Raises:
        ValueError: sizes that do not fit; it names them.
    """

    mask: Tensor | None  # (tokens, tokens): 0 where a token of the trunk sees another, else -inf
    memory_mask: Tensor | None  # (tokens, condition tokens), likewise

    def __init__(
        self,
        input_dim: int,
        output_dim: int | None = None,
        horizon: int = 16,
        n_obs_steps: int | None = None,
        cond_dim: int = 0,
        n_layer: int = 12,
        n_head: int = 12,
        n_emb: int = 768,
        p_drop_emb: float = 0.1,
        p_drop_attn: float = 0.1,
        causal_attn: bool = False,
        time_as_cond: bool = True,
        n_cond_layers: int = 0,
    ):
        super().__init__()
        if cond_dim and not time_as_cond:
            raise ValueError(
                f"cond_dim={cond_dim} needs time_as_cond=True: without condition tokens nothing reads observations. "
                f"Set time_as_cond=True, or choose InpaintConditioning, which needs no cond_dim"
            )
        check_heads(n_emb, n_head)
        self.input_dim = input_dim
        self.horizon = horizon
        self.n_obs_steps = horizon if n_obs_steps is None else n_obs_steps
        self.cond_dim = cond_dim
        n_tokens = horizon if time_as_cond else 1 + horizon
        n_cond_tokens = 1 + self.n_obs_steps if cond_dim else 1

        # The order in which parameters are registered is the original's: optimizer states refer to it.
        self.pos_emb = nn.Parameter(0.02 * torch.randn(1, n_tokens, n_emb))
        self.cond_pos_emb: nn.Parameter | None = None
        if time_as_cond:
            deviation = 0.02 if cond_dim else 0.0
            self.cond_pos_emb = nn.Parameter(deviation * torch.randn(1, n_cond_tokens, n_emb))
        self.input_emb = nn.Linear(input_dim, n_emb)
        self.drop = nn.Dropout(p_drop_emb)
        self.time_emb = SinusoidalPosEmb(n_emb)
        self.cond_obs_emb = nn.Linear(cond_dim, n_emb) if cond_dim else None
        self.encoder: nn.Module
        self.decoder: nn.TransformerDecoder | None = None
        if not time_as_cond:
            self.encoder = _encoder(n_layer, n_emb, n_head, p_drop_attn)
        else:
            self.encoder = (
                _encoder(n_cond_layers, n_emb, n_head, p_drop_attn)
                if n_cond_layers
                else _token_network(n_emb)
            )
            self.decoder = _decoder(n_layer, n_emb, n_head, p_drop_attn)
        self.ln_f = nn.LayerNorm(n_emb)
        self._step_tokens = DerivedFromWeights()
        self.head = nn.Linear(n_emb, input_dim if output_dim is None else output_dim)

        self._register_masks(causal_attn, n_tokens, n_cond_tokens)
        self.apply(_init_weights)

    def _register_masks(self, causal_attn: bool, n_tokens: int, n_cond_tokens: int) -> None:
        """Masks of tokens and condition tokens; None where nothing is hidden: attention without one is faster."""
        hides_tokens, hides_obs = causal_attn and n_tokens > 1, causal_attn and n_cond_tokens > 2
        mask = _hidden_after(n_tokens, n_tokens, 0) if hides_tokens else None
        memory_mask = _hidden_after(n_tokens, n_cond_tokens, 1) if hides_obs else None
        self.register_buffer("mask", mask, persistent=False)
        self.register_buffer("memory_mask", memory_mask, persistent=False)

    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups for a torch optimizer: what weight decay applies to, and the rest."""
        return weight_decay_groups(self)

    def forward(self, sample: Tensor, timestep: Tensor | int, cond: Tensor | None = None) -> Tensor:
        """Predict the noise, clean trajectory or velocity of a noisy trajectory.

        Args:
            sample: noisy trajectory (B, T, input_dim).
            timestep: diffusion step, (B,) or one integer for all.
            cond: observation tokens (B, To, cond_dim), if the network was built with them.

        Returns:
            The prediction, (B, T, output_dim).
        """
        self._check_lengths(sample, cond)
        if torch.is_grad_enabled():
            self._step_tokens.drop()
        if not isinstance(timestep, Tensor):
            timestep = torch.full((1,), timestep, device=sample.device)  # filled there: nothing is copied
        step = self._embedded_step(timestep.to(sample.device).expand(sample.shape[0]), sample.dtype)
        if self.decoder is None:
            is_causal = (
                self.mask is not None
            )  # told, because torch would compare the mask and wait for the answer
            x = self._positioned(torch.cat((step, self.input_emb(sample)), dim=1), self.pos_emb)
            x = self.encoder(x, mask=self.mask, is_causal=is_causal)[:, 1:]  # (B, T, n_emb)
            return self.head(self.ln_f(x))
        return self._decode(
            sample, self._memory(step, cond)
        )  # memory first, as in the original: both draw dropout

    def conditioned(self, *, cond: Tensor | None = None) -> Callable[[Tensor, int], Tensor]:
        """The network under one condition, `(sample, timestep) -> prediction`.

        Where condition tokens are encoded each for itself, those of observations are encoded once, and that of each
        diffusion step once for the weights.
        """
        encodes_together = isinstance(self.encoder, nn.TransformerEncoder)
        if (
            cond is None
            or self.cond_obs_emb is None
            or encodes_together
            or self.training
            or torch.is_grad_enabled()
        ):
            return lambda sample, timestep: self(sample, timestep, cond)
        of_obs = self._encoded(self.cond_obs_emb(cond), first=1)  # (B, To, n_emb)
        of_steps: dict[int, Tensor] = self._step_tokens.get(self, lambda _: {})

        def predict(sample: Tensor, timestep: int) -> Tensor:
            if torch.is_grad_enabled():  # a sampler that differentiates
                return self(sample, timestep, cond)
            self._check_lengths(sample, cond)
            if timestep not in of_steps:
                step = torch.full((1,), timestep, device=sample.device)
                of_steps[timestep] = self._encoded(self._embedded_step(step, sample.dtype), first=0)
            step_token = of_steps[timestep].expand(len(sample), -1, -1)
            return self._decode(sample, torch.cat((step_token, of_obs), dim=1))

        return predict

    def _decode(self, sample: Tensor, memory: Tensor) -> Tensor:
        """Predict from a trajectory (B, T, input_dim) and encoded condition tokens (B, n, n_emb)."""
        assert self.decoder is not None, "an encoder has no memory"
        x = self._positioned(self.input_emb(sample), self.pos_emb)
        x = self.decoder(
            x, memory, tgt_mask=self.mask, memory_mask=self.memory_mask, tgt_is_causal=self.mask is not None
        )
        return self.head(self.ln_f(x))

    def _embedded_step(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        """The token of each diffusion step (B,), (B, 1, n_emb)."""
        return self.time_emb(timestep).to(dtype)[:, None]

    def _memory(self, step: Tensor, cond: Tensor | None) -> Tensor:
        """Encode the condition tokens, (B, 1 + To, n_emb)."""
        tokens = step
        if cond is not None and self.cond_obs_emb is not None:
            tokens = torch.cat((step, self.cond_obs_emb(cond)), dim=1)
        return self._encoded(tokens, first=0)

    def _encoded(self, tokens: Tensor, first: int) -> Tensor:
        """Encode condition tokens (B, n, n_emb) of which the first is number `first` of all."""
        assert self.cond_pos_emb is not None, "there are condition tokens where there is a decoder"
        return self.encoder(self._positioned(tokens, self.cond_pos_emb[:, first:]))

    def _positioned(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens (B, n, n_emb) that know their place, after dropout."""
        return self.drop(tokens + positions[:, : tokens.shape[1]])

    def _check_lengths(self, sample: Tensor, cond: Tensor | None) -> None:
        if (cond is None) != (self.cond_obs_emb is None):
            raise ValueError(
                f"cond must {'' if self.cond_dim else 'not '}be given: the network was built with "
                f"cond_dim={self.cond_dim}"
            )
        _check_length("horizon", sample.shape[1], self.horizon, is_exact=self.mask is not None)
        if cond is not None:
            is_exact = self.memory_mask is not None
            _check_length("n_obs_steps", cond.shape[1], self.n_obs_steps, is_exact)


def check_heads(n_emb: int, n_head: int) -> None:
    """Refuse a size of tokens that does not split into attention heads."""
    if n_head < 1 or n_emb % n_head:
        raise ValueError(f"n_emb must be a multiple of n_head, got n_emb={n_emb} and n_head={n_head}")


def _check_length(name: str, length: int, built: int, is_exact: bool) -> None:
    if length == built or (length < built and not is_exact):
        return
    reason = "with causal_attn its masks have exactly that length" if is_exact else "it has no more positions"
    raise ValueError(
        f"the input has {length} steps, but the transformer was built with {name}={built}, and {reason}: "
        f"set model.{name}={length}"
    )


def _layer(kind: Any, n_emb: int, n_head: int, dropout: float) -> Any:
    """A block of torch's: pre-norm, GELU, four times as wide inside."""
    return kind(n_emb, n_head, 4 * n_emb, dropout, activation="gelu", batch_first=True, norm_first=True)


def _encoder(n_layer: int, n_emb: int, n_head: int, dropout: float) -> nn.TransformerEncoder:
    layer = _layer(nn.TransformerEncoderLayer, n_emb, n_head, dropout)
    return nn.TransformerEncoder(layer, n_layer, enable_nested_tensor=False)


def _decoder(n_layer: int, n_emb: int, n_head: int, dropout: float) -> nn.TransformerDecoder:
    return nn.TransformerDecoder(_layer(nn.TransformerDecoderLayer, n_emb, n_head, dropout), n_layer)


def _token_network(n_emb: int) -> nn.Sequential:
    """What stands for an encoder: the same two layers for each token."""
    return nn.Sequential(nn.Linear(n_emb, 4 * n_emb), nn.Mish(), nn.Linear(4 * n_emb, n_emb))


def _hidden_after(n_tokens: int, n_seen: int, offset: int) -> Tensor:
    """(n_tokens, n_seen): token t sees those up to number `t + offset`; 0 where it does, -inf where not."""
    return torch.full((n_tokens, n_seen), -torch.inf).triu(diagonal=offset + 1)


def _init_weights(module: nn.Module) -> None:
    """Normal weights with a deviation of 0.02 and no biases (GPT-2, Radford et al. 2019)."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.MultiheadAttention):
        nn.init.normal_(module.in_proj_weight, std=0.02)
        nn.init.zeros_(module.in_proj_bias)

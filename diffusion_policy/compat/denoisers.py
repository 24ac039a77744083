"""The original's denoisers, from the arguments of their constructors."""

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D
from diffusion_policy.model.diffusion.transformer_for_diffusion import TransformerForDiffusion

Denoiser = TypeVar("Denoiser", bound=nn.Module)


def unet(**kwargs: Any) -> ConditionalUnet1D:
    """Its `ConditionalUnet1D`, which adds local features only at the input."""
    return ConditionalUnet1D(**kwargs, local_cond_at="input")


def transformer(obs_as_cond: bool = False, **kwargs: Any) -> TransformerForDiffusion:
    """Its `TransformerForDiffusion`, which overwrites `obs_as_cond`: `cond_dim` decides."""
    return TransformerForDiffusion(**kwargs)


def as_built(model: Denoiser, without: Mapping[str, int | None], **dims: int) -> Denoiser:
    """The given network, after a check that its dimensions are those that the conditioning needs.

    Args:
        model: a denoiser that was built before the policy.
        without: its dimensions where it has no condition.
        dims: those of the conditioning.
    """
    for name, size in {**without, **dims}.items():
        if getattr(model, name) != size:
            raise ValueError(f"model: {name}={getattr(model, name)} does not fit the policy, needs {size}")
    return model

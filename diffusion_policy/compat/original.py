"""What the original implementation's class names, constructor arguments and weights mean here.

One table maps a dotted name of real-stanford/diffusion_policy (and of the diffusers schedulers its configs
name) to a function that builds our object from the original's arguments; `weight_names.py` maps those of weights.
A load is strict after the map: a weight without a home, or a home without a weight, is an error.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_policy.compat.denoisers import transformer, unet
from diffusion_policy.compat.image_encoders import multi_image_obs_encoder, resnet
from diffusion_policy.compat.schedulers import ddim_scheduler, ddpm_scheduler
from diffusion_policy.compat.transformer_policies import (
    transformer_hybrid_image_policy,
    transformer_lowdim_policy,
)
from diffusion_policy.compat.unet_policies import (
    unet_hybrid_image_policy,
    unet_image_policy,
    unet_lowdim_policy,
)
from diffusion_policy.compat.weight_names import StateDict, map_state_dict
from diffusion_policy.model.common.normalizer import LinearNormalizer
from diffusion_policy.model.diffusion.ema_model import EMAModel
from diffusion_policy.policy.conditioning import observed_mask
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy


def from_original(target: str, kwargs: Mapping[str, Any], state_dict: StateDict | None = None) -> Any:
    """Build our counterpart of one of the original's objects.

    Args:
        target: dotted name in the original, as in a config's `_target_`.
        kwargs: its constructor's arguments, with the original's names and defaults. Arguments that are
            objects may be given as configs are, `{"_target_": name, **kwargs}`.
        state_dict: weights under the original's names; None leaves the fresh initialisation.

    Raises:
        ValueError: for an unknown target or argument, and for weights that do not fit; it names them.
    """
    if target not in _BUILDERS:
        known = "\n  ".join(sorted(_BUILDERS))
        raise ValueError(f"{target!r} has no counterpart here; known are:\n  {known}")
    try:
        built = _BUILDERS[target](**{name: _nested(value) for name, value in kwargs.items()})
    except TypeError as error:
        raise ValueError(f"{target}: {error}") from error
    if state_dict is not None:
        _load(built, state_dict, target)
    return built


def _load(built: Any, state_dict: StateDict, target: str) -> None:
    if not isinstance(built, nn.Module):
        raise ValueError(f"{target} has no weights, but a state_dict with {len(state_dict)} entries came")
    mapped = _in_backbones(map_state_dict(state_dict), built)
    required = [*built.shape_meta["obs"], "action"] if isinstance(built, DiffusionPolicy) else []
    unfitted = [field for field in required if f"normalizer.{field}.scale" not in mapped]
    if unfitted:
        raise ValueError(f"{target}: the state_dict has no normalizer for {unfitted}")
    try:
        built.load_state_dict(mapped, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{target}: the weights do not fit. {error}") from error


def _in_backbones(mapped: dict[str, Tensor], built: nn.Module) -> dict[str, Tensor]:
    """Weights of image encoders that are a network and nothing else there, and a backbone with a pooling here."""
    names = set(built.state_dict())
    pattern = re.compile(r"(image_encoders\.[^.]+\.)")
    inner = {name: pattern.sub(r"\1backbone.", name, count=1) for name in mapped if name not in names}
    return {inner[name] if inner.get(name) in names else name: value for name, value in mapped.items()}


# Objects


def _nested(value: Any) -> Any:
    """Build an argument that is given as a config, or names some; other values pass."""
    if not isinstance(value, Mapping):
        return value
    if "_target_" in value:
        return from_original(value["_target_"], {k: v for k, v in value.items() if k != "_target_"})
    return {name: _nested(inner) for name, inner in value.items()}


@dataclass
class _LowdimMaskGenerator:
    """Mask of a trajectory of actions and observations; called with its shape (B, T, Da + Do)."""

    action_dim: int
    obs_dim: int
    max_n_obs_steps: int = 2
    fix_obs_steps: bool = True
    action_visible: bool = False

    def __call__(self, shape: tuple[int, int, int], seed: int | None = None) -> Tensor:
        """Return the mask, bool (B, T, Da + Do); `seed` draws the observed steps where they are not fixed."""
        steps = torch.full((shape[0],), self.max_n_obs_steps)
        if not self.fix_obs_steps:
            generator = torch.Generator()
            if seed is not None:
                generator.manual_seed(seed)
            steps = torch.randint(1, self.max_n_obs_steps + 1, (shape[0],), generator=generator)
        return observed_mask(shape, self.action_dim, steps, self.action_visible)


_BUILDERS: dict[str, Callable[..., Any]] = {
    "diffusers.schedulers.scheduling_ddpm.DDPMScheduler": ddpm_scheduler,
    "diffusers.schedulers.scheduling_ddim.DDIMScheduler": ddim_scheduler,
    "diffusion_policy.model.common.normalizer.LinearNormalizer": LinearNormalizer,
    "diffusion_policy.model.diffusion.conditional_unet1d.ConditionalUnet1D": unet,
    "diffusion_policy.model.diffusion.ema_model.EMAModel": EMAModel,
    "diffusion_policy.model.diffusion.mask_generator.LowdimMaskGenerator": _LowdimMaskGenerator,
    "diffusion_policy.model.diffusion.transformer_for_diffusion.TransformerForDiffusion": transformer,
    "diffusion_policy.model.vision.model_getter.get_resnet": resnet,
    "diffusion_policy.model.vision.multi_image_obs_encoder.MultiImageObsEncoder": multi_image_obs_encoder,
    "diffusion_policy.policy.diffusion_transformer_hybrid_image_policy.DiffusionTransformerHybridImagePolicy": (
        transformer_hybrid_image_policy
    ),
    "diffusion_policy.policy.diffusion_transformer_lowdim_policy.DiffusionTransformerLowdimPolicy": (
        transformer_lowdim_policy
    ),
    "diffusion_policy.policy.diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy": (
        unet_hybrid_image_policy
    ),
    "diffusion_policy.policy.diffusion_unet_image_policy.DiffusionUnetImagePolicy": unet_image_policy,
    "diffusion_policy.policy.diffusion_unet_lowdim_policy.DiffusionUnetLowdimPolicy": unet_lowdim_policy,
}

"""What the original implementation's class names, constructor arguments and weights mean here.

One table maps a dotted name of real-stanford/diffusion_policy (and of the diffusers schedulers its configs
name) to a function that builds our object from the original's arguments; `weight_names.py` maps those of weights.
A load is strict after the map: a weight without a home, or a home without a weight, is an error.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_policy.compat.image_encoders import hybrid_obs_encoder, multi_image_obs_encoder, resnet
from diffusion_policy.compat.weight_names import StateDict, map_state_dict
from diffusion_policy.model.common.normalizer import LinearNormalizer
from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D
from diffusion_policy.model.diffusion.ema_model import EMAModel
from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule
from diffusion_policy.model.diffusion.samplers import Sampler, sample_ddim, sample_ddpm
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.policy.conditioning import (
    Conditioning,
    GlobalConditioning,
    InpaintConditioning,
    LocalConditioning,
    observed_mask,
)
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
class _Scheduler:
    """What a diffusers scheduler was: schedule, sampler without its number of steps, and clipping."""

    noise_schedule: NoiseSchedule
    sampler: Sampler
    clip_sample: bool


def _ddpm_scheduler(
    num_train_timesteps: int = 1000,
    beta_start: float = 0.0001,
    beta_end: float = 0.02,
    beta_schedule: Any = "linear",
    variance_type: str = "fixed_small",
    clip_sample: bool = True,
    prediction_type: Any = "epsilon",
) -> _Scheduler:
    schedule = NoiseSchedule(num_train_timesteps, beta_schedule, beta_start, beta_end, prediction_type)
    variance: Any = variance_type.removesuffix("_log")  # the logarithm is taken and undone: the same variance
    return _Scheduler(schedule, partial(sample_ddpm, variance=variance), clip_sample)


def _ddim_scheduler(
    num_train_timesteps: int = 1000,
    beta_start: float = 0.0001,
    beta_end: float = 0.02,
    beta_schedule: Any = "linear",
    clip_sample: bool = True,
    set_alpha_to_one: bool = True,
    steps_offset: int = 0,
    prediction_type: Any = "epsilon",
) -> _Scheduler:
    schedule = NoiseSchedule(num_train_timesteps, beta_schedule, beta_start, beta_end, prediction_type)
    final: Any = "one" if set_alpha_to_one else "first"
    sampler = partial(sample_ddim, final_alpha_bar=final, steps_offset=steps_offset)
    return _Scheduler(schedule, sampler, clip_sample)


def _unet(**kwargs: Any) -> ConditionalUnet1D:
    return ConditionalUnet1D(**kwargs, local_cond_at="input")


def _unet_lowdim_policy(
    model: ConditionalUnet1D,
    noise_scheduler: _Scheduler,
    horizon: int,
    obs_dim: int,
    action_dim: int,
    n_action_steps: int,
    n_obs_steps: int,
    num_inference_steps: int | None = None,
    obs_as_local_cond: bool = False,
    obs_as_global_cond: bool = False,
    pred_action_steps_only: bool = False,
    oa_step_convention: bool = False,
    **step_kwargs: Any,
) -> DiffusionPolicy:
    if obs_as_local_cond and obs_as_global_cond:
        raise ValueError("obs_as_local_cond and obs_as_global_cond exclude each other")
    if pred_action_steps_only and not obs_as_global_cond:
        raise ValueError("pred_action_steps_only needs obs_as_global_cond")
    conditioning: Conditioning = InpaintConditioning()
    if obs_as_global_cond:
        conditioning = GlobalConditioning()
    elif obs_as_local_cond:
        conditioning = LocalConditioning()
    first_action_step = n_obs_steps - 1 if oa_step_convention else n_obs_steps
    return DiffusionPolicy(
        shape_meta={"obs": {"obs": {"shape": [obs_dim]}}, "action": {"shape": [action_dim]}},
        horizon=horizon,
        n_obs_steps=n_obs_steps,
        n_action_steps=min(n_action_steps, horizon - first_action_step),  # what fits, as its slice did
        model=partial(_as_built, model),
        conditioning=conditioning,
        noise_schedule=noise_scheduler.noise_schedule,
        sampler=_with_steps(noise_scheduler.sampler, num_inference_steps, step_kwargs),
        clip_sample=noise_scheduler.clip_sample,
        pred_action_steps_only=pred_action_steps_only,
        first_action_step=first_action_step,
    )


def _unet_image_policy(
    shape_meta: Mapping[str, Any],
    noise_scheduler: _Scheduler,
    obs_encoder: MultiImageObsEncoder,
    horizon: int,
    n_action_steps: int,
    n_obs_steps: int,
    num_inference_steps: int | None = None,
    obs_as_global_cond: bool = True,
    diffusion_step_embed_dim: int = 256,
    down_dims: Sequence[int] = (256, 512, 1024),
    kernel_size: int = 5,
    n_groups: int = 8,
    cond_predict_scale: bool = True,
    **step_kwargs: Any,
) -> DiffusionPolicy:
    network = partial(
        _unet,
        diffusion_step_embed_dim=diffusion_step_embed_dim,
        down_dims=down_dims,
        kernel_size=kernel_size,
        n_groups=n_groups,
        cond_predict_scale=cond_predict_scale,
    )
    return DiffusionPolicy(
        shape_meta=shape_meta,
        horizon=horizon,
        n_obs_steps=n_obs_steps,
        n_action_steps=min(n_action_steps, horizon - n_obs_steps + 1),
        model=network,
        conditioning=GlobalConditioning() if obs_as_global_cond else InpaintConditioning(),
        noise_schedule=noise_scheduler.noise_schedule,
        sampler=_with_steps(noise_scheduler.sampler, num_inference_steps, step_kwargs),
        obs_encoder=obs_encoder,
        clip_sample=noise_scheduler.clip_sample,
    )


def _unet_hybrid_image_policy(
    shape_meta: Mapping[str, Any],
    crop_shape: Sequence[int] | None = (76, 76),
    obs_encoder_group_norm: bool = False,
    eval_fixed_crop: bool = False,
    **kwargs: Any,
) -> DiffusionPolicy:
    obs_encoder = hybrid_obs_encoder(shape_meta, crop_shape, obs_encoder_group_norm, eval_fixed_crop)
    return _unet_image_policy(shape_meta, obs_encoder=obs_encoder, **kwargs)


def _as_built(model: ConditionalUnet1D, **dims: int) -> ConditionalUnet1D:
    """The given network, after a check that its dimensions are those that the conditioning needs."""
    for name, size in {"local_cond_dim": None, "global_cond_dim": None, **dims}.items():
        if getattr(model, name) != size:
            raise ValueError(f"model: {name}={getattr(model, name)} does not fit the policy, needs {size}")
    return model


def _with_steps(sampler: Sampler, steps: int | None, step_kwargs: Mapping[str, Any]) -> Sampler:
    """Give a sampler its number of steps and what the original's policies passed on to `scheduler.step`."""
    unknown = set(step_kwargs) - ({"eta"} & set(signature(sampler).parameters))
    if unknown:
        raise ValueError(f"unknown arguments {sorted(unknown)}: neither the policy's nor its scheduler's")
    return partial(sampler, steps=steps, **step_kwargs)


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
    "diffusers.schedulers.scheduling_ddpm.DDPMScheduler": _ddpm_scheduler,
    "diffusers.schedulers.scheduling_ddim.DDIMScheduler": _ddim_scheduler,
    "diffusion_policy.model.common.normalizer.LinearNormalizer": LinearNormalizer,
    "diffusion_policy.model.diffusion.conditional_unet1d.ConditionalUnet1D": _unet,
    "diffusion_policy.model.diffusion.ema_model.EMAModel": EMAModel,
    "diffusion_policy.model.diffusion.mask_generator.LowdimMaskGenerator": _LowdimMaskGenerator,
    "diffusion_policy.model.vision.model_getter.get_resnet": resnet,
    "diffusion_policy.model.vision.multi_image_obs_encoder.MultiImageObsEncoder": multi_image_obs_encoder,
    "diffusion_policy.policy.diffusion_unet_hybrid_image_policy.DiffusionUnetHybridImagePolicy": (
        _unet_hybrid_image_policy
    ),
    "diffusion_policy.policy.diffusion_unet_image_policy.DiffusionUnetImagePolicy": _unet_image_policy,
    "diffusion_policy.policy.diffusion_unet_lowdim_policy.DiffusionUnetLowdimPolicy": _unet_lowdim_policy,
}

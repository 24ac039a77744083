"""The original's policies with the U-Net, from the arguments of their constructors."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from diffusion_policy.compat.denoisers import as_built, unet
from diffusion_policy.compat.image_encoders import hybrid_obs_encoder
from diffusion_policy.compat.schedulers import Scheduler, with_steps
from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.policy.conditioning import (
    Conditioning,
    GlobalConditioning,
    InpaintConditioning,
    LocalConditioning,
)
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy


def unet_lowdim_policy(
    model: ConditionalUnet1D,
    noise_scheduler: Scheduler,
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
    """Its `DiffusionUnetLowdimPolicy`."""
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
        model=partial(as_built, model, {"local_cond_dim": None, "global_cond_dim": None}),
        conditioning=conditioning,
        noise_schedule=noise_scheduler.noise_schedule,
        sampler=with_steps(noise_scheduler.sampler, num_inference_steps, step_kwargs),
        clip_sample=noise_scheduler.clip_sample,
        pred_action_steps_only=pred_action_steps_only,
        first_action_step=first_action_step,
    )


def unet_image_policy(
    shape_meta: Mapping[str, Any],
    noise_scheduler: Scheduler,
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
    """Its `DiffusionUnetImagePolicy`."""
    network = partial(
        unet,
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
        sampler=with_steps(noise_scheduler.sampler, num_inference_steps, step_kwargs),
        obs_encoder=obs_encoder,
        clip_sample=noise_scheduler.clip_sample,
    )


def unet_hybrid_image_policy(
    shape_meta: Mapping[str, Any],
    crop_shape: Sequence[int] | None = (76, 76),
    obs_encoder_group_norm: bool = False,
    eval_fixed_crop: bool = False,
    **kwargs: Any,
) -> DiffusionPolicy:
    """Its `DiffusionUnetHybridImagePolicy`."""
    obs_encoder = hybrid_obs_encoder(shape_meta, crop_shape, obs_encoder_group_norm, eval_fixed_crop)
    return unet_image_policy(shape_meta, obs_encoder=obs_encoder, **kwargs)

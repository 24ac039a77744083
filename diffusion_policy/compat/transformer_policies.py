"""The original's policies with the transformer, from the arguments of their constructors."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from diffusion_policy.compat.denoisers import as_built, transformer
from diffusion_policy.compat.image_encoders import hybrid_obs_encoder
from diffusion_policy.compat.schedulers import Scheduler, with_steps
from diffusion_policy.model.diffusion.transformer_for_diffusion import TransformerForDiffusion
from diffusion_policy.policy.conditioning import InpaintConditioning, TokenConditioning
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy


def transformer_lowdim_policy(
    model: TransformerForDiffusion,
    noise_scheduler: Scheduler,
    horizon: int,
    obs_dim: int,
    action_dim: int,
    n_action_steps: int,
    n_obs_steps: int,
    num_inference_steps: int | None = None,
    obs_as_cond: bool = False,
    pred_action_steps_only: bool = False,
    **step_kwargs: Any,
) -> DiffusionPolicy:
    """Its `DiffusionTransformerLowdimPolicy`."""
    return DiffusionPolicy(
        shape_meta={"obs": {"obs": {"shape": [obs_dim]}}, "action": {"shape": [action_dim]}},
        horizon=horizon,
        n_obs_steps=n_obs_steps,
        n_action_steps=min(n_action_steps, horizon - n_obs_steps + 1),  # what fits, as its slice did
        model=partial(as_built, model, {"cond_dim": 0}),
        conditioning=TokenConditioning() if obs_as_cond else InpaintConditioning(),
        noise_schedule=noise_scheduler.noise_schedule,
        sampler=with_steps(noise_scheduler.sampler, num_inference_steps, step_kwargs),
        clip_sample=noise_scheduler.clip_sample,
        pred_action_steps_only=pred_action_steps_only,
    )


def transformer_hybrid_image_policy(
    shape_meta: Mapping[str, Any],
    noise_scheduler: Scheduler,
    horizon: int,
    n_action_steps: int,
    n_obs_steps: int,
    num_inference_steps: int | None = None,
    crop_shape: Sequence[int] | None = (76, 76),
    obs_encoder_group_norm: bool = False,
    eval_fixed_crop: bool = False,
    n_layer: int = 8,
    n_cond_layers: int = 0,
    n_head: int = 4,
    n_emb: int = 256,
    p_drop_emb: float = 0.0,
    p_drop_attn: float = 0.3,
    causal_attn: bool = True,
    time_as_cond: bool = True,
    obs_as_cond: bool = True,
    pred_action_steps_only: bool = False,
    **step_kwargs: Any,
) -> DiffusionPolicy:
    """Its `DiffusionTransformerHybridImagePolicy`; with in-painting the encoder learns, which there it did not."""
    network = partial(
        transformer,
        horizon=horizon,
        n_obs_steps=n_obs_steps,
        n_layer=n_layer,
        n_cond_layers=n_cond_layers,
        n_head=n_head,
        n_emb=n_emb,
        p_drop_emb=p_drop_emb,
        p_drop_attn=p_drop_attn,
        causal_attn=causal_attn,
        time_as_cond=time_as_cond,
    )
    return DiffusionPolicy(
        shape_meta=shape_meta,
        horizon=horizon,
        n_obs_steps=n_obs_steps,
        n_action_steps=min(n_action_steps, horizon - n_obs_steps + 1),
        model=network,
        conditioning=TokenConditioning() if obs_as_cond else InpaintConditioning(),
        noise_schedule=noise_scheduler.noise_schedule,
        sampler=with_steps(noise_scheduler.sampler, num_inference_steps, step_kwargs),
        obs_encoder=hybrid_obs_encoder(shape_meta, crop_shape, obs_encoder_group_norm, eval_fixed_crop),
        clip_sample=noise_scheduler.clip_sample,
        pred_action_steps_only=pred_action_steps_only,
    )

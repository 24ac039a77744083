"""What the original implementation's class names, constructor arguments and weights mean here.

One table maps a dotted name of real-stanford/diffusion_policy (and of the diffusers schedulers its configs
name) to a function that builds our object from the original's arguments; another maps weight names. A load is
strict after the
map: a weight without a home, or a home without a weight, is an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_policy.model.common.normalizer import LinearNormalizer
from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D
from diffusion_policy.model.diffusion.ema_model import EMAModel
from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule
from diffusion_policy.model.diffusion.samplers import Sampler, sample_ddim, sample_ddpm
from diffusion_policy.policy.conditioning import (
    Conditioning,
    GlobalConditioning,
    InpaintConditioning,
    LocalConditioning,
    observed_mask,
)
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy

StateDict = Mapping[str, Tensor]


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
        built = _BUILDERS[target](**kwargs)
    except TypeError as error:
        raise ValueError(f"{target}: {error}") from error
    if state_dict is not None:
        _load(built, state_dict, target)
    return built


def map_state_dict(state_dict: StateDict) -> dict[str, Tensor]:
    """Rename weights of the original to ours and drop those that never had an effect there."""
    return {_map_name(name): tensor for name, tensor in state_dict.items() if not _without_effect(name)}


# Weights


def _map_name(name: str) -> str:
    """`normalizer.params_dict.obs.input_stats.min` is `normalizer.obs.input_min`; the rest keeps its name."""
    return name.replace("params_dict.", "").replace("input_stats.", "input_")


def _without_effect(name: str) -> bool:
    """Empty parameters that only told a module's device, and the second local encoder, never called."""
    return name.split(".")[-1] == "_dummy_variable" or "local_cond_encoder.1." in name


def _load(built: Any, state_dict: StateDict, target: str) -> None:
    if not isinstance(built, nn.Module):
        raise ValueError(f"{target} has no weights, but a state_dict with {len(state_dict)} entries came")
    mapped = map_state_dict(state_dict)
    required = ("obs", "action") if isinstance(built, DiffusionPolicy) else ()
    unfitted = [field for field in required if f"normalizer.{field}.scale" not in mapped]
    if unfitted:
        raise ValueError(f"{target}: the state_dict has no normalizer for {unfitted}")
    try:
        built.load_state_dict(mapped, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{target}: the weights do not fit. {error}") from error


# Objects


def _nested(value: Any) -> Any:
    """Build an argument that is given as a config; other values pass."""
    if isinstance(value, Mapping) and "_target_" in value:
        return from_original(value["_target_"], {k: v for k, v in value.items() if k != "_target_"})
    return value


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
    model: Any,
    noise_scheduler: Any,
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
    scheduler = _nested(noise_scheduler)
    first_action_step = n_obs_steps - 1 if oa_step_convention else n_obs_steps
    return DiffusionPolicy(
        shape_meta={"obs": {"obs": {"shape": [obs_dim]}}, "action": {"shape": [action_dim]}},
        horizon=horizon,
        n_obs_steps=n_obs_steps,
        n_action_steps=min(n_action_steps, horizon - first_action_step),  # what fits, as its slice did
        model=partial(_as_built, _nested(model)),
        conditioning=conditioning,
        noise_schedule=scheduler.noise_schedule,
        sampler=_with_steps(scheduler.sampler, num_inference_steps, step_kwargs),
        clip_sample=scheduler.clip_sample,
        pred_action_steps_only=pred_action_steps_only,
        first_action_step=first_action_step,
    )


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
    "diffusion_policy.policy.diffusion_unet_lowdim_policy.DiffusionUnetLowdimPolicy": _unet_lowdim_policy,
}

"""A diffusion policy of a few thousand weights, for tests."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_policy.model.common.normalizer import LinearNormalizer
from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D
from diffusion_policy.model.diffusion.noise_schedule import NoiseSchedule
from diffusion_policy.model.diffusion.regression import Regression, sample_regression
from diffusion_policy.model.diffusion.samplers import (
    sample_consistency,
    sample_ddim,
    sample_ddpm,
    sample_dpm_solver,
    sample_heun,
)
from diffusion_policy.model.diffusion.transformer_for_diffusion import TransformerForDiffusion
from diffusion_policy.policy.conditioning import (
    GlobalConditioning,
    InpaintConditioning,
    LocalConditioning,
    TokenConditioning,
)
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy

B, T, TO, TA, DA = 4, 8, 2, 3, 2
SHAPE_META: dict[str, Any] = {
    "obs": {"pose": {"shape": [3]}, "keypoints": {"shape": [2, 2], "type": "low_dim"}},
    "action": {"shape": [DA]},
}
CONDITIONINGS = {
    "global": GlobalConditioning(),
    "tokens": TokenConditioning(),
    "local": LocalConditioning(),
    "inpaint": InpaintConditioning(),
}
SAMPLERS = {
    "ddpm": partial(sample_ddpm, steps=None),
    "ddim": partial(sample_ddim, steps=5),
    "dpm-solver": partial(sample_dpm_solver, steps=5, spacing="leading"),
    "heun": partial(sample_heun, steps=3, spacing="leading"),  # trailing: all clipped, whatever the noise
    "consistency": partial(sample_consistency, steps=3, spacing="leading"),
    "ddim-eta": partial(sample_ddim, steps=5, eta=1.0),
}
PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
NETWORK = partial(ConditionalUnet1D, down_dims=(8, 16), diffusion_step_embed_dim=8, cond_predict_scale=True)
TRANSFORMER = partial(
    TransformerForDiffusion,
    horizon=T,
    n_obs_steps=TO,
    n_layer=2,
    n_head=2,
    n_emb=8,
    p_drop_emb=0.0,
    p_drop_attn=0.0,
    causal_attn=True,
)


def tiny_policy(
    conditioning: str = "global", prediction_type: str = "epsilon", sampler: str = "ddim", **kwargs: Any
) -> DiffusionPolicy:
    torch.manual_seed(0)
    schedule: nn.Module
    if prediction_type == "regression":
        schedule, sample = Regression(), sample_regression
    else:
        schedule, sample = NoiseSchedule(10, prediction_type=prediction_type), SAMPLERS[sampler]
    arguments = {
        "shape_meta": SHAPE_META,
        "horizon": T,
        "n_obs_steps": TO,
        "n_action_steps": TA,
        "model": TRANSFORMER if conditioning == "tokens" else NETWORK,
        "conditioning": CONDITIONINGS[conditioning],
        "noise_schedule": schedule,
        "sampler": sample,
    }
    policy = DiffusionPolicy(**{**arguments, **kwargs})
    policy.set_normalizer(normalizer())
    return policy.eval()


def normalizer() -> LinearNormalizer:
    """Fitted to values in the hundreds, as pixels are."""
    low, high = torch.tensor(100.0), torch.tensor(500.0)
    shapes = {key: meta["shape"] for key, meta in SHAPE_META["obs"].items()} | {"action": [DA]}
    return LinearNormalizer().fit(
        {key: torch.stack([low.expand(shape), high.expand(shape)]) for key, shape in shapes.items()}
    )


def observations(n_rows: int = B, n_steps: int = TO, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        key: 100 + 400 * torch.rand(n_rows, n_steps, *meta["shape"], generator=generator)
        for key, meta in SHAPE_META["obs"].items()
    }


def training_batch(policy: DiffusionPolicy, n_rows: int = B) -> dict[str, Any]:
    action = 100 + 400 * torch.rand(n_rows, T, DA, generator=torch.Generator().manual_seed(2))
    return {"obs": observations(n_rows, policy.n_train_obs_steps), "action": action}


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]

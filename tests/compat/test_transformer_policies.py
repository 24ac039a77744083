"""The original's transformer policies: which arguments fit together."""

from typing import Any

import pytest
import torch

from diffusion_policy.compat.original import from_original
from diffusion_policy.policy.conditioning import InpaintConditioning, TokenConditioning
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from tests.compat.golden_case import SCHEDULERS, TRANSFORMER, TRANSFORMER_POLICY

MODEL: dict[str, Any] = {
    "_target_": TRANSFORMER,
    "input_dim": 2,
    "output_dim": 2,
    "horizon": 8,
    "n_obs_steps": 2,
    "cond_dim": 5,
    "n_layer": 1,
    "n_head": 2,
    "n_emb": 8,
    "causal_attn": True,
}
POLICY: dict[str, Any] = {
    "noise_scheduler": {"_target_": SCHEDULERS["DDPM"], "num_train_timesteps": 10},
    "horizon": 8,
    "obs_dim": 5,
    "action_dim": 2,
    "n_action_steps": 4,
    "n_obs_steps": 2,
    "obs_as_cond": True,
}


def lowdim_policy(model: dict[str, Any], **kwargs: Any) -> DiffusionPolicy:
    return from_original(TRANSFORMER_POLICY, {**POLICY, "model": {**MODEL, **model}, **kwargs})


def acts(policy: DiffusionPolicy) -> bool:
    policy.normalizer.fit({"obs": torch.rand(9, 5), "action": torch.rand(9, 2)})
    action = policy.eval().predict_action({"obs": torch.rand(3, 2, 5)})["action"]
    return action.shape == (3, 4, 2) and bool(action.isfinite().all())


@pytest.mark.parametrize("obs_as_cond", [True, False])
def test_what_the_network_is_told_of_observations_is_ignored(obs_as_cond: bool) -> None:
    """There it was overwritten: `cond_dim` decides."""
    policy = lowdim_policy({"obs_as_cond": obs_as_cond})
    assert isinstance(policy.conditioning, TokenConditioning)
    assert acts(policy)


def test_without_tokens_observations_are_painted_in() -> None:
    policy = lowdim_policy({"input_dim": 7, "output_dim": 7, "cond_dim": 0}, obs_as_cond=False)
    assert isinstance(policy.conditioning, InpaintConditioning)
    assert acts(policy)


def test_only_the_executed_steps() -> None:
    assert acts(lowdim_policy({"horizon": 4}, pred_action_steps_only=True))
    with pytest.raises(ValueError, match="horizon=8.*set model.horizon=4"):
        acts(lowdim_policy({}, pred_action_steps_only=True))


@pytest.mark.parametrize(
    ("model", "policy", "message"),
    [
        ({"cond_dim": 4}, {}, "cond_dim=4 does not fit the policy, needs 5"),
        ({}, {"obs_as_cond": False}, "cond_dim=5 does not fit the policy, needs 0"),
        ({"cond_dim": 0}, {"obs_as_cond": False}, "input_dim=2 does not fit the policy, needs 7"),
        ({"time_as_cond": False}, {}, "cond_dim=5 needs time_as_cond=True"),
        ({"n_layers": 3}, {}, "n_layers"),
    ],
)
def test_what_does_not_fit_is_refused(model: dict[str, Any], policy: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lowdim_policy(model, **policy)

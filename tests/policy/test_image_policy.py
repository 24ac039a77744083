"""A diffusion policy that sees images: what differs from vectors."""

from functools import partial
from typing import Any

import pytest
import torch

from diffusion_policy.model.common.normalizer import FieldNormalizer, LinearNormalizer
from diffusion_policy.model.vision.conv_net import ConvNet
from diffusion_policy.model.vision.image_encoder import ImageEncoder
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.model.vision.spatial_softmax import SpatialSoftmax
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from tests.policy.tiny_policy import DA, TO, B, T, tiny_policy

SHAPE_META: dict[str, Any] = {
    "obs": {"camera": {"shape": [3, 20, 24], "type": "rgb"}, "pose": {"shape": [3]}},
    "action": {"shape": [DA]},
}
ENCODER = partial(
    ImageEncoder, partial(ConvNet, (8, 8), (2, 2), (3, 3)), partial(SpatialSoftmax, n_keypoints=4), 6
)


def image_policy(conditioning: str = "global", frozen: bool = False, **kwargs: Any) -> DiffusionPolicy:
    torch.manual_seed(0)
    encoder = MultiImageObsEncoder(SHAPE_META, ENCODER, crop_shape=0.9, frozen=frozen)
    policy = tiny_policy(conditioning, shape_meta=SHAPE_META, obs_encoder=encoder, **kwargs)
    normalizer = LinearNormalizer().fit({"pose": 100 * torch.rand(9, 3), "action": 100 * torch.rand(9, DA)})
    normalizer["camera"] = FieldNormalizer.image_range()
    policy.normalizer = normalizer
    return policy.train()


def batch_for(policy: DiffusionPolicy) -> dict[str, Any]:
    steps = policy.n_train_obs_steps
    obs = {"camera": torch.rand(B, steps, 3, 20, 24), "pose": 100 * torch.rand(B, steps, 3)}
    return {"obs": obs, "action": 100 * torch.rand(B, T, DA)}


@pytest.mark.parametrize("conditioning", ["global", "local", "inpaint"])
def test_every_conditioning_trains_the_encoder(conditioning):
    policy = image_policy(conditioning)
    loss, _ = policy.compute_loss(batch_for(policy))
    loss.backward()
    for name, parameter in policy.obs_encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("conditioning", ["global", "inpaint"])
def test_only_the_first_steps_are_looked_at(conditioning):
    policy = image_policy(conditioning).eval()
    obs = batch_for(policy)["obs"]
    longer = {
        key: torch.cat([values[:, :TO], torch.rand_like(values[:, :2])], dim=1) for key, values in obs.items()
    }
    noise = torch.randn(B, T, DA + (9 if conditioning == "inpaint" else 0))
    first = policy.predict_action({k: v[:, :TO] for k, v in obs.items()}, noise=noise)
    assert torch.equal(first["action"], policy.predict_action(longer, noise=noise)["action"])
    assert first["action"].shape == (B, policy.n_action_steps, DA)


def test_inpainting_predicts_what_is_no_image():
    policy = image_policy("inpaint").eval()
    result = policy.predict_action(batch_for(policy)["obs"])
    assert list(result["obs_pred"]) == ["pose"]
    assert result["obs_pred"]["pose"].shape == (B, T, 3)


def test_one_learning_rate_or_two():
    (group,) = image_policy().param_groups()
    assert "lr" not in group
    policy = image_policy(obs_encoder_lr=1e-5)
    encoder, denoiser = policy.param_groups()
    assert encoder["lr"] == 1e-5
    assert "lr" not in denoiser
    assert [*encoder["params"], *denoiser["params"]] == group_of(policy)


def group_of(policy: DiffusionPolicy) -> list[torch.nn.Parameter]:
    return list(policy.parameters())


def test_a_frozen_encoder_has_no_parameters_to_learn():
    policy = image_policy(frozen=True)
    (group,) = policy.param_groups()
    assert {id(p) for p in group["params"]} == {id(p) for p in policy.model.parameters()}
    loss, _ = policy.compute_loss(batch_for(policy))
    loss.backward()
    assert all(parameter.grad is None for parameter in policy.obs_encoder.parameters())

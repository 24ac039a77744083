"""A diffusion policy that sees images: what differs from vectors."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from diffusion_policy.model.common.normalizer import FieldNormalizer, LinearNormalizer
from diffusion_policy.model.vision.conv_net import ConvNet
from diffusion_policy.model.vision.image_encoder import ImageEncoder
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.model.vision.resnet import ResNet
from diffusion_policy.model.vision.spatial_softmax import SpatialSoftmax
from diffusion_policy.policy import nearest_feature_policy
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from diffusion_policy.policy.nearest_feature_policy import NearestFeaturePolicy
from tests.policy.tiny_policy import DA, TO, TRANSFORMER, B, T, generators, tiny_policy

SHAPE_META: dict[str, Any] = {
    "obs": {"camera": {"shape": [3, 20, 24], "type": "rgb"}, "pose": {"shape": [3]}},
    "action": {"shape": [DA]},
}
ENCODER = partial(
    ImageEncoder, partial(ConvNet, (8, 8), (2, 2), (3, 3)), partial(SpatialSoftmax, n_keypoints=4), 6
)


def image_policy(
    conditioning: str = "global",
    frozen: bool = False,
    encoder: MultiImageObsEncoder | None = None,
    **kwargs: Any,
) -> DiffusionPolicy:
    torch.manual_seed(0)
    encoder = encoder or MultiImageObsEncoder(SHAPE_META, ENCODER, crop_shape=0.9, frozen=frozen)
    policy = tiny_policy(conditioning, shape_meta=SHAPE_META, obs_encoder=encoder, **kwargs)
    normalizer = LinearNormalizer().fit({"pose": 100 * torch.rand(9, 3), "action": 100 * torch.rand(9, DA)})
    normalizer["camera"] = FieldNormalizer.image_range()
    policy.normalizer = normalizer
    return policy.train()


def batch_for(policy: DiffusionPolicy) -> dict[str, Any]:
    steps = policy.n_train_obs_steps
    obs = {"camera": torch.rand(B, steps, 3, 20, 24), "pose": 100 * torch.rand(B, steps, 3)}
    return {"obs": obs, "action": 100 * torch.rand(B, T, DA)}


@pytest.mark.parametrize(
    ("conditioning", "kwargs"),
    [("global", {}), ("tokens", {}), ("local", {}), ("inpaint", {}), ("inpaint", {"model": TRANSFORMER})],
)
def test_every_conditioning_trains_the_encoder(conditioning, kwargs):
    policy = image_policy(conditioning, **kwargs)
    loss, _ = policy.compute_loss(batch_for(policy))
    loss.backward()
    for name, parameter in policy.obs_encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("conditioning", ["global", "tokens", "inpaint"])
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
    denoiser, encoder = policy.param_groups()
    assert encoder["lr"] == 1e-5
    assert "lr" not in denoiser
    grouped = {id(parameter) for group in (denoiser, encoder) for parameter in group["params"]}
    assert grouped == {id(parameter) for parameter in policy.parameters()}


def test_a_transformer_has_its_own_groups_and_the_encoder_another():
    policy = image_policy("tokens", obs_encoder_lr=1e-5, obs_encoder_weight_decay=1e-6)
    decayed, others, encoder = policy.param_groups()
    assert (len(decayed), others["weight_decay"]) == (1, 0.0)
    assert (encoder["lr"], encoder["weight_decay"]) == (1e-5, 1e-6)
    assert {id(p) for p in encoder["params"]} == {id(p) for p in policy.obs_encoder.parameters()}
    grouped = [id(p) for group in (decayed, others, encoder) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in policy.parameters())
    *_, encoder = image_policy("tokens").param_groups()
    assert list(encoder) == ["params"]
    assert len(image_policy("tokens", frozen=True).param_groups()) == 2


def test_bytes_are_colours_whatever_their_order():
    policy = image_policy().eval()
    obs = batch_for(policy)["obs"]
    noise = torch.randn(B, T, DA)
    as_bytes = (obs["camera"] * 255).round().to(torch.uint8)
    expected = policy.predict_action({**obs, "camera": as_bytes.float() / 255}, noise=noise)["action"]
    for images in (as_bytes, as_bytes.movedim(2, -1)):
        assert torch.equal(policy.predict_action({**obs, "camera": images}, noise=noise)["action"], expected)


def test_floats_of_bytes_are_refused():
    policy = image_policy().eval()
    obs = batch_for(policy)["obs"]
    with pytest.raises(ValueError, match=r"obs\['camera'\] must have colours in \[0, 1\], got up to 2"):
        policy.predict_action({**obs, "camera": 255 * obs["camera"]})


def test_random_crops_of_an_episode_do_not_depend_on_its_neighbours():
    encoder = MultiImageObsEncoder(SHAPE_META, ENCODER, crop_shape=0.5**0.5 + 0.05, random_crop="always")
    policy = image_policy(encoder=encoder).eval()
    obs = batch_for(policy)["obs"]
    together = policy.predict_action(obs, generator=generators(*range(B)))["action"]
    alone = policy.predict_action({k: v[2:3] for k, v in obs.items()}, generator=generators(2))["action"]
    torch.testing.assert_close(together[2:3], alone, rtol=1e-4, atol=1e-4)


class Wrapped(torch.nn.Module):
    """A user's encoder that holds a ResNet with a file of weights."""

    def __init__(self, weights: Any) -> None:
        super().__init__()
        self.inner = ResNet(18, norm="batch", weights=weights)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images).mean(dim=(2, 3))


def test_fitting_reads_weights_wherever_the_network_is(tmp_path):
    stored = ResNet(18, norm="batch").state_dict()
    torch.save(stored, tmp_path / "weights.pth")
    encoder = MultiImageObsEncoder(SHAPE_META, partial(Wrapped, tmp_path / "weights.pth"))
    policy = image_policy(encoder=encoder)
    policy.fit(Frames())
    assert torch.equal(encoder.image_encoder("camera").inner.conv1.weight, stored["conv1.weight"])


class Frames:
    """Two episodes of noise."""

    n_episodes = 2

    def episode(self, index: int) -> dict[str, Any]:
        random = np.random.default_rng(index)
        obs = {"camera": random.random((9, 3, 20, 24), np.float32), "pose": random.random((9, 3), np.float32)}
        return {"obs": obs, "action": np.stack([np.full(9, float(index)), np.arange(9.0)], axis=1)}

    def train_episodes(self) -> Iterator[dict[str, Any]]:
        return (self.episode(index) for index in range(2))

    def get_normalizer(self) -> LinearNormalizer:
        normalizer = LinearNormalizer().fit({"pose": np.eye(3), "action": np.array([[0.0, 0.0], [1.0, 8.0]])})
        normalizer["camera"] = FieldNormalizer.image_range()
        return normalizer


def test_the_nearest_features_of_a_recorded_step_are_its_own(monkeypatch):
    monkeypatch.setattr(nearest_feature_policy, "STEPS_ENCODED_AT_ONCE", 4)
    control = NearestFeaturePolicy(image_policy())
    control.fit(Frames())
    for index in range(2):
        episode = Frames().episode(index)
        steps = np.array([[2, 3], [5, 6]])  # (B, To); the present is the second
        obs = {key: torch.from_numpy(values[steps]) for key, values in episode["obs"].items()}
        action = control.predict_action(obs)["action"]
        assert action[:, 0].tolist() == [[index, 3.0], [index, 6.0]]


def test_the_nearest_features_are_a_matter_of_images():
    with pytest.raises(ValueError, match="the policy sees no images"):
        NearestFeaturePolicy(tiny_policy())


def test_a_frozen_encoder_has_no_parameters_to_learn():
    policy = image_policy(frozen=True)
    (group,) = policy.param_groups()
    assert {id(p) for p in group["params"]} == {id(p) for p in policy.model.parameters()}
    loss, _ = policy.compute_loss(batch_for(policy))
    loss.backward()
    assert all(parameter.grad is None for parameter in policy.obs_encoder.parameters())

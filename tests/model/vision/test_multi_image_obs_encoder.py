"""Tests for multi_image_obs_encoder.py, image_encoder.py and conv_net.py."""

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from diffusion_policy.model.vision.conv_net import ConvNet
from diffusion_policy.model.vision.image_encoder import ImageEncoder
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.model.vision.spatial_softmax import SpatialSoftmax

SHAPE_META: dict[str, Any] = {
    "obs": {
        "pose": {"shape": [3]},
        "wrist": {"shape": [3, 16, 16], "type": "rgb"},
        "front": {"shape": [3, 24, 32], "type": "rgb"},
        "grip": {"shape": [2, 2], "type": "low_dim"},
    },
    "action": {"shape": [2]},
}
TINY = partial(ConvNet, (8,), (4,), (3,))
ENCODER = partial(ImageEncoder, TINY, partial(SpatialSoftmax, n_keypoints=4), 5)


def observations(n_rows: int = 2, n_steps: int = 3) -> dict[str, Tensor]:
    return {key: torch.rand(n_rows, n_steps, *meta["shape"]) for key, meta in SHAPE_META["obs"].items()}


class MeanColour(nn.Module):
    """An encoder of a user's own, with nothing of ours."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def test_features_in_the_order_of_shape_meta():
    encoder = MultiImageObsEncoder(SHAPE_META, MeanColour())
    obs = observations()
    features = encoder(obs)
    assert features.shape == (2, 3, encoder.feature_dim)
    pose, wrist, front, grip = features.split([3, 3, 3, 4], dim=-1)
    torch.testing.assert_close(pose, obs["pose"])
    torch.testing.assert_close(wrist, obs["wrist"].mean(dim=(-2, -1)))
    torch.testing.assert_close(front, obs["front"].mean(dim=(-2, -1)))
    torch.testing.assert_close(grip, obs["grip"].flatten(2))


def test_every_camera_has_weights_of_its_own():
    encoder = MultiImageObsEncoder(SHAPE_META, ENCODER)
    wrist, front = (encoder.image_encoder(key) for key in ("wrist", "front"))
    assert not torch.equal(wrist.head[0].weight, front.head[0].weight)  # type: ignore[index, union-attr]
    copies = MultiImageObsEncoder(SHAPE_META, ENCODER())
    wrist, front = (copies.image_encoder(key) for key in ("wrist", "front"))
    assert wrist is not front


def test_one_encoder_for_all_cameras():
    shapes = {"resize_shape": {"wrist": None, "front": [16, 21]}, "crop_shape": [14, 16]}
    encoder = MultiImageObsEncoder(SHAPE_META, ENCODER, share_image_encoder=True, **shapes).eval()
    alone = MultiImageObsEncoder(SHAPE_META, ENCODER, **shapes)
    n_weights = [sum(p.numel() for p in e.parameters()) for e in (encoder, alone)]
    assert n_weights[1] == 2 * n_weights[0]
    obs = observations()
    features = encoder(obs)
    wrist = encoder.image_encoder("wrist")(obs["wrist"].flatten(0, 1)[:, :, 1:15])
    torch.testing.assert_close(features[..., 3:8].flatten(0, 1), wrist)


def test_an_encoder_per_camera():
    encoder = MultiImageObsEncoder(SHAPE_META, {"wrist": MeanColour(), "front": ENCODER})
    assert encoder.feature_dims == {"pose": 3, "wrist": 3, "front": 5, "grip": 4}


def test_crops_are_random_in_training_and_in_the_middle_in_evaluation():
    encoder = MultiImageObsEncoder(SHAPE_META, MeanColour(), crop_shape={"wrist": 0.75, "front": None})
    obs = observations()
    assert not torch.equal(encoder(obs)[..., 3:6], encoder(obs)[..., 3:6])
    assert torch.equal(encoder(obs)[..., 6:9], encoder(obs)[..., 6:9])
    encoder.eval()
    middle = obs["wrist"][..., 2:14, 2:14].mean(dim=(-2, -1))
    torch.testing.assert_close(encoder(obs)[..., 3:6], middle)


def test_a_frozen_encoder_stays_as_it_is():
    encoder = MultiImageObsEncoder(SHAPE_META, ENCODER, crop_shape=0.8, frozen=True)
    assert not encoder.training
    nn.Sequential(encoder).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    obs = observations()
    assert torch.equal(encoder(obs), encoder(obs))


def test_average_pooling():
    encoder = ImageEncoder(TINY)
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(encoder(images), encoder.backbone(images).mean(dim=(2, 3)))


def test_conv_net_sizes():
    assert ConvNet()(torch.zeros(1, 3, 84, 84)).shape == (1, 128, 11, 11)
    with pytest.raises(ValueError, match="equal lengths, got 2, 1 and 2"):
        ConvNet((8, 8), (1,), (3, 3))
    with pytest.raises(ValueError, match="multiples of 8"):
        ConvNet((12,), (1,), (3,))


SHAPES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=4)


@given(SHAPES)
def test_without_cameras_it_concatenates_and_decoding_undoes_it(shapes):
    encoder = MultiImageObsEncoder({"obs": {f"key{i}": {"shape": shape} for i, shape in enumerate(shapes)}})
    obs = {key: torch.randn(2, 3, *shape) for key, shape in encoder.shapes.items()}
    features = encoder(obs)
    assert features.shape == (2, 3, encoder.feature_dim)
    decoded = encoder.decode(features)
    assert list(decoded) == list(obs)
    for key, value in obs.items():
        assert torch.equal(decoded[key], value)
    assert not encoder.state_dict()


def test_decoding_gives_what_is_no_image():
    encoder = MultiImageObsEncoder(SHAPE_META, MeanColour())
    obs = observations()
    decoded = encoder.decode(encoder(obs))
    assert list(decoded) == ["pose", "grip"]
    assert torch.equal(decoded["grip"], obs["grip"])


class Maps(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"\['wrist', 'front'\] are images; give it an image_encoder"),
        ({"image_encoder": Maps()}, r"Maps must map images .* got \(1, 3, 16, 16\)"),
        ({"image_encoder": {"wrist": MeanColour()}}, r"cameras \['wrist', 'front'\], got \['wrist'\]"),
        ({"image_encoder": MeanColour(), "share_image_encoder": True}, "different shapes"),
        (
            {"image_encoder": {"wrist": Maps(), "front": Maps()}, "share_image_encoder": True},
            "needs one image_encoder",
        ),
        (
            {"image_encoder": MeanColour(), "crop_shape": {"left": [8, 8]}},
            r"crop_shape must .* got \['left'\]",
        ),
        ({"image_encoder": MeanColour(), "frozen": True, "random_crop": "always"}, "choose 'never'"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        MultiImageObsEncoder(SHAPE_META, **arguments)

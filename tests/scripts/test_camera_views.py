"""What is drawn is what the network gets."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffusion_policy.model.vision.conv_net import ConvNet
from diffusion_policy.model.vision.image_encoder import ImageEncoder
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.model.vision.resnet import ResNet
from diffusion_policy.model.vision.spatial_softmax import SpatialSoftmax
from diffusion_policy.scripts.demonstrations.camera_sheet import draw_sheet
from diffusion_policy.scripts.demonstrations.camera_views import CameraViews, camera_views

HEIGHT, WIDTH = 20, 32


class FeatureMap(nn.Module):
    """The image is the feature map."""

    out_channels = 3

    def forward(self, images: Tensor) -> Tensor:
        return images


def encoder_of(pool: Any = None, **arguments: Any) -> MultiImageObsEncoder:
    meta = {"obs": {"camera": {"shape": [3, HEIGHT, WIDTH], "type": "rgb"}}, "action": {"shape": [2]}}
    return MultiImageObsEncoder(meta, ImageEncoder(FeatureMap, pool), **arguments)


def frames(n: int = 2) -> Tensor:
    return torch.rand(n, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def views_of(encoder: MultiImageObsEncoder, images: Tensor, keypoints: bool = False) -> CameraViews:
    (views,) = camera_views(encoder, {"camera": images}, n_augmented=3, with_keypoints=keypoints)
    return views


def test_whole_frames() -> None:
    views = views_of(encoder_of(), frames())
    assert torch.equal(views.evaluated, frames())
    assert torch.equal(views.augmented, frames().expand(3, -1, -1, -1, -1))
    assert views.boxes == [(0, 0, WIDTH, HEIGHT)] * 2
    assert (
        str(views) == "camera: frames of 20 x 32, the network sees 20 x 32: the crop keeps 100% of the frame"
    )


def test_crop() -> None:
    views = views_of(encoder_of(crop_shape=(16, 24)), frames())
    assert views.boxes == [(4, 2, 28, 18)] * 2
    assert torch.equal(views.evaluated, frames()[..., 2:18, 4:28])
    places = frames().unfold(2, 16, 1).unfold(3, 24, 1)  # (N, C, 5, 9, 16, 24)
    for crops in views.augmented:
        for crop, of_frame in zip(crops, places.movedim(1, 3), strict=True):
            assert (of_frame == crop).flatten(2).all(2).any(), "some place of its own frame"
    assert len({crop.sum().item() for crop in views.augmented.flatten(0, 1)}) > 1
    assert "keeps 60% of the frame" in str(views)


def test_resize_then_crop() -> None:
    encoder = encoder_of(resize_shape=(10, 16), crop_shape=(8, 12)).eval()
    views = views_of(encoder, frames())
    seen = encoder.transform("camera")(2 * frames() - 1) / 2 + 0.5
    torch.testing.assert_close(views.evaluated, seen)
    np.testing.assert_allclose(views.boxes, [(4, 2, 28, 18)] * 2, atol=1e-4)
    assert "resized to 10 x 16, the network sees 8 x 12: the crop keeps 60% of the frame" in str(views)


@pytest.mark.parametrize(("row", "column"), [(5, 8), (9, 20), (14, 23)])
def test_keypoints_are_where_the_features_are(row: int, column: int) -> None:
    encoder = encoder_of(lambda channels: SpatialSoftmax(channels, n_keypoints=4), crop_shape=(16, 24))
    with torch.no_grad():
        for parameter in encoder.image_encoder("camera").pool.parameters():  # type: ignore[union-attr]
            parameter.fill_(50.0)
    images = torch.zeros(2, 3, HEIGHT, WIDTH)
    images[:, :, row, column] = 1
    keypoints = views_of(encoder, images, keypoints=True).keypoints
    assert keypoints is not None
    expected = torch.tensor([(column - 4 + 0.5) / 24, (row - 2 + 0.5) / 16])  # of the crop
    torch.testing.assert_close(keypoints, expected.expand(2, 4, 2))


def test_a_crop_that_is_random_when_acting_too() -> None:
    views = views_of(encoder_of(crop_shape=(16, 24), random_crop="always"), frames())
    for frame, seen, (left, top, right, bottom) in zip(frames(), views.evaluated, views.boxes, strict=True):
        assert torch.equal(seen, frame[:, round(top) : round(bottom), round(left) : round(right)])


class Peak(nn.Module):
    """One map whose softmax is at one place."""

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.row, self.column = row, column

    def forward(self, features: Tensor) -> Tensor:
        maps = torch.full_like(features[:, :1], -100.0)
        maps[..., self.row, self.column] = 100.0
        return maps


@pytest.mark.parametrize(("backbone", "side"), [(ConvNet, 96), (partial(ResNet, 18), 384)])
def test_a_place_of_a_feature_map_is_drawn_where_it_looks(backbone: Any, side: int) -> None:
    """In the middle of the pixels that change it; in images so large that it does not see their edges."""
    meta = {"obs": {"camera": {"shape": [3, side, side], "type": "rgb"}}, "action": {"shape": [2]}}
    torch.manual_seed(0)
    encoder = MultiImageObsEncoder(
        meta, ImageEncoder(backbone, partial(SpatialSoftmax, n_keypoints=1))
    ).eval()
    network = encoder.image_encoder("camera")
    images = torch.rand(2, 3, side, side, requires_grad=True)
    features = network.backbone(2 * images - 1)  # type: ignore[operator, union-attr]
    row, column = features.shape[-2] // 2, features.shape[-1] // 2
    (gradient,) = torch.autograd.grad(features[:, :, row, column].square().sum(), images)
    weight = gradient.abs().sum(dim=(0, 1))
    pixels = torch.arange(side) + 0.5
    looks_at = torch.stack([(weight.sum(0) * pixels).sum(), (weight.sum(1) * pixels).sum()]) / weight.sum()

    network.pool.conv = Peak(row, column)  # type: ignore[assignment, union-attr]
    keypoints = views_with(encoder, images.detach()).keypoints
    assert keypoints is not None
    torch.testing.assert_close(keypoints[0, 0] * side, looks_at, atol=0.03 * side, rtol=0)


def views_with(encoder: MultiImageObsEncoder, images: Tensor) -> CameraViews:
    return camera_views(encoder, {"camera": images}, n_augmented=1, with_keypoints=True)[0]


def test_no_keypoints_without_spatial_softmax() -> None:
    assert views_of(encoder_of(), frames(), keypoints=True).keypoints is None


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed(training: bool) -> None:
    encoder = encoder_of(crop_shape=0.9).train(training)
    random_state = torch.get_rng_state()
    views_of(encoder, frames())
    assert encoder.training is training
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_sheet_has_a_row_per_frame() -> None:
    views = views_of(encoder_of(lambda channels: SpatialSoftmax(channels)), frames(), keypoints=True)
    figure = draw_sheet([views, views], ["first", "second"])
    assert len(figure.subfigs) == 2
    titles = [axis.get_title() for axis in figure.subfigs[0].axes]
    assert titles == [
        *("first", "acting, and keypoints", "training", "training", "training"),
        *("second", "acting, and keypoints", "training", "training", "training"),
    ]

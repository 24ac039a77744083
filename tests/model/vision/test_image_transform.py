"""Tests for image_transform.py."""

import pytest
import torch

from diffusion_policy.model.vision.image_transform import ImageTransform


def test_nothing_asked_changes_nothing():
    transform = ImageTransform((3, 8, 8))
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(transform(images), images)
    assert transform.out_shape == (3, 8, 8)
    assert transform.crop_share == 1


def test_resize_comes_before_crop():
    transform = ImageTransform((3, 48, 64), resize_shape=[24, 32], crop_shape=[21, 28]).eval()
    assert transform.out_shape == (3, 21, 28)
    assert transform(torch.rand(2, 3, 48, 64)).shape == (2, 3, 21, 28)
    assert transform.crop_share == pytest.approx(21 * 28 / (24 * 32))


def test_a_share_is_of_each_side():
    transform = ImageTransform((1, 96, 48), crop_shape=0.875)
    assert transform.out_shape == (1, 84, 42)
    assert transform(torch.rand(2, 1, 96, 48)).shape == (2, 1, 84, 42)


def test_a_constant_image_stays_constant_when_resized():
    transform = ImageTransform((3, 40, 40), resize_shape=[10, 10])
    torch.testing.assert_close(transform(torch.full((1, 3, 40, 40), 0.3)), torch.full((1, 3, 10, 10), 0.3))


def test_imagenet_statistics_are_of_colours_in_0_to_1():
    colours = torch.tensor([0.485, 0.456, 0.406])[None, :, None, None].expand(1, 3, 4, 4)
    mean = ImageTransform((3, 4, 4), pixel_norm="imagenet")(2 * colours - 1)
    torch.testing.assert_close(mean, torch.zeros(1, 3, 4, 4))
    white = ImageTransform((3, 4, 4), pixel_norm="imagenet")(torch.ones(1, 3, 4, 4))
    torch.testing.assert_close(
        white[0, :, 0, 0], torch.tensor([0.515, 0.544, 0.594]) / torch.tensor([0.229, 0.224, 0.225])
    )


def test_the_originals_statistics_take_minus_1_for_0():
    black = ImageTransform((3, 4, 4), pixel_norm="imagenet_unscaled")(-torch.ones(1, 3, 4, 4))
    torch.testing.assert_close(black[0, 0, 0, 0], torch.tensor((-1 - 0.485) / 0.229))


def test_a_crop_of_less_than_half_warns():
    with pytest.warns(UserWarning, match=r"keeps 49% of an image of \(10, 10\)"):
        ImageTransform((3, 10, 10), crop_shape=[7, 7])


def test_a_squashing_resize_warns():
    with pytest.warns(UserWarning, match="changes the proportions .* factor of 1.33"):
        ImageTransform((3, 240, 320), resize_shape=[224, 224])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop_shape": [9, 4]}, r"crop_shape \(9, 4\) is larger than the \(resized\) image \(8, 8\)"),
        ({"resize_shape": [4, 4], "crop_shape": [5, 5]}, r"larger than the \(resized\) image \(4, 4\)"),
        ({"crop_shape": [4]}, "two positive integers"),
        ({"crop_shape": 1.5}, r"share in \(0, 1\]"),
        ({"resize_shape": [0, 4]}, "resize_shape must be two positive"),
        ({"pixel_norm": "caffe"}, "pixel_norm must be"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        ImageTransform((3, 8, 8), **arguments)


def test_imagenet_statistics_need_three_channels():
    with pytest.raises(ValueError, match="3 channels, got 1"):
        ImageTransform((1, 8, 8), pixel_norm="imagenet")

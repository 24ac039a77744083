"""What images may be, and what is said of others."""

import numpy as np
import pytest

from diffusion_policy.dataset.image_values import ImageKey, images_in_memory

ENDS = np.array([3, 10])
IMAGES = np.random.default_rng(0).integers(2, 255, (10, 6, 8, 3), dtype=np.uint8)


def camera(*shape: int) -> ImageKey:
    return ImageKey("front", shape or (3, 6, 8), "a.zarr", ENDS)


def test_uint8_is_not_copied():
    assert np.shares_memory(images_in_memory(camera(), IMAGES), IMAGES)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_whole_numbers_become_uint8(dtype, channels):
    images = images_in_memory(camera(channels, 6, 8), IMAGES[..., :channels].astype(dtype))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES[..., :channels])


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, np.float32, r"got float32 with NaN or infinity in episode 1, step 2; remove or repair"),
        (-np.inf, np.float64, r"got float64 with NaN or infinity in episode 1, step 2"),
        (-1, np.int32, r"got int32 of -1 to \d+ in episode 1, step 2; convert"),
        (256, np.float32, r"got float32 of \d+ to 256 in episode 1, step 2; convert"),
        (7.5, np.float32, r"that are no whole numbers in episode 1, step 2; store images.round\(\)"),
    ],
)
def test_other_values_name_episode_and_step(value, dtype, message):
    images = IMAGES.astype(dtype)
    images[[5, 9], 2, 3, 1] = value
    with pytest.raises(ValueError, match=rf"a\.zarr: images of key 'front' must be uint8 .*{message}"):
        images_in_memory(camera(), images)


def test_images_of_0_to_1():
    with pytest.raises(
        ValueError, match=r"float64 of .* to .* in episode 0, step 0; store \(images \* 255\)\.round"
    ):
        images_in_memory(camera(), IMAGES / 255)


def test_channels_that_come_first():
    with pytest.raises(
        ValueError, match=r"as \(C, H, W\) = \(3, 6, 8\) in all steps, from episode 0, step 0.*np\.moveaxis"
    ):
        images_in_memory(camera(), np.moveaxis(IMAGES, -1, 1))
    with pytest.raises(ValueError, match=r"\(3, 12, 8\).* must be \(H, W, C\) = \(12, 8, 3\)"):
        images_in_memory(camera(), np.zeros((10, 3, 12, 8), np.uint8))


def test_shape_meta_with_channels_last():
    with pytest.raises(ValueError, match=r"write shape_meta as \[C, H, W\] = \[3, 6, 8\]"):
        images_in_memory(camera(6, 8, 3), IMAGES)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 4), (8, 6, 3), (2, 6, 8, 3)])
def test_other_sizes(shape):
    with pytest.raises(ValueError, match=r"per step, but shape_meta says \(3, 6, 8\), in all steps"):
        images_in_memory(camera(), np.zeros((10, *shape), np.uint8))

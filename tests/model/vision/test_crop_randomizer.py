"""Tests for crop_randomizer.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.model.vision.crop_randomizer import CropRandomizer


def places(height: int, width: int) -> torch.Tensor:
    """An image (2, H, W) whose channels are the row and the column of each pixel."""
    rows, columns = torch.arange(float(height)), torch.arange(float(width))
    return torch.stack(torch.broadcast_tensors(rows[:, None], columns[None]))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.integers(0, 5), st.integers(0, 99))
def test_a_crop_is_a_part_of_its_image(height, width, rows, columns, seed):
    torch.manual_seed(seed)
    images = places(height + rows, width + columns).expand(3, -1, -1, -1)
    cropped = CropRandomizer((height, width))(images)
    assert cropped.shape == (3, 2, height, width)
    for crop in cropped:
        top, left = crop[:, 0, 0].long().tolist()
        assert 0 <= top <= rows
        assert 0 <= left <= columns
        assert torch.equal(crop, images[0, :, top : top + height, left : left + width])


def test_every_place_is_drawn_and_the_original_left_out_the_last():
    torch.manual_seed(0)
    images = places(6, 6).expand(2000, -1, -1, -1)
    for last_place, tops in ((True, {0, 1, 2}), (False, {0, 1})):
        cropped = CropRandomizer((4, 4), last_place=last_place)(images)
        assert set(cropped[:, 0, 0, 0].tolist()) == tops
        assert set(cropped[:, 1, 0, 0].tolist()) == tops


def test_images_of_a_batch_have_places_of_their_own():
    torch.manual_seed(0)
    cropped = CropRandomizer((2, 2))(places(40, 40).expand(4, 3, -1, -1, -1))
    assert cropped.shape == (4, 3, 2, 2, 2)
    assert len({tuple(place) for place in cropped[..., 0, 0].flatten(0, 1).tolist()}) > 6


@pytest.mark.parametrize(("height", "top"), [(4, 1), (3, 2), (6, 0), (1, 2)])
def test_the_middle_in_evaluation(height, top):
    """Half places round to even, as in torchvision's centre crop."""
    crop = CropRandomizer((height, 6)).eval()
    assert crop(places(6, 6))[0, 0, 0] == top


@pytest.mark.parametrize(
    ("random", "training", "drawn"),
    [("always", False, True), ("never", True, False), ("training", True, True)],
)
def test_when_the_place_is_random(random, training, drawn):
    torch.manual_seed(0)
    crop = CropRandomizer((2, 2), random=random).train(training)
    cropped = crop(places(40, 40).expand(20, -1, -1, -1))
    assert (len(set(cropped[:, 0, 0, 0].tolist())) > 1) is drawn


def test_both_ways_of_cropping_agree():
    crop = CropRandomizer((3, 2))
    images = torch.randn(5, 3, 7, 8)
    top, left = torch.tensor([0, 1, 2, 3, 4]), torch.tensor([6, 5, 0, 1, 2])
    assert torch.equal(crop._crop(images, top, left), crop._gather(images, top, left))


def test_places_are_drawn_as_by_the_original():
    """First the rows of all images, then the columns: floor(U * (H - h)), floor(U * (W - w))."""
    images = torch.rand(3, 2, 3, 9, 12)
    torch.manual_seed(5)
    cropped = CropRandomizer((4, 5), last_place=False)(images).flatten(0, 1)
    torch.manual_seed(5)
    tops, lefts = (torch.rand(6, 1) * 5).long(), (torch.rand(6, 1) * 7).long()
    for image, crop, top, left in zip(images.flatten(0, 1), cropped, tops, lefts, strict=True):
        assert torch.equal(crop, image[:, top : top + 4, left : left + 5])


def test_a_row_with_its_own_generator_has_its_own_places():
    crop = CropRandomizer((4, 4), random="always").eval()
    images = torch.rand(3, 2, 1, 30, 30)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    state = torch.get_rng_state()
    together = crop(images, generators)
    alone = crop(images[1:2], [torch.Generator().manual_seed(2)])
    assert torch.equal(together[1:2], alone)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"


def test_refusals():
    with pytest.raises(ValueError, match=r"crop_shape \(9, 2\) is larger than the images \(6, 6\)"):
        CropRandomizer((9, 2))(places(6, 6))
    with pytest.raises(ValueError, match="random must be"):
        CropRandomizer((2, 2), random="sometimes")  # type: ignore[arg-type]

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_policy.env.pusht.geometry import GOAL_POSE, coverage
from diffusion_policy.env.pusht.renderer import draw_action, render_scene

FAR = (450.0, 60.0)


def colored(image: np.ndarray, red: int, green: int, blue: int) -> np.ndarray:
    return (image == (red, green, blue)).all(axis=-1)


@pytest.mark.parametrize("size", [1, 84, 96, 97, 512])
def test_image_type(size):
    image = render_scene(FAR, (200, 200, 1), size=size)
    assert image.shape == (size, size, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable


def test_scenes_share_no_memory():
    first = render_scene(FAR, (200, 200, 1), size=512)
    expected = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(render_scene(FAR, (200, 200, 1), size=512), expected)


@settings(max_examples=30, deadline=None)
@given(st.floats(200, 300), st.floats(200, 300), st.floats(0, 2 * math.pi))
def test_visible_goal_is_what_the_block_leaves_uncovered(x, y, angle):
    image = render_scene(FAR, (x, y, angle), size=512)
    uncovered = 6300 * (1 - coverage((x, y, angle)))
    assert colored(image, 144, 238, 144).sum() <= uncovered + 200
    # the block's outline of radius 2 hides at most a strip along its perimeter of 480 px
    assert colored(image, 144, 238, 144).sum() >= uncovered - 3 * 480 - 100


def test_block_on_goal_hides_it():
    assert not colored(render_scene(FAR, GOAL_POSE, size=512), 144, 238, 144).any()


def test_agent_is_a_disc_around_its_position():
    rows, columns = colored(render_scene((100, 350), (400, 150, 0), size=512), 78, 126, 255).nonzero()
    assert columns.mean() == pytest.approx(99.5)
    assert rows.mean() == pytest.approx(349.5)
    assert np.ptp(rows) == np.ptp(columns) == 21


def test_contacts_are_red():
    contact = ((300.0, 300.0), (300.0, 304.0))
    image = render_scene(FAR, (150, 150, 0), [contact], size=512)
    rows, columns = colored(image, 231, 76, 60).nonzero()
    assert set(zip(columns.tolist(), rows.tolist(), strict=True)) == {(300, y) for y in range(300, 305)}


@settings(max_examples=50, deadline=None)
@given(st.floats(-1000, 1500), st.floats(600, 1500), st.floats(-10, 10))
def test_what_lies_outside_the_window_is_not_drawn(x, y, angle):
    below = (x, y + 150)
    image = render_scene(below, (x, y + 150, angle), [(below, (x + 3, y + 154))], size=512)
    np.testing.assert_array_equal(image, render_scene((256, 2000), (256, 2000, 0), size=512))


@pytest.mark.parametrize("size", [48, 96, 100, 256, 512])
def test_action_marker_is_where_the_action_is(size):
    image = np.zeros((size, size, 3), np.uint8)
    draw_action(image, (384, 128))
    rows, columns = colored(image, 255, 0, 0).nonzero()
    assert columns.mean() / size * 512 == pytest.approx(384, abs=512 / size)
    assert rows.mean() / size * 512 == pytest.approx(128, abs=512 / size)
    assert np.ptp(rows) / size == pytest.approx(8 / 96, abs=0.01 + 2 / size)


def test_marker_outside_the_window_is_cut():
    image = np.zeros((96, 96, 3), np.uint8)
    draw_action(image, (-300, 900))
    draw_action(image, (1e12, -1e300))
    assert not image.any()

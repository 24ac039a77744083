import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_policy.env.pusht.rasterizer import (
    channels,
    draw_antialiased_line,
    draw_line,
    fill_convex,
    fill_disc,
    pack,
)

INK = pack(255, 255, 255)
SIZE, MARGIN = 40, 60
coordinate = st.integers(-30, SIZE + 30)
pixel = st.tuples(coordinate, coordinate)


def blank(size: int = SIZE) -> np.ndarray:
    return np.zeros((size, size), np.uint32)


def picture(canvas: np.ndarray) -> str:
    """Rows of the canvas's inked bounding box."""
    rows, columns = canvas.nonzero()
    box = canvas[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return "/".join("".join("#" if value else "." for value in row) for row in box)


def shifted(points: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(x + MARGIN, y + MARGIN) for x, y in points]


def test_packed_colors_are_bytes_in_order():
    canvas = np.full((2, 3), pack(1, 2, 3))
    assert channels(canvas).shape == (2, 3, 4)
    np.testing.assert_array_equal(channels(canvas)[..., :3], np.broadcast_to([1, 2, 3], (2, 3, 3)))


def test_rectangle_covers_its_border():
    canvas = blank()
    fill_convex(canvas, [(3, 5), (9, 5), (9, 8), (3, 8)], INK)
    assert picture(canvas) == "/".join(["#######"] * 4)
    assert canvas[5, 3] == INK


def test_slanted_edges_are_truncated():
    canvas = blank()
    fill_convex(canvas, [(10, 0), (13, 2), (7, 2)], INK)
    # One row down the right edge is at 11.5 and the left at 8.5; offsets of 1.5 count as 1.
    assert picture(canvas) == "...#.../..###../#######"


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ((4, 0), "#####/#####/#####/#####"),
        ((0, 2), "####/####/####"),
        ((2, 2), "####../.####./..####"),
        ((4, 2), "##.../####./#####/#####/..###/....#"),  # 0, 0.5, 1, 1.5, 2: halves go back to the start
    ],
)
def test_line_is_four_pixels_wide(end, expected):
    canvas = blank()
    draw_line(canvas, (10, 10), (10 + end[0], 10 + end[1]), INK)
    assert picture(canvas) == expected


@pytest.mark.parametrize("radius", [2, 11, 15])
def test_disc_is_as_wide_as_high_and_symmetric(radius):
    canvas = blank()
    fill_disc(canvas, (20, 20), radius, INK)
    disc = canvas[20 - radius : 20 + radius, 20 - radius : 20 + radius]
    assert (canvas > 0).sum() == (disc > 0).sum() == pytest.approx(np.pi * radius**2, rel=0.05)
    for image in (disc.T, disc[::-1], disc[:, ::-1]):
        np.testing.assert_array_equal(image, disc)


def test_antialiased_line_shares_its_color():
    canvas = blank()
    draw_antialiased_line(canvas, (10, 10), (14, 11), INK)
    np.testing.assert_array_equal(
        channels(canvas)[10:12, 10:15, 0], [[255, 191, 127, 63, 0], [0, 63, 127, 191, 255]]
    )


@settings(deadline=None)
@given(pixel, pixel)
def test_antialiased_line_does_not_depend_on_direction(start, end):
    forth, back = blank(), blank()
    draw_antialiased_line(forth, start, end, INK)
    draw_antialiased_line(back, end, start, INK)
    np.testing.assert_array_equal(forth, back)


@settings(deadline=None)
@given(pixel, st.sampled_from([2, 11, 15]))
def test_disc_is_cut_at_the_border(center, radius):
    canvas, larger = blank(), blank(SIZE + 2 * MARGIN)
    fill_disc(canvas, center, radius, INK)
    fill_disc(larger, *shifted([center]), radius, INK)
    np.testing.assert_array_equal(canvas, larger[MARGIN:-MARGIN, MARGIN:-MARGIN])


@settings(deadline=None)
@given(pixel, pixel, st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_parallelogram_is_cut_at_the_border(start, end, offset):
    dx, dy = offset
    corners = [start, end, (end[0] + dx, end[1] + dy), (start[0] + dx, start[1] + dy)]
    canvas, larger = blank(), blank(SIZE + 2 * MARGIN)
    fill_convex(canvas, corners, INK)
    fill_convex(larger, shifted(corners), INK)
    np.testing.assert_array_equal(canvas, larger[MARGIN:-MARGIN, MARGIN:-MARGIN])


@settings(deadline=None)
@given(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), pixel)
def test_line_that_starts_inside_is_cut_at_the_border(start, end):
    canvas, larger = blank(), blank(SIZE + 2 * MARGIN)
    draw_line(canvas, start, end, INK)
    draw_line(larger, *shifted([start, end]), INK)
    np.testing.assert_array_equal(canvas, larger[MARGIN:-MARGIN, MARGIN:-MARGIN])


@settings(deadline=None)
@given(pixel, pixel)
def test_line_that_starts_outside_stays_close_to_itself(start, end):
    canvas, larger = blank(), blank(SIZE + 2 * MARGIN)
    draw_line(canvas, start, end, INK)
    for moved in [(-2, 0), (-1, 0), (0, 0), (1, 0), (2, 0), (0, -2), (0, -1), (0, 1), (0, 2)]:
        ends = [(x + moved[0], y + moved[1]) for x, y in shifted([start, end])]
        draw_line(larger, *ends, INK)
    assert not (canvas > larger[MARGIN:-MARGIN, MARGIN:-MARGIN]).any()

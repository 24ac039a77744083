import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_policy.env.pusht.rasterizer import (
    Runs,
    channels,
    convex_runs,
    disc_runs,
    draw_antialiased_line,
    line_runs,
    pack,
    paint,
    pixels_of,
)

INK = pack(255, 255, 255)
SIZE, MARGIN = 40, 60
coordinate = st.integers(-30, SIZE + 30)
pixel = st.tuples(coordinate, coordinate)


def blank(size: int = SIZE) -> np.ndarray:
    return np.zeros((size, size), np.uint32)


def draw(canvas: np.ndarray, *runs: Runs) -> None:
    paint(canvas, pixels_of(runs, np.array([INK]), len(canvas)))


def fill_convex(canvas: np.ndarray, corners: list[tuple[int, int]]) -> None:
    draw(canvas, convex_runs(np.array([corners]), np.array([0])))


def draw_line(canvas: np.ndarray, start: tuple[int, int], end: tuple[int, int]) -> None:
    draw(canvas, line_runs(np.array([start]), np.array([end]), np.array([0]), len(canvas)))


def fill_disc(canvas: np.ndarray, center: tuple[int, int], radius: int) -> None:
    draw(canvas, disc_runs(np.array([center]), radius, np.array([0])))


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
    fill_convex(canvas, [(3, 5), (9, 5), (9, 8), (3, 8)])
    assert picture(canvas) == "/".join(["#######"] * 4)
    assert canvas[5, 3] == INK


def test_slanted_edges_are_truncated():
    canvas = blank()
    fill_convex(canvas, [(10, 0), (13, 2), (7, 2)])
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
    draw_line(canvas, (10, 10), (10 + end[0], 10 + end[1]))
    assert picture(canvas) == expected


@pytest.mark.parametrize("radius", [2, 11, 15])
def test_disc_is_as_wide_as_high_and_symmetric(radius):
    canvas = blank()
    fill_disc(canvas, (20, 20), radius)
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
    fill_disc(canvas, center, radius)
    fill_disc(larger, *shifted([center]), radius)
    np.testing.assert_array_equal(canvas, larger[MARGIN:-MARGIN, MARGIN:-MARGIN])


@settings(deadline=None)
@given(pixel, pixel, st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_parallelogram_is_cut_at_the_border(start, end, offset):
    dx, dy = offset
    corners = [start, end, (end[0] + dx, end[1] + dy), (start[0] + dx, start[1] + dy)]
    canvas, larger = blank(), blank(SIZE + 2 * MARGIN)
    fill_convex(canvas, corners)
    fill_convex(larger, shifted(corners))
    np.testing.assert_array_equal(canvas, larger[MARGIN:-MARGIN, MARGIN:-MARGIN])


@settings(deadline=None)
@given(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), pixel)
def test_line_that_starts_inside_is_cut_at_the_border(start, end):
    canvas, larger = blank(), blank(SIZE + 2 * MARGIN)
    draw_line(canvas, start, end)
    draw_line(larger, *shifted([start, end]))
    np.testing.assert_array_equal(canvas, larger[MARGIN:-MARGIN, MARGIN:-MARGIN])


@settings(deadline=None)
@given(pixel, pixel)
def test_line_that_starts_outside_stays_close_to_itself(start, end):
    canvas, larger = blank(), blank(SIZE + 2 * MARGIN)
    draw_line(canvas, start, end)
    for moved in [(-2, 0), (-1, 0), (0, 0), (1, 0), (2, 0), (0, -2), (0, -1), (0, 1), (0, 2)]:
        ends = [(x + moved[0], y + moved[1]) for x, y in shifted([start, end])]
        draw_line(larger, *ends)
    assert not (canvas > larger[MARGIN:-MARGIN, MARGIN:-MARGIN]).any()


triangle = st.lists(pixel, min_size=3, max_size=3)


@settings(deadline=None)
@given(st.lists(triangle, min_size=2, max_size=4), st.permutations([0, 1, 2, 3]))
def test_many_at_once_is_one_after_another_in_the_order_of_layers(triangles, layers):
    """Polygons, lines and discs; each row has its own colour."""
    layers = np.array(layers[: len(triangles)])
    palette = np.array([pack(i + 1, 0, 0) for i in range(4)])
    corners = np.array(triangles)
    starts, ends = corners[:, 0], corners[:, 1]
    together, one_by_one = blank(), blank()
    runs = [
        convex_runs(corners, layers),
        line_runs(starts, ends, layers, SIZE),
        disc_runs(corners[:, 2], 2, layers),
    ]
    paint(together, pixels_of(runs, palette, SIZE))
    for i in np.argsort(layers):
        one, layer = slice(i, i + 1), layers[i : i + 1]
        draw_in_color = [
            convex_runs(corners[one], layer),
            line_runs(starts[one], ends[one], layer, SIZE),
            disc_runs(corners[one, 2], 2, layer),
        ]
        for run in draw_in_color:
            paint(one_by_one, pixels_of([run], palette, SIZE))
    np.testing.assert_array_equal(together, one_by_one)

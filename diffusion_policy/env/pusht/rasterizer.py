"""Drawing primitives that colour exactly the pixels the recorded Push-T images have.

The demonstrations were drawn by a pygame older than 2.6. Which pixels each primitive covered there was
measured, primitive by primitive, and is stated in each docstring; a rule that differs by half a pixel would
move the T's outline between training and evaluation images. A canvas holds one 32-bit word a pixel (see
`pack`), so that a row of pixels is one plain assignment. Points are whole pixels (x, y); what lies outside
the canvas is cut off.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pixel = tuple[int, int]
Color = np.uint32
Canvas = NDArray[np.uint32]  # (height, width)

# Half the width of each row of a disc, from its middle outwards, by radius.
DISC_HALF_WIDTHS = {
    2: (2, 1),
    11: (11, 11, 11, 10, 10, 9, 8, 8, 6, 5, 3),
    15: (15, 15, 15, 14, 14, 14, 13, 13, 12, 11, 10, 9, 8, 6, 3),
}


def pack(red: int, green: int, blue: int) -> Color:
    """One colour as a word whose bytes are red, green, blue and nothing, in memory order."""
    return np.array([red, green, blue, 0], np.uint8).view(np.uint32)[0]


def channels(canvas: Canvas) -> NDArray[np.uint8]:
    """The canvas as (height, width, 4) bytes, sharing its memory."""
    return canvas[..., None].view(np.uint8)


def fill_convex(canvas: Canvas, corners: Sequence[Pixel], color: Color) -> None:
    """Fill a convex polygon.

    In each row from the highest to the lowest corner, the pixels between the outermost edges, both included.
    An edge crosses a row at its upper end plus an offset that is truncated towards zero.
    """
    top, bottom = min(y for _, y in corners), max(y for _, y in corners)
    left = np.full(bottom - top + 1, np.iinfo(np.int64).max)
    right = np.full(bottom - top + 1, np.iinfo(np.int64).min)
    for start, end in zip(corners, (*corners[1:], corners[0]), strict=True):
        (x1, y1), (x2, y2) = (start, end) if start[1] < end[1] else (end, start)
        if y1 == y2:
            continue  # its corners also end other edges
        down = np.arange(y2 - y1 + (y2 == bottom))  # where one edge ends and the next begins, the next counts
        offset = down * abs(x2 - x1) // (y2 - y1)
        crossing = x1 + offset if x1 < x2 else x1 - offset
        rows = slice(y1 - top, y1 - top + len(down))
        left[rows] = np.minimum(left[rows], crossing)
        right[rows] = np.maximum(right[rows], crossing)
    _fill_spans(canvas, top, left, right, color)


def draw_line(canvas: Canvas, start: Pixel, end: Pixel, color: Color) -> None:
    """Draw a line 4 pixels wide, whose ends are cut along the rows or columns.

    Along its longer axis (y for a diagonal) it takes one step per pixel; there it covers from one pixel
    before to two pixels after its own, whose distance from `start` is rounded (a half is rounded towards
    `start`). A line that starts outside the canvas is taken to start where it enters.
    """
    (x1, y1), (x2, y2) = start, end
    width, height = abs(x2 - x1), abs(y2 - y1)
    if width > height:
        draw_line(canvas.T, (y1, x1), (y2, x2), color)
        return
    x, y = _entry(canvas, start, end)
    step = np.arange(abs(y2 - y) + 1)
    offset = -((height - 2 * width * step) // max(2 * height, 1))
    centers = x + offset if x1 < x2 else x - offset
    if y2 < y:
        centers = centers[::-1]
    _fill_spans(canvas, min(y, y2), centers - 1, centers + 2, color)


def fill_disc(canvas: Canvas, center: Pixel, radius: int, color: Color) -> None:
    """Fill a disc of 2 `radius` rows around the upper left corner of the center pixel."""
    half = np.array(DISC_HALF_WIDTHS[radius])
    half = np.concatenate([half[::-1], half])
    _fill_spans(canvas, center[1] - radius, center[0] - half, center[0] + half - 1, color)


def draw_antialiased_line(canvas: Canvas, start: Pixel, end: Pixel, color: Color) -> None:
    """Draw a line one pixel wide that shares its colour between the two nearest pixels (Wu 1991).

    Both ends are solid. In between, the crossing advances in single precision and is counted from one pixel
    outside the canvas, and blended colours are truncated: these decide the last bit of a channel.
    """
    (x1, y1), (x2, y2) = start, end
    if abs(y2 - y1) > abs(x2 - x1):
        draw_antialiased_line(canvas.T, (y1, x1), (y2, x2), color)
        return
    if x1 > x2:
        x1, y1, x2, y2 = x2, y2, x1, y1
    solid = np.float32(1)
    _blend(canvas, x1, y1, color, solid)
    _blend(canvas, x2, y2, color, solid)
    slope = np.float32(y2 - y1) / np.float32(max(x2 - x1, 1))
    crossing = np.float32(y1 + 1)
    for x in range(x1 + 1, x2):
        crossing += slope
        row = math.floor(crossing)
        below = crossing - np.float32(row)
        _blend(canvas, x, row - 1, color, solid - below)
        _blend(canvas, x, row, color, below)


def _entry(canvas: Canvas, start: Pixel, end: Pixel) -> Pixel:
    """`start`, or where a line that starts outside the canvas meets its border (0 or the canvas's size)."""
    (x, y), (dx, dy) = start, (end[0] - start[0], end[1] - start[1])
    height, width = canvas.shape
    border = min(max(y, 0), height)
    if (border - y) * (end[1] - border) > 0:
        x, y = x + _round_half_away((border - y) * dx / dy), border
    border = min(max(x, 0), width)
    if (border - x) * (end[0] - border) > 0:
        x, y = border, y + _round_half_away((border - x) * dy / dx)
    return x, y


def _round_half_away(value: float) -> int:
    return int(value + math.copysign(0.5, value))


def _fill_spans(canvas: Canvas, top: int, left: NDArray, right: NDArray, color: Color) -> None:
    """Colour the pixels `left[i]` to `right[i]`, both included, of each row `top + i`."""
    height, width = canvas.shape
    first, last = max(-top, 0), min(height - top, len(left))
    start, stop = max(int(left.min()), 0), min(int(right.max()) + 1, width)
    if first >= last or start >= stop:
        return
    columns = np.arange(start, stop)
    covered = (columns >= left[first:last, None]) & (columns <= right[first:last, None])  # (rows, columns)
    canvas[top + first : top + last, start:stop][covered] = color


def _blend(canvas: Canvas, x: int, y: int, color: Color, weight: np.float32) -> None:
    """Mix `color` into one pixel."""
    height, width = canvas.shape
    if 0 <= y < height and 0 <= x < width:
        pair = np.array([color, canvas[y, x]]).view(np.uint8).reshape(2, 4).astype(np.float32)
        mixed = weight * pair[0] + (1 - weight) * pair[1]
        canvas[y, x] = mixed.astype(np.uint8).view(np.uint32)[0]

"""Drawing primitives that colour exactly the pixels the recorded Push-T images have.

The demonstrations were drawn by a pygame older than 2.6. Which pixels each primitive covered there was
measured, primitive by primitive, and is stated in each docstring; a rule that differs by half a pixel would
move the T's outline between training and evaluation images. A canvas is square and holds one 32-bit word a pixel
(see `pack`), so that a row of pixels is one plain assignment. Points are whole pixels (x, y); what lies outside
the canvas is cut off.

Lines, polygons and discs become runs of pixels, many primitives in a call, and the runs become pixels that are
painted at once: the same as one primitive after another, in less time.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixel = tuple[int, int]
Color = np.uint32
Canvas = NDArray[np.uint32]  # (size, size)
Integers = NDArray[np.int64]

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
    """The canvas as (size, size, 4) bytes, sharing its memory."""
    return canvas[..., None].view(np.uint8)


class Runs(NamedTuple):
    """Straight runs of pixels, each number as an array (n,).

    Attributes:
        line: The row of a run; where it is vertical, the column.
        first: Its first column; where it is vertical, row.
        last: Its last one, included. A run that ends before it begins is empty.
        vertical: Whether it runs down a column (bool).
        layer: Where runs overlap, that of the highest layer is seen.
    """

    line: Integers
    first: Integers
    last: Integers
    vertical: NDArray[np.bool_]
    layer: Integers


class Pixels(NamedTuple):
    """Coloured pixels of a canvas; where one occurs twice, the last counts.

    Attributes:
        position: Where they are in the flattened canvas, (n,).
        color: (n,).
    """

    position: Integers
    color: NDArray[np.uint32]


def paint(canvas: Canvas, pixels: Pixels) -> None:
    """Colour pixels."""
    canvas.reshape(-1)[pixels.position] = pixels.color


def pixels_of(runs: Sequence[Runs], palette: NDArray[np.uint32], size: int) -> Pixels:
    """The pixels of runs on a canvas of `size`, those of layer i in `palette[i]`."""
    joined = Runs(*map(np.concatenate, zip(*runs, strict=True)))
    first, last = np.maximum(joined.first, 0), np.minimum(joined.last, size - 1)
    inside = np.flatnonzero((joined.line >= 0) & (joined.line < size) & (first <= last))
    inside = inside[np.argsort(joined.layer[inside], kind="stable")]
    line, first, length = joined.line[inside], first[inside], (last - first + 1)[inside]
    vertical = joined.vertical[inside]
    start = np.where(vertical, first * size + line, line * size + first)
    stride = np.where(vertical, size, 1)
    before = np.cumsum(length) - length  # pixels of the runs before this one
    position = np.arange(length.sum()) * np.repeat(stride, length) + np.repeat(
        start - before * stride, length
    )
    return Pixels(position, np.repeat(palette[joined.layer[inside]], length))


def convex_runs(corners: Integers, layer: Integers) -> Runs:
    """Filled convex polygons.

    In each row from the highest to the lowest corner, the pixels between the outermost edges, both included.
    An edge crosses a row at its upper end plus an offset that is truncated towards zero.

    Args:
        corners: (P, n, 2) of P polygons.
        layer: (P,).
    """
    top, bottom = corners[..., 1].min(1), corners[..., 1].max(1)  # (P,)
    row = top[:, None] + np.arange((bottom - top).max() + 1)  # (P, R)
    following = np.concatenate([corners[:, 1:], corners[:, :1]], axis=1)
    falls = (corners[..., 1] < following[..., 1])[..., None]
    x1, y1 = np.moveaxis(np.where(falls, corners, following), -1, 0)[..., None]  # (P, n, 1), the upper end
    x2, y2 = np.moveaxis(np.where(falls, following, corners), -1, 0)[..., None]
    down = row[:, None] - y1  # (P, n, R)
    # Where one edge ends and the next begins, the next counts. Edges along a row end others, and cross none.
    crosses = (down >= 0) & (down < y2 - y1 + (y2 == bottom[:, None, None])) & (y1 != y2)
    offset = np.floor(down * np.abs(x2 - x1) / np.maximum(y2 - y1, 1))
    crossing = x1 + np.where(x1 < x2, offset, -offset)
    left = np.where(crosses, crossing, np.inf).min(1)  # (P, R)
    right = np.where(crosses, crossing, -np.inf).max(1)
    covered = left <= right
    layers = np.broadcast_to(layer[:, None], row.shape)[covered]
    first, last = left[covered].astype(np.int64), right[covered].astype(np.int64)
    return Runs(row[covered], first, last, np.zeros(len(first), bool), layers)


def line_runs(starts: Integers, ends: Integers, layer: Integers, size: int) -> Runs:
    """Lines 4 pixels wide, whose ends are cut along the rows or columns.

    Along its longer axis (y for a diagonal) a line takes one step per pixel; there it covers from one pixel
    before to two pixels after its own, whose distance from its start is rounded (a half is rounded towards
    the start). A line that starts outside the canvas is taken to start where it enters.

    Args:
        starts: (L, 2) of L lines.
        ends: (L, 2).
        layer: (L,).
        size: Of the canvas, for what is outside.
    """
    lines = [_steps(start, end, size) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    line, center, n_steps, down, right, longer, shorter, vertical = np.array(lines).T
    of = np.repeat(np.arange(len(lines)), n_steps)
    step = np.arange(len(of)) - np.repeat(np.cumsum(n_steps) - n_steps, n_steps)
    offset = -((longer[of] - 2 * shorter[of] * step) // np.maximum(2 * longer[of], 1))
    centers = center[of] + right[of] * offset
    return Runs(line[of] + down[of] * step, centers - 1, centers + 2, vertical[of].astype(bool), layer[of])


def disc_runs(centers: Integers, radius: int, layer: Integers) -> Runs:
    """Discs of 2 `radius` rows around the upper left corner of their center pixels.

    Args:
        centers: (D, 2).
        radius: One that `DISC_HALF_WIDTHS` has.
        layer: (D,).
    """
    widths = DISC_HALF_WIDTHS[radius]
    half = np.array([*widths[::-1], *widths])  # from the top
    x, y = centers.T[..., None]  # (D, 1)
    row = (y - radius + np.arange(2 * radius)).reshape(-1)
    left, right = (x - half).reshape(-1), (x + half - 1).reshape(-1)
    return Runs(row, left, right, np.zeros(len(row), bool), np.repeat(layer, 2 * radius))


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


def _steps(start: Pixel, end: Pixel, size: int) -> tuple[int, ...]:
    """How a line walks: from which row and column, how many rows, which way down and right, and its extents.

    A flat line walks along columns: then "row" and "column" change places, which the last number says.
    """
    (x1, y1), (x2, y2) = start, end
    flat = abs(x2 - x1) > abs(y2 - y1)
    if flat:
        x1, y1, x2, y2 = y1, x1, y2, x2
    x, y = _entry(size, (x1, y1), (x2, y2))
    down, right = (-1 if y2 < y else 1), (1 if x1 < x2 else -1)
    return y, x, abs(y2 - y) + 1, down, right, abs(y2 - y1), abs(x2 - x1), flat


def _entry(size: int, start: Pixel, end: Pixel) -> Pixel:
    """`start`, or where a line that starts outside the canvas meets its border (0 or the canvas's size)."""
    (x, y), (dx, dy) = start, (end[0] - start[0], end[1] - start[1])
    border = min(max(y, 0), size)
    if (border - y) * (end[1] - border) > 0:
        x, y = x + _round_half_away((border - y) * dx / dy), border
    border = min(max(x, 0), size)
    if (border - x) * (end[0] - border) > 0:
        x, y = border, y + _round_half_away((border - x) * dy / dx)
    return x, y


def _round_half_away(value: float) -> int:
    return int(value + math.copysign(0.5, value))


def _blend(canvas: Canvas, x: int, y: int, color: Color, weight: np.float32) -> None:
    """Mix `color` into one pixel."""
    size = len(canvas)
    if 0 <= y < size and 0 <= x < size:
        pair = np.array([color, canvas[y, x]]).view(np.uint8).reshape(2, 4).astype(np.float32)
        mixed = weight * pair[0] + (1 - weight) * pair[1]
        canvas[y, x] = mixed.astype(np.uint8).view(np.uint32)[0]

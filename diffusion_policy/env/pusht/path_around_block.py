"""Ways for the pusher around the T, without touching it."""

import math

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.env.pusht.geometry import AGENT_RADIUS, BAR, STEM, WINDOW_SIZE, Point, Vector

Points = NDArray[np.float64]  # (..., 2)

CLEARANCE = AGENT_RADIUS + 9.0  # of the pusher's centre from the T on its way, in pixels
WINDOW_MARGIN = 8.0  # the pusher's centre stays that far inside the window, in pixels
SAMPLE_SPACING = 6.0  # of the points at which a straight way is checked, in pixels
TOUCHING = 1e-6  # a smaller distance is none, in pixels
MIDDLE = (0.0, 45.0)  # of the T
# The T's convex corners, moved outwards diagonally: a shortest way turns only at these.
DETOURS = np.array(
    [
        (-60 - CLEARANCE, -CLEARANCE),
        (60 + CLEARANCE, -CLEARANCE),
        (60 + CLEARANCE, 30 + CLEARANCE),
        (15 + CLEARANCE, 120 + CLEARANCE),
        (-15 - CLEARANCE, 120 + CLEARANCE),
        (-60 - CLEARANCE, 30 + CLEARANCE),
    ]
)
_BOXES = np.array([(*BAR[0], *BAR[2]), (*STEM[0], *STEM[2])], dtype=np.float64)  # left, top, right, bottom


def to_window(points: Points, block_pose: Vector) -> Points:
    """Points (..., 2) of the block's frame in the window."""
    return points @ _rotation(block_pose[2]) + np.asarray(block_pose[:2])


def to_block(points: Points, block_pose: Vector) -> Points:
    """Points (..., 2) of the window in the block's frame."""
    return (points - np.asarray(block_pose[:2])) @ _rotation(block_pose[2]).T


def _rotation(angle: float) -> Points:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin], [-sin, cos]])  # acts on row vectors


def distance_to_block(points: Points) -> NDArray[np.float64]:
    """Distance (...) of points (..., 2) of the block's frame from the T; 0 inside."""
    nearest = np.clip(points[..., None, :], _BOXES[:, :2], _BOXES[:, 2:])  # (..., 2 boxes, 2)
    return np.linalg.norm(points[..., None, :] - nearest, axis=-1).min(axis=-1)


def pushed_out(point: Points) -> Points:
    """A point (2,) of the block's frame, moved away from the T until it is clear of it."""
    for _ in range(8):  # near both rectangles, leaving one may approach the other
        nearest = np.clip(point, _BOXES[:, :2], _BOXES[:, 2:])
        offsets = point - nearest
        distances = np.linalg.norm(offsets, axis=-1)
        closest = int(distances.argmin())
        if distances[closest] >= CLEARANCE:
            break
        if distances[closest] > TOUCHING:
            point = nearest[closest] + offsets[closest] / distances[closest] * CLEARANCE
        else:  # inside: straight away from the middle
            away = point - MIDDLE
            length = np.linalg.norm(away)
            point = point + CLEARANCE * (away / length if length > TOUCHING else np.array([0.0, -1.0]))
    return point


class PathsAroundBlock:
    """Shortest ways from one place to many.

    Args:
        block_pose: x, y, angle of the block.
        start: (2,) where the pusher is, in the window; near the T it first moves straight away from it.
        ends: (N, 2) where it may want to go, in the window, clear of the T.

    Attributes:
        lengths: (N,) in pixels; infinite where there is no way.
    """

    def __init__(self, block_pose: Vector, start: Point, ends: Points) -> None:
        self._start = np.asarray(start, dtype=np.float64)
        departure = pushed_out(to_block(self._start, block_pose))
        detours = to_window(np.vstack([departure, DETOURS]), block_pose)
        self._places = np.vstack([detours, ends])  # departure, detours, ends
        steps = _straight_ways(detours, self._places, block_pose)
        self._lengths, self._previous = _shortest(steps)
        self.lengths = self._lengths[len(detours) :] + np.linalg.norm(detours[0] - self._start)

    def to(self, end: int) -> Points:
        """The way to `ends[end]`, from the start on: (n, 2) corners of a line in the window."""
        place = len(DETOURS) + 1 + end
        way = [place]
        while way[-1] != 0:
            way.append(int(self._previous[way[-1]]))
        return np.vstack([self._start, self._places[way[::-1]]])


def _straight_ways(starts: Points, ends: Points, block_pose: Vector) -> NDArray[np.float64]:
    """Lengths (S, E) of the straight ways; infinite for those that touch the T or leave the window."""
    lengths = np.linalg.norm(ends - starts[:, None], axis=-1)
    share = np.linspace(0, 1, math.ceil(lengths.max() / SAMPLE_SPACING) + 1)[:, None]
    points = starts[:, None, None] * (1 - share) + ends[None, :, None] * share  # (S, E, samples, 2)
    clear = distance_to_block(to_block(points, block_pose)).min(axis=-1) > CLEARANCE - 1
    inside = ((ends >= WINDOW_MARGIN) & (ends <= WINDOW_SIZE - WINDOW_MARGIN)).all(axis=-1)
    return np.where(clear & inside, lengths, np.inf)


def _shortest(steps: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Lengths (P,) of the shortest ways from place 0, and the place before each (Bellman and Ford).

    Args:
        steps: (S, P) lengths of the direct ways from the first S of P places.
    """
    lengths = steps[0].copy()
    lengths[0] = 0.0
    previous = np.zeros(len(lengths), dtype=np.intp)
    for _ in range(len(steps) - 1):
        through = lengths[: len(steps), None] + steps  # (S, P)
        best = through.argmin(axis=0)
        shorter = through[best, np.arange(len(lengths))] < lengths - 1e-9
        previous[shorter] = best[shorter]
        lengths = np.minimum(lengths, through.min(axis=0))
    return lengths, previous

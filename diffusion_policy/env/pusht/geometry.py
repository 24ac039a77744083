"""Shapes of the Push-T task: the T, its goal pose, its keypoints, and how much of the goal it covers.

The frame is that of the window: 512 x 512 pixels, x to the right, y down, so angles turn clockwise on screen.
A block pose is (x, y, angle) of the body *origin*, the middle of the outer edge of the T's bar; it is neither
the centre of gravity nor the centroid.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Vector = Sequence[float] | NDArray[np.float64]

WINDOW_SIZE = 512
AGENT_RADIUS = 15
WALL_CORNERS: tuple[Point, ...] = ((5, 506), (5, 5), (506, 5), (506, 506))
GOAL_POSE = (256.0, 256.0, math.pi / 4)

# The T in its own frame: two rectangles that share an edge.
BAR: tuple[Point, ...] = ((-60, 0), (60, 0), (60, 30), (-60, 30))
STEM: tuple[Point, ...] = ((-15, 30), (15, 30), (15, 120), (-15, 120))
T_AREA = 120 * 30 + 30 * 90

# Points once drawn at random on the T; the published keypoints are these.
BLOCK_KEYPOINTS = np.array(
    [
        [9.269786713763871, 90.04097352393619],
        [-60.983472364471474, -1.1867297607997276],
        [60.91275557727772, -1.3933642242328201],
        [-0.2705034390160016, 25.54362499146542],
        [-14.064927576212233, 122.81585355412153],
        [39.002738500170146, 32.857404276587566],
        [-39.966414424694534, 32.729655446429945],
        [-16.82434437939744, 62.86316892234989],
        [23.54146122024909, -1.7002881094626152],
    ]
)

# (left, top, right, bottom) of the bar and the stem
_BOXES = ((-60.0, 0.0, 60.0, 30.0), (-15.0, 30.0, 15.0, 120.0))
# Two T's whose origins are further apart than twice the T's reach, hypot(15, 120), cannot touch.
_REACH = math.hypot(15, 120)


def place(points: Sequence[Point], pose: Vector) -> list[Point]:
    """Points of the block's frame, moved to the window by a pose (x, y, angle)."""
    x, y, angle = pose
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x + cos * px - sin * py, y + sin * px + cos * py) for px, py in points]


def block_keypoints(block_pose: Vector) -> NDArray[np.float64]:
    """The nine keypoints of a block at `block_pose` (x, y, angle), in pixels.

    Returns:
        (9, 2) array of x, y.
    """
    x, y, angle = block_pose
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = np.array([[cos, sin], [-sin, cos]])  # acts on row vectors
    return BLOCK_KEYPOINTS @ rotation + (x, y)


def coverage(block_pose: Vector) -> float:
    """Share of the goal's area that a block at `block_pose` (x, y, angle) covers, in [0, 1].

    The block is moved into the goal's frame, where the goal's two rectangles are axis-aligned boxes. Each of
    the block's rectangles is clipped to each box (Sutherland and Hodgman 1974) and the areas are added.

    Raises:
        ValueError: if the pose is not three finite numbers.
    """
    x, y, angle = map(float, block_pose)
    if not math.isfinite(x + y + angle):
        raise ValueError(f"block_pose is {tuple(block_pose)}; expected finite x, y and angle")
    goal_x, goal_y, goal_angle = GOAL_POSE
    dx, dy = x - goal_x, y - goal_y
    if math.hypot(dx, dy) >= 2 * _REACH:
        return 0.0
    cos, sin = math.cos(goal_angle), math.sin(goal_angle)
    pose_in_goal = (cos * dx + sin * dy, cos * dy - sin * dx, angle - goal_angle)
    rectangles = (place(BAR, pose_in_goal), place(STEM, pose_in_goal))
    overlap = sum(_area_inside(rectangle, box) for rectangle in rectangles for box in _BOXES)
    return min(overlap / T_AREA, 1.0)


def _area_inside(polygon: list[Point], box: tuple[float, float, float, float]) -> float:
    """Area of the part of a convex polygon that lies in an axis-aligned box (left, top, right, bottom)."""
    left, top, right, bottom = box
    for axis, sign, limit in ((0, 1.0, right), (0, -1.0, -left), (1, 1.0, bottom), (1, -1.0, -top)):
        polygon = _clip(polygon, axis, sign, limit)
        if not polygon:
            return 0.0
    return _area(polygon)


def _clip(polygon: list[Point], axis: int, sign: float, limit: float) -> list[Point]:
    """The part of a convex polygon where `sign * coordinate[axis] <= limit`."""
    excess = [sign * point[axis] - limit for point in polygon]
    if max(excess) <= 0:
        return polygon
    if min(excess) >= 0:
        return []
    kept = []
    previous, previous_excess = polygon[-1], excess[-1]
    for point, point_excess in zip(polygon, excess, strict=True):
        if previous_excess * point_excess < 0:  # the edge crosses the limit
            share = previous_excess / (previous_excess - point_excess)
            kept.append(
                (
                    previous[0] + share * (point[0] - previous[0]),
                    previous[1] + share * (point[1] - previous[1]),
                )
            )
        if point_excess <= 0:
            kept.append(point)
        previous, previous_excess = point, point_excess
    return kept


def _area(polygon: list[Point]) -> float:
    """Area of a simple polygon, by the shoelace formula."""
    doubled = 0.0
    previous_x, previous_y = polygon[-1]
    for x, y in polygon:
        doubled += previous_x * y - x * previous_y
        previous_x, previous_y = x, y
    return abs(doubled) / 2

"""An expert for Push-T that needs no person: it plans one straight push after another in simulation."""

import math
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.env.pusht.geometry import (
    AGENT_RADIUS,
    GOAL_POSE,
    WINDOW_SIZE,
    Point,
    Vector,
    block_keypoints,
)
from diffusion_policy.env.pusht.path_around_block import (
    CLEARANCE,
    WINDOW_MARGIN,
    PathsAroundBlock,
    Points,
    to_window,
)
from diffusion_policy.env.pusht.physics import PushTPhysics

# The T's outline, clockwise on screen, and how far from each of its corners a push may begin. The disc does
# not fit into the two inner corners.
OUTLINE: tuple[Point, ...] = (
    (-60, 0),
    (60, 0),
    (60, 30),
    (15, 30),
    (15, 120),
    (-15, 120),
    (-15, 30),
    (-60, 30),
)
CORNER_MARGINS = (4, 4, 4, AGENT_RADIUS + 2, 4, 4, AGENT_RADIUS + 2, 4)
CONTACT_SPACING = 10.0  # at most, in pixels
PUSH_ANGLES = tuple(math.radians(degrees) for degrees in (-30, 0, 30))  # to the surface's normal
ANGLE_JITTER = 0.1  # radians; no two episodes push at quite the same angles
RUN_UP = CLEARANCE - AGENT_RADIUS  # from where a push begins to the T, in pixels
MAX_PUSH_STEPS = 30
WORSENING = 6.0  # a push is not followed further once it worsens the distance by so much, in pixels

# A plan's cost is log(distance + DISTANCE_OFFSET) + TIME_WEIGHT * steps: what counts is how much smaller the
# distance gets, from 100 px to 50 px as from 10 px to 5 px. Costs of time add up along the way, so that a
# plan made half-way would be the same one.
DISTANCE_OFFSET = 2.0
TIME_WEIGHT = 0.005

# Steps of the target, in pixels per control step, as large as a person's.
FREE_SPEED = 18.0
TURN_SPEED = 5.0  # where the push begins
PUSH_SPEED = 9.0
END_SPEED = 3.0
ACCELERATION = 5.0
STEPS_AT_END = 2  # the disc is behind its target; without waiting it would turn back too early
TYPICAL_APPROACH_SPEED = 14.0  # to estimate times
TURNS_COST_STEPS = 6.0

_GOAL_KEYPOINTS = block_keypoints(GOAL_POSE)


class ScriptedPusher:
    """Push-T expert: greedy over straight pushes, each tried out on a copy of the world.

    A plan is a way around the block and a push. Pushes begin at points all around the block, in three
    directions each, and end where the keypoints' mean distance from the goal, traded against time, is least.
    What it does next follows from the pusher's position and the block's pose, both observable, and from a
    small jitter of the directions; its target moves as smoothly and as fast as a person's mouse. Every
    decision being greedy, it is nearly unimodal: a person solves the task in more ways.

    Args:
        seed: of the jitter.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._targets: deque[NDArray[np.float64]] = deque()

    def act(self, agent_position: Vector, block_pose: Vector) -> NDArray[np.float64]:
        """The next action: where the agent should go, (2,) whole pixels in [0, 512].

        Args:
            agent_position: x, y of the agent, in pixels.
            block_pose: x, y (pixels) and angle (radians) of the block.
        """
        if not self._targets:
            agent = (float(agent_position[0]), float(agent_position[1]))
            self._targets.extend(np.clip(np.round(self._plan(agent, block_pose)), 0, WINDOW_SIZE))
        return self._targets.popleft()

    def _plan(self, agent: Point, block_pose: Vector) -> Points:
        """Targets (n, 2) of the best push."""
        starts, directions = self._candidates(block_pose)
        ways = PathsAroundBlock(block_pose, agent, starts)
        best_cost, best, best_length = math.inf, -1, 0.0
        for i in np.flatnonzero(np.isfinite(ways.lengths)):
            approach_steps = ways.lengths[i] / TYPICAL_APPROACH_SPEED + TURNS_COST_STEPS
            for length, distance in _roll_out(starts[i], directions[i], block_pose):
                steps = approach_steps + length / PUSH_SPEED
                cost = math.log(distance + DISTANCE_OFFSET) + TIME_WEIGHT * steps
                if cost < best_cost:
                    best_cost, best, best_length = cost, int(i), length
        if best < 0:  # shut in between block and wall: look from elsewhere
            return np.asarray(agent) + self._random.uniform(-30, 30, (1, 2)).repeat(3, axis=0)
        return _along(ways.to(best), starts[best] + best_length * directions[best])

    def _candidates(self, block_pose: Vector) -> tuple[Points, Points]:
        """Where pushes may begin, clear of the block, and their directions, both (N, 2) in the window."""
        points, normals = _CONTACTS
        starts, directions = [], []
        for angle in np.add(PUSH_ANGLES, self._random.uniform(-ANGLE_JITTER, ANGLE_JITTER, len(PUSH_ANGLES))):
            turned = -to_window(normals, (0, 0, angle))
            directions.append(turned)
            starts.append(points + AGENT_RADIUS * normals - RUN_UP / math.cos(angle) * turned)
        turn_only = (0, 0, block_pose[2])
        return to_window(np.vstack(starts), block_pose), to_window(np.vstack(directions), turn_only)


def goal_distance(block_pose: Vector) -> float:
    """Mean distance of the block's keypoints from where they should be, in pixels."""
    offsets = block_keypoints(block_pose) - _GOAL_KEYPOINTS
    return float(np.hypot(offsets[:, 0], offsets[:, 1]).mean())


def _contacts() -> tuple[Points, Points]:
    """Points on the T's outline and outward normals there, both (M, 2) in the block's frame."""
    points, normals = [], []
    corners = np.array(OUTLINE, dtype=np.float64)
    for i, corner in enumerate(corners):
        following = (i + 1) % len(corners)
        side = corners[following] - corner
        length = math.hypot(*side)
        first, last = CORNER_MARGINS[i], length - CORNER_MARGINS[following]
        for along in np.linspace(first, last, math.ceil((last - first) / CONTACT_SPACING) + 1):
            points.append(corner + along / length * side)
            normals.append((side[1] / length, -side[0] / length))
    return np.array(points), np.array(normals)


_CONTACTS = _contacts()


def _roll_out(start: Points, direction: Points, block_pose: Vector) -> Iterator[tuple[float, float]]:
    """Push on a copy of the world, as long as it may help.

    Yields:
        How far the pusher got, and the block's `goal_distance` there, once it moves, in pixels.
    """
    physics = PushTPhysics(start, block_pose)
    before = least = goal_distance(block_pose)
    for step in range(1, MAX_PUSH_STEPS + 1):
        x, y = target = start + step * PUSH_SPEED * direction
        if target.min() < WINDOW_MARGIN or target.max() > WINDOW_SIZE - WINDOW_MARGIN:
            return
        physics.follow((x, y))
        length = float((physics.agent_position - start) @ direction)
        if length < RUN_UP:
            continue
        distance = goal_distance(physics.block_pose)
        if distance != before:
            yield length, distance
        least = min(least, distance)
        if distance > least + WORSENING:
            return


def _along(way: Points, end: Points) -> Points:
    """Targets (n, 2), one a control step, along the lines of a way (k, 2) and then of a push to `end`."""
    corners = np.vstack([way, end])
    sides = np.hypot(*np.diff(corners, axis=0).T)
    arcs = np.concatenate([[0.0], np.cumsum(sides)])
    positions, speed = [0.0], 0.0
    while positions[-1] < arcs[-1]:
        speed = min(speed + ACCELERATION, _speed_limit(arcs[-2] - positions[-1], arcs[-1] - positions[-1]))
        positions.append(min(positions[-1] + speed, arcs[-1]))
    positions = positions[1:] + [arcs[-1]] * STEPS_AT_END
    return np.stack([np.interp(positions, arcs, corners[:, axis]) for axis in (0, 1)], axis=1)


def _speed_limit(to_push: float, to_end: float) -> float:
    """Speed from which the target can slow down in time for what lies ahead, in pixels per control step."""
    if to_push > 0:
        return min(FREE_SPEED, math.sqrt(TURN_SPEED**2 + 2 * ACCELERATION * to_push))
    return min(PUSH_SPEED, math.sqrt(END_SPEED**2 + 2 * ACCELERATION * to_end))

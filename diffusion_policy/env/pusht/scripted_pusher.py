"""An expert for Push-T that needs no person: it plans one straight push after another in simulation."""

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

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
MAX_PUSH_STEPS = 45
WORSENING = 6.0  # a push is not followed further once it worsens the distance by so much, in pixels

# A plan's cost is log(distance + DISTANCE_OFFSET) + TIME_WEIGHT * steps: what counts is how much smaller the
# distance gets, from 100 px to 50 px as from 10 px to 5 px. Costs of time add up along the way, so that a
# plan made half-way would be the same one.
DISTANCE_OFFSET = 2.0
TIME_WEIGHT = 0.005

# The most promising pushes are tried again from beside their beginning, and the one that is best on average is made.
# A hand that is not exact can repeat it: a policy that learns from pushes which are only right to the pixel fails.
N_TRIED_AGAIN = 12
BESIDE = (-5.0, 5.0)  # pixels

# Steps of the target, in pixels per control step, no larger than a person's.
FREE_SPEED = 14.0
TURN_SPEED = 5.0  # where the push begins
PUSH_SPEED = 6.0
END_SPEED = 3.0
ACCELERATION = 5.0
STEPS_AT_END = 2  # the disc is behind its target; without waiting it would turn back too early
TYPICAL_APPROACH_SPEED = 14.0  # to estimate times
TURNS_COST_STEPS = 6.0

_GOAL_KEYPOINTS = block_keypoints(GOAL_POSE)


@dataclass(frozen=True)
class _Push:
    """A straight push that may be made.

    Attributes:
        way: index of the way to where it begins.
        start: (2,) where it begins.
        direction: (2,) unit vector.
        length: of the pusher's motion, in pixels.
        time_cost: for its duration, the way there included.
        cost: for the time and for what is left to do after it.
    """

    way: int
    start: Points
    direction: Points
    length: float
    time_cost: float
    cost: float

    @property
    def end(self) -> Points:
        """(2,) where the pusher ends."""
        return self.start + self.length * self.direction

    def mean_cost(self, block_pose: Vector) -> float:
        """On average over beginnings as planned and beside that."""
        sideways = np.array([-self.direction[1], self.direction[0]])
        starts = [self.start + offset * sideways for offset in BESIDE]
        distances = [_distance_after(start, self.direction, self.length, block_pose) for start in starts]
        return float(np.mean([self.cost, *(_work_left(d) + self.time_cost for d in distances)]))


class ScriptedPusher:
    """Push-T expert: greedy over straight pushes, each tried out on copies of the world.

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
        pushes = []
        for i in np.flatnonzero(np.isfinite(ways.lengths)):
            approach_steps = ways.lengths[i] / TYPICAL_APPROACH_SPEED + TURNS_COST_STEPS
            push = _best_push(int(i), starts[i], directions[i], approach_steps, block_pose)
            pushes += [] if push is None else [push]
        if not pushes:  # shut in between block and wall: look from elsewhere
            return np.asarray(agent) + self._random.uniform(-30, 30, (1, 2)).repeat(3, axis=0)
        promising = heapq.nsmallest(N_TRIED_AGAIN, pushes, key=lambda push: push.cost)
        best = min(promising, key=lambda push: push.mean_cost(block_pose))
        return _along(ways.to(best.way), best.end)

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


def _best_push(
    way: int, start: Points, direction: Points, approach_steps: float, block_pose: Vector
) -> _Push | None:
    """The push from here of the best length; None if no length moves the block."""
    best: _Push | None = None
    for length, distance in _roll_out(start, direction, block_pose):
        time_cost = TIME_WEIGHT * (approach_steps + length / PUSH_SPEED)
        cost = _work_left(distance) + time_cost
        if best is None or cost < best.cost:
            best = _Push(way, start, direction, length, time_cost, cost)
    return best


def _work_left(distance: float) -> float:
    """The cost of a `goal_distance`."""
    return math.log(distance + DISTANCE_OFFSET)


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


def _distance_after(start: Points, direction: Points, length: float, block_pose: Vector) -> float:
    """The block's `goal_distance` once a copy of the pusher was sent straight ahead for `length`."""
    physics = PushTPhysics(start, block_pose)
    for step in range(1, math.ceil(length / PUSH_SPEED) + STEPS_AT_END + 1):
        x, y = start + min(step * PUSH_SPEED, length) * direction
        physics.follow((x, y))
    return goal_distance(physics.block_pose)


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

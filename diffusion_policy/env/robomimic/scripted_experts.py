"""Scripted experts for Lift and Square: state machines over robomimic's observations.

They act as a person with a controller would, by changes of the hand's pose, scaled to [-1, 1]. Waypoints, speed and
a little jitter of the actions are drawn from the seed, so that demonstrations differ.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.common.rotation_transformer import RotationTransformer

T = TypeVar("T")
Values = NDArray[np.float64]
Obs = Mapping[str, NDArray[np.floating]]

POSITION_UNIT, ROTATION_UNIT = 0.05, 0.5  # m and rad of an action of 1, from the controller's output_max
OPEN, CLOSED = -1.0, 1.0
GAIN = 2.0  # an action asks for twice the distance that is left: the arm sags under what it carries
CLOSING_STEPS = 8
JITTER = 0.02  # standard deviation, of the action's [-1, 1]
DOWN = np.diag([1.0, -1.0, -1.0])  # the hand's axes when it points down; the fingers close along its y

_FROM_QUATERNION = RotationTransformer("quaternion", "matrix")  # w first
_FROM_AXIS_ANGLE = RotationTransformer("axis_angle", "matrix")


class ScriptedExpert(ABC):
    """Follows a plan: a sequence of targets, each held until it is reached.

    Args:
        seed: of what differs between demonstrations.
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._speed = self._random.uniform(0.6, 1.0)
        self._plan: Iterator[Callable[[Obs], Values | None]] | None = None
        self._phase: Callable[[Obs], Values | None] | None = None

    def act(self, obs: Obs) -> NDArray[np.float32]:
        """The action for an observation, (7,): changes of position and rotation, and the gripper."""
        if self._plan is None:
            self._plan = self._phases()
            self._phase = next(self._plan)
        assert self._phase is not None
        action = self._phase(obs)
        while action is None:
            self._phase = next(self._plan)
            action = self._phase(obs)
        moves = action[:6] + self._random.normal(0, JITTER, 6)
        return np.append(np.clip(moves, -1, 1), action[6]).astype(np.float32)

    @abstractmethod
    def _phases(self) -> Iterator[Callable[[Obs], Values | None]]:
        """The plan; each phase maps an observation to an action, or to None when it is over. The last never is."""

    def _go(
        self,
        position: Callable[[Obs], Values],
        yaw: Callable[[Obs], float],
        gripper: float,
        near: float | None,
        far_turned: float = 0.05,
    ) -> Callable[[Obs], Values | None]:
        """Move the hand to where `position` and `yaw` say.

        Args:
            position: of the hand, (3,), m.
            yaw: of the hand's x axis, rad.
            gripper: its action.
            near: m, within which the target is reached; None: never.
            far_turned: rad, likewise.
        """

        def phase(obs: Obs) -> Values | None:
            away = position(obs) - obs["robot0_eef_pos"]
            turn = _rotation_vector(_about_z(yaw(obs)) @ DOWN @ _matrix(obs["robot0_eef_quat"]).T)
            if near is not None and np.linalg.norm(away) < near and np.linalg.norm(turn) < far_turned:
                return None
            step = np.concatenate(
                [_limited(GAIN * away / POSITION_UNIT, self._speed), GAIN * turn / ROTATION_UNIT]
            )
            return np.append(np.clip(step, -1, 1), gripper)

        return phase

    def _grip(self, gripper: float, steps: int) -> Callable[[Obs], Values | None]:
        """Hold still while the gripper moves."""
        left = iter(range(steps))
        return lambda obs: None if next(left, None) is None else np.append(np.zeros(6), gripper)


class ScriptedLift(ScriptedExpert):
    """Lifts the cube: above it, down, close, up."""

    def _phases(self) -> Iterator[Callable[[Obs], Values | None]]:
        above = np.array([0, 0, self._random.uniform(0.06, 0.12)])
        beside = np.append(self._random.uniform(-0.005, 0.005, 2), 0)
        yaw = _held(lambda obs: _nearest(_yaw(_matrix(obs["object"][3:7])), np.pi / 2))
        yield self._go(lambda obs: obs["object"][:3] + above, yaw, OPEN, near=0.02, far_turned=0.1)
        yield self._go(lambda obs: obs["object"][:3] + beside, yaw, OPEN, near=0.01)
        yield self._grip(CLOSED, CLOSING_STEPS)
        top = _held(lambda obs: obs["robot0_eef_pos"] + np.array([0, 0, 0.3]))
        yield self._go(top, yaw, CLOSED, near=None)


class ScriptedSquare(ScriptedExpert):
    """Puts the square nut over its peg: grasps the handle, lifts, turns, lowers and lets go."""

    PEG = np.array([0.23, 0.1])  # m, x and y
    ABOVE_PEG, AROUND_PEG = 1.05, 0.86  # m, heights of the nut
    PEG_TOP, CLEARANCE = 0.96, 0.006  # m
    NUT_YAWS = (-np.pi / 2, np.pi / 2, np.pi)
    HANDLE = 0.054  # m, from the nut's centre along its x axis

    def _phases(self) -> Iterator[Callable[[Obs], Values | None]]:
        above = np.array([0, 0, self._random.uniform(0.06, 0.12)])
        along = self.HANDLE + self._random.uniform(0, 0.008)
        grasp = np.array([0, 0, self._random.uniform(-0.004, 0.004)])
        lifted = np.array([0, 0, self._random.uniform(0.2, 0.26)])
        handle_yaw = _held(lambda obs: _nearest(_yaw(self._nut(obs)), np.pi))

        def handle(obs: Obs) -> Values:
            return obs["object"][:3] + along * self._nut(obs)[:, 0]

        yield self._go(lambda obs: handle(obs) + above, handle_yaw, OPEN, near=0.02, far_turned=0.1)
        yield self._go(lambda obs: handle(obs) + grasp, handle_yaw, OPEN, near=0.008)
        yield self._grip(CLOSED, CLOSING_STEPS)
        raised = _held(lambda obs: obs["robot0_eef_pos"] + lifted)
        yield self._go(raised, handle_yaw, CLOSED, near=0.02, far_turned=0.1)
        yaw = self._straight_yaw()
        yield self._go(self._nut_at(self.ABOVE_PEG), yaw, CLOSED, near=0.005, far_turned=0.03)
        yield self._lower(yaw)
        yield self._grip(OPEN, CLOSING_STEPS // 2)
        back = _held(lambda obs: obs["robot0_eef_pos"] + np.array([0, 0, 0.15]))
        yield self._go(back, _held(lambda obs: _yaw(_matrix(obs["robot0_eef_quat"]))), OPEN, near=None)

    def _nut(self, obs: Obs) -> Values:
        return _matrix(obs["object"][3:7])

    def _nut_at(self, height: float) -> Callable[[Obs], Values]:
        """Where the hand has to be for the nut to be over the peg."""
        return lambda obs: obs["robot0_eef_pos"] + np.append(self.PEG, height) - obs["object"][:3]

    def _straight_yaw(self) -> Callable[[Obs], float]:
        """How the hand has to be turned for the nut's sides to be parallel to the peg's.

        The handle then points towards the robot or to a side: away from it the arm does not reach.
        """
        goal = _held(lambda obs: min(self.NUT_YAWS, key=lambda yaw: abs(self._hand_yaw(obs, yaw))))
        return lambda obs: self._hand_yaw(obs, goal(obs))

    def _hand_yaw(self, obs: Obs, nut_yaw: float) -> float:
        """Of the hand when the nut, as it is held, has this yaw."""
        hand = _yaw(_matrix(obs["robot0_eef_quat"]))
        return hand + _nearest(nut_yaw - _yaw(self._nut(obs)), 2 * np.pi)

    def _lower(self, yaw: Callable[[Obs], float]) -> Callable[[Obs], Values | None]:
        """Let the nut down while it is over the peg; where it is not, bring it there first."""
        down = self._go(self._nut_at(self.AROUND_PEG - 0.03), yaw, CLOSED, near=None)
        back = self._go(self._nut_at(self.ABOVE_PEG), yaw, CLOSED, near=None)

        def phase(obs: Obs) -> Values | None:
            away = float(np.linalg.norm(obs["object"][:2] - self.PEG))
            if obs["object"][2] < self.AROUND_PEG:
                return None
            return back(obs) if obs["object"][2] > self.PEG_TOP and away > self.CLEARANCE else down(obs)

        return phase


def _held(value: Callable[[Obs], T]) -> Callable[[Obs], T]:
    """What `value` gives at its first call, ever after."""
    kept: list[T] = []

    def first(obs: Obs) -> T:
        if not kept:
            kept.append(value(obs))
        return kept[0]

    return first


def _matrix(quaternion: NDArray[np.floating]) -> Values:
    """Of x, y, z, w, as robosuite writes them."""
    return _FROM_QUATERNION.forward(np.roll(np.asarray(quaternion, dtype=np.float64), 1))


def _about_z(angle: float) -> Values:
    return _FROM_AXIS_ANGLE.forward(np.array([0, 0, angle], dtype=np.float64))


def _rotation_vector(matrix: Values) -> Values:
    return _FROM_AXIS_ANGLE.inverse(matrix)


def _yaw(matrix: Values) -> float:
    """Of the x axis."""
    return float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def _nearest(angle: float, period: float) -> float:
    """The angle nearest to 0 among those that are equal but for multiples of `period`."""
    return (angle + period / 2) % period - period / 2


def _limited(vector: Values, length: float) -> Values:
    return vector * min(1, length / max(float(np.linalg.norm(vector)), 1e-9))

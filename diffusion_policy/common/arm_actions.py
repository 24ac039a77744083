"""Poses that robot arms are told to take: their rotations as networks learn them, and as controllers take them.

An arm's action is its position (3), its rotation, and its gripper (1); arms stand one after another. Controllers take
rotations as axis times angle (3), which jumps at half a turn; networks learn the first two rows of the matrix (6),
which do not (Zhou et al. 2019).
"""

import numpy as np

from diffusion_policy.common.rotation_transformer import RotationTransformer

AXIS_ANGLE_SIZE, ROTATION_6D_SIZE = 7, 10  # of an arm's action
_ROTATION = RotationTransformer(from_rep="axis_angle", to_rep="rotation_6d")


def to_rotation_6d(actions: np.ndarray) -> np.ndarray:
    """Actions of n arms for a network, (..., 10 n), from those for controllers, (..., 7 n).

    Raises:
        ValueError: the last dimension is no multiple of 7.
    """
    arms = _by_arm(actions, AXIS_ANGLE_SIZE)  # (..., n, 7)
    position, rotation, gripper = np.split(arms, [3, 6], axis=-1)
    return _joined(position, _ROTATION.forward(rotation), gripper)


def to_axis_angle(actions: np.ndarray) -> np.ndarray:
    """Actions of n arms for controllers, (..., 7 n), from those for a network, (..., 10 n).

    Raises:
        ValueError: the last dimension is no multiple of 10.
    """
    arms = _by_arm(actions, ROTATION_6D_SIZE)  # (..., n, 10)
    position, rotation, gripper = np.split(arms, [3, 9], axis=-1)
    return _joined(position, _ROTATION.inverse(rotation), gripper)


def are_poses(actions: np.ndarray) -> bool:
    """Whether actions of robomimic's files (N, 7 n) can only be poses: changes lie in [-1, 1], but for some at most.

    A hand that points down is turned by half a turn, so that a number of its pose is larger.
    """
    return bool(np.median(np.abs(actions).max(axis=1)) > 1)


def are_changes(actions: np.ndarray) -> bool:
    """Whether actions of robomimic's files (N, 7 n) can only be changes of the pose: all lie in [-1, 1]."""
    return bool(np.abs(actions).max() <= 1)


def _by_arm(actions: np.ndarray, size: int) -> np.ndarray:
    if actions.ndim == 0 or actions.shape[-1] == 0 or actions.shape[-1] % size:
        raise ValueError(
            f"actions have shape {actions.shape}; expected {size} numbers for each arm at the end"
        )
    return actions.reshape(*actions.shape[:-1], -1, size)


def _joined(*parts: np.ndarray) -> np.ndarray:
    arms = np.concatenate(parts, axis=-1)
    return arms.reshape(*arms.shape[:-2], -1)

"""The parts that an action is made of, and what "relative" means for each.

A part knows where its present value is measured, and how to write a target relative to a reference and back. Targets
and references (..., size) have the action's form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from diffusion_policy.common.rotation_matrix import (
    axis_angle_to_matrix,
    matrix_to_rotation_6d,
    product,
    quaternion_to_matrix,
    rotation_6d_to_matrix,
)

Observation = Mapping[str, Tensor]

MeasuredRotation = Literal["quaternion_xyzw", "quaternion_wxyz", "axis_angle", "rotation_6d"]

_ROTATIONS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {  # size, and how to make a matrix of it
    "quaternion_xyzw": (4, lambda q: quaternion_to_matrix(q.roll(1, dims=-1))),
    "quaternion_wxyz": (4, quaternion_to_matrix),
    "axis_angle": (3, axis_angle_to_matrix),
    "rotation_6d": (6, rotation_6d_to_matrix),
}


@dataclass
class Pose:
    """A pose T = (p, R) as 9 numbers: position, and the first two rows of the rotation matrix.

    Relative to a reference it is `T_ref^-1 T = (R_ref^T (p - p_ref), R_ref^T R)`: as seen from the reference.

    Args:
        position_key: the low-dim observation that holds the measured position.
        rotation_key: the one that holds the measured rotation.
        rotation_rep: how that is written: quaternion_xyzw (robosuite, scipy), quaternion_wxyz, axis_angle or
            rotation_6d.
        position_start: where in that observation the position begins.
        rotation_start: where the rotation begins.
        rotation_offset: where the action's frame is fixed to the measured one but turned, its rotation in the
            measured frame: axis times angle in radians, (3,).

    Raises:
        ValueError: an unknown `rotation_rep`, or a `rotation_offset` of another size.
    """

    position_key: str
    rotation_key: str
    rotation_rep: MeasuredRotation = "quaternion_xyzw"
    position_start: int = 0
    rotation_start: int = 0
    rotation_offset: Sequence[float] = (0.0, 0.0, 0.0)

    size = 9

    def __post_init__(self) -> None:
        if self.rotation_rep not in _ROTATIONS:
            raise ValueError(
                f"action_repr: rotation_rep must be one of {', '.join(_ROTATIONS)}; got {self.rotation_rep!r}"
            )
        self.rotation_offset = tuple(self.rotation_offset)
        if len(self.rotation_offset) != 3:
            raise ValueError(
                f"action_repr: rotation_offset must be 3 numbers, axis times angle, got {self.rotation_offset}"
            )

    def sources(self) -> list[tuple[str, int, int]]:
        """What is read of an observation: key, first index, size."""
        rotation_size, _ = _ROTATIONS[self.rotation_rep]
        return [
            (self.position_key, self.position_start, 3),
            (self.rotation_key, self.rotation_start, rotation_size),
        ]

    def measured(self, obs: Observation) -> Tensor:
        """The measured pose (B, steps, 9)."""
        position, rotation = (obs[key][..., start : start + size] for key, start, size in self.sources())
        _, to_matrix = _ROTATIONS[self.rotation_rep]
        offset = axis_angle_to_matrix(torch.tensor(self.rotation_offset).to(rotation))
        return _joined(position, product(to_matrix(rotation), offset))

    def relative(self, target: Tensor, reference: Tensor) -> Tensor:
        """`T_ref^-1 T`."""
        position, rotation = _parted(target)
        origin, frame = _parted(reference)
        moved = product(frame.mT, (position - origin)[..., None])[..., 0]
        return _joined(moved, product(frame.mT, rotation))

    def absolute(self, relative: Tensor, reference: Tensor) -> Tensor:
        """`T_ref T`, the inverse of `relative`."""
        position, rotation = _parted(relative)
        origin, frame = _parted(reference)
        return _joined(origin + product(frame, position[..., None])[..., 0], product(frame, rotation))


@dataclass
class Vector:
    """Numbers such as positions, relative by difference: `a - a_ref`.

    Args:
        key: the low-dim observation that holds the measured value.
        size: how many numbers.
        start: where in that observation they begin.
    """

    key: str
    size: int
    start: int = 0

    def sources(self) -> list[tuple[str, int, int]]:
        """What is read of an observation: key, first index, size."""
        return [(self.key, self.start, self.size)]

    def measured(self, obs: Observation) -> Tensor:
        """The measured value (B, steps, size)."""
        return obs[self.key][..., self.start : self.start + self.size]

    def relative(self, target: Tensor, reference: Tensor) -> Tensor:
        """The difference."""
        return target - reference

    def absolute(self, relative: Tensor, reference: Tensor) -> Tensor:
        """The sum."""
        return reference + relative


@dataclass
class Absolute:
    """Numbers that stay as they are, such as the command of a gripper.

    Args:
        size: how many.
    """

    size: int

    def sources(self) -> list[tuple[str, int, int]]:
        """Nothing is read of an observation."""
        return []

    def measured(self, obs: Observation) -> Tensor:
        """Zeros (B, steps, size): nothing is relative to them."""
        first = next(iter(obs.values()))
        return first.new_zeros(*first.shape[:2], self.size)

    def relative(self, target: Tensor, reference: Tensor) -> Tensor:
        """The target itself."""
        return target

    def absolute(self, relative: Tensor, reference: Tensor) -> Tensor:
        """The target itself."""
        return relative


Part = Pose | Vector | Absolute


def check_part(part: Part, shape_meta: Mapping[str, Any]) -> None:
    """See that what a part reads is observed.

    Raises:
        ValueError: names the key, and what there is.
    """
    if part.size < 1:
        raise ValueError(f"action_repr: the size of a part must be at least 1, got {part}")
    low_dim = {
        key: meta["shape"]
        for key, meta in shape_meta["obs"].items()
        if meta.get("type", "low_dim") == "low_dim" and len(meta["shape"]) == 1
    }
    for key, start, size in part.sources():
        if key not in low_dim:
            raise ValueError(
                f"action_repr: {key!r} is no low-dim observation of one dimension, of which shape_meta has "
                f"{list(low_dim)}: an action can only be relative to what the policy observes"
            )
        if start < 0 or start + size > low_dim[key][0]:
            raise ValueError(
                f"action_repr: {type(part).__name__} reads {key}[{start}:{start + size}], but shape_meta gives "
                f"{key!r} {low_dim[key][0]} dimensions"
            )


def _parted(pose: Tensor) -> tuple[Tensor, Tensor]:
    """Position (..., 3) and rotation matrix (..., 3, 3)."""
    return pose[..., :3], rotation_6d_to_matrix(pose[..., 3:])


def _joined(position: Tensor, rotation: Tensor) -> Tensor:
    return torch.cat([position, matrix_to_rotation_6d(rotation)], dim=-1)

"""Rotations rewritten from one representation to another."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from diffusion_policy.common.rotation_matrix import (
    axis_angle_to_matrix,
    euler_angles_to_matrix,
    matrix_to_axis_angle,
    matrix_to_euler_angles,
    matrix_to_quaternion,
    matrix_to_rotation_6d,
    quaternion_to_matrix,
    rotation_6d_to_matrix,
)

Rep = Literal["axis_angle", "euler_angles", "quaternion", "rotation_6d", "matrix"]
ArrayT = TypeVar("ArrayT", np.ndarray, Tensor)

_SHAPES: dict[str, tuple[int, ...]] = {
    "axis_angle": (3,),
    "euler_angles": (3,),
    "quaternion": (4,),
    "rotation_6d": (6,),
    "matrix": (3, 3),
}


class RotationTransformer:
    """Rewrites rotations, and back.

    ==============  =========  =====================================================================
    representation  shape      meaning
    ==============  =========  =====================================================================
    axis_angle      (..., 3)   axis times angle in radians; angles in [0, pi] come out
    euler_angles    (..., 3)   radians about the axes of a convention such as "XYZ", each an axis of the frame
                               that the turns before made (intrinsic)
    quaternion      (..., 4)   w x y z, the real part first; unit ones with w >= 0 come out
    rotation_6d     (..., 6)   the first two rows of the matrix, one after the other (Zhou et al. 2019, who take
                               columns); others than orthonormal ones are made so by Gram-Schmidt
    matrix          (..., 3, 3)
    ==============  =========  =====================================================================

    Numpy arrays give numpy arrays, tensors give tensors (with gradients), of the same floating-point type.

    Args:
        from_rep: representation that `forward` takes.
        to_rep: representation that `forward` returns.
        from_convention: of Euler angles that `forward` takes: three axes of X, Y and Z, neighbours different.
        to_convention: of Euler angles that `forward` returns.

    Raises:
        ValueError: an unknown representation or convention; a convention where there are no Euler angles, or none
            where there are.
    """

    def __init__(
        self,
        from_rep: Rep = "axis_angle",
        to_rep: Rep = "rotation_6d",
        from_convention: str | None = None,
        to_convention: str | None = None,
    ) -> None:
        _check("from", from_rep, from_convention)
        _check("to", to_rep, to_convention)
        self.from_rep, self.to_rep = from_rep, to_rep
        self.from_convention, self.to_convention = from_convention, to_convention

    def forward(self, x: ArrayT) -> ArrayT:
        """Rewrite `from_rep` as `to_rep`.

        Raises:
            ValueError: `x` has not the shape of `from_rep`.
            TypeError: `x` does not hold floating-point numbers.
        """
        return _rewritten(x, self.from_rep, self.from_convention, self.to_rep, self.to_convention)

    def inverse(self, x: ArrayT) -> ArrayT:
        """Rewrite `to_rep` as `from_rep`; errors as in `forward`."""
        return _rewritten(x, self.to_rep, self.to_convention, self.from_rep, self.from_convention)


def _check(end: str, rep: str, convention: str | None) -> None:
    if rep not in get_args(Rep):
        raise ValueError(f"{end}_rep must be one of {', '.join(get_args(Rep))}; got {rep!r}")
    if rep != "euler_angles":
        if convention is not None:
            raise ValueError(
                f"{end}_convention is for {end}_rep=euler_angles alone: leave it out, got {convention!r} with {rep}"
            )
        return
    letters = convention or ""
    fits = len(letters) == 3 and set(letters) <= set("XYZ") and letters[0] != letters[1] != letters[2]
    if not fits:
        raise ValueError(
            f"{end}_convention must be three axes of X, Y and Z with different neighbours, as 'XYZ' (upper case: "
            f"each turn about an axis of the turned frame; the same turns in reverse order are about fixed axes); "
            f"got {convention!r}"
        )


def _rewritten(
    x: ArrayT, source: str, source_convention: str | None, target: str, target_convention: str | None
) -> ArrayT:
    shape: tuple[int, ...] = _SHAPES[source]
    given: tuple[int, ...] = tuple(x.shape)
    if given[-len(shape) :] != shape:
        wanted = ", ".join(["...", *map(str, shape)])
        raise ValueError(f"{source} must have shape ({wanted}), got {given}")
    # A copy of an array: torch takes no negative strides and warns of read-only memory.
    tensor = x if isinstance(x, Tensor) else torch.from_numpy(np.array(x))
    if not tensor.is_floating_point():
        raise TypeError(f"rotations must be floating-point numbers, got {x.dtype}: convert them to float32")
    to_matrix, _ = _conversions(source, source_convention)
    _, from_matrix = _conversions(target, target_convention)
    result = from_matrix(to_matrix(tensor))
    return result if isinstance(x, Tensor) else result.numpy()


_Conversion = Callable[[Tensor], Tensor]


_CONVERSIONS: dict[str, tuple[_Conversion, _Conversion]] = {  # to a matrix, and from one
    "axis_angle": (axis_angle_to_matrix, matrix_to_axis_angle),
    "quaternion": (quaternion_to_matrix, matrix_to_quaternion),
    "rotation_6d": (rotation_6d_to_matrix, matrix_to_rotation_6d),
    "matrix": (torch.clone, torch.clone),
}


def _conversions(rep: str, convention: str | None) -> tuple[_Conversion, _Conversion]:
    """To a matrix, and from one."""
    if rep != "euler_angles":
        return _CONVERSIONS[rep]
    assert convention is not None, "checked by the constructor"
    to_matrix = partial(euler_angles_to_matrix, convention=convention)
    return to_matrix, partial(matrix_to_euler_angles, convention=convention)

"""Rotation matrices from and to the other ways of writing a rotation; torch, any leading dimensions, differentiable.

A matrix R (..., 3, 3) maps coordinates in the rotated frame to those in the fixed one, its columns being the axes
of the rotated frame. All formulae hold at angle 0 and pi, and gradients are finite there; Euler angles have none
in gimbal lock. Products are written out: `@` may round to bfloat16 or TF32 where a network is trained.
"""

import torch
from torch import Tensor
from torch.nn import functional

_NEAR_ZERO = 1e-6  # squares below: a series, whose gradient does not divide by zero


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula, `R = I + sin(a)/a K + (1 - cos(a))/a^2 K^2` with a = |v| and K x = v cross x.

    Args:
        axis_angle: v (..., 3), the axis times the angle in radians.
    """
    square = axis_angle.square().sum(-1)[..., None, None]  # a^2
    cross = _cross_matrix(axis_angle)
    half = _sinc(square / 4)
    # (1 - cos(a)) / a^2 = sinc(a/2)^2 / 2, without a difference of almost equal numbers
    return _identity(cross) + _sinc(square) * cross + half.square() / 2 * product(cross, cross)


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """The axis times the angle, which is in [0, pi]: (..., 3) from (..., 3, 3)."""
    quaternion = matrix_to_quaternion(matrix)
    real, imaginary = quaternion[..., :1], quaternion[..., 1:]  # cos(a/2), sin(a/2) times the axis
    square = imaginary.square().sum(-1, keepdim=True)
    is_small = square < _NEAR_ZERO
    sine = torch.where(is_small, 1.0, square).sqrt()
    ratio = torch.where(is_small, 1 + square / 6 + square.square() * 3 / 40, torch.atan2(sine, real) / sine)
    return 2 * ratio * imaginary


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """`R = I + 2/|q|^2 (w K + K^2)` with K x = (x, y, z) cross x.

    Args:
        quaternion: (..., 4), w x y z: the real part first; of any length but 0.
    """
    real, cross = quaternion[..., :1, None], _cross_matrix(quaternion[..., 1:])
    square = quaternion.square().sum(-1)[..., None, None]
    return _identity(cross) + 2 / square * (real * cross + product(cross, cross))


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """The unit quaternion w x y z with w >= 0: (..., 4) from (..., 3, 3).

    The matrix gives all products 4 q_i q_j. Divided by the largest component (Shepperd 1978), none is lost to
    rounding.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in matrix.unbind(-2))
    products = torch.stack(
        [
            torch.stack([1 + a + e + i, h - f, c - g, d - b], dim=-1),
            torch.stack([h - f, 1 + a - e - i, b + d, c + g], dim=-1),
            torch.stack([c - g, b + d, 1 - a + e - i, f + h], dim=-1),
            torch.stack([d - b, c + g, f + h, 1 - a - e + i], dim=-1),
        ],
        dim=-2,
    )  # (..., 4, 4)
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    quaternion = functional.normalize(products.gather(-2, index)[..., 0, :], dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def rotation_6d_to_matrix(rotation_6d: Tensor) -> Tensor:
    """Gram-Schmidt on two rows (Zhou et al. 2019, section 4.2, there on columns): (..., 3, 3).

    Args:
        rotation_6d: (..., 6), two rows that need be neither orthogonal nor of length 1.
    """
    first = functional.normalize(rotation_6d[..., :3], dim=-1)
    second = rotation_6d[..., 3:]
    second = functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-2)


def matrix_to_rotation_6d(matrix: Tensor) -> Tensor:
    """The first two rows, (..., 6)."""
    return matrix[..., :2, :].flatten(-2)


def euler_angles_to_matrix(angles: Tensor, convention: str) -> Tensor:
    """`R = R_a(angles[0]) R_b(angles[1]) R_c(angles[2])`, about the axes a, b, c of `convention`.

    Args:
        angles: (..., 3), radians.
        convention: such as "XYZ", intrinsic: each turn is about an axis of the frame that the turns before made.
    """
    axes = _identity(angles)[list(_axes(convention))]  # (3, 3), one to a row
    first, second, third = axis_angle_to_matrix(angles[..., None] * axes).unbind(-3)
    return product(product(first, second), third)


def matrix_to_euler_angles(matrix: Tensor, convention: str) -> Tensor:
    """The angles (..., 3) of `euler_angles_to_matrix`.

    The first and third are in [-pi, pi], the second in [-pi/2, pi/2], or in [0, pi] where the first axis is also the
    last. In gimbal lock the first and third are not unique; those returned make the same rotation.
    """
    i, j, last = _axes(convention)
    k = 3 - i - j
    sign = 1 if (i + 1) % 3 == j else -1  # whether i, j, k are right-handed
    if last == i:
        first = torch.atan2(matrix[..., j, i], -sign * matrix[..., k, i])
        sine = torch.hypot(matrix[..., j, i], matrix[..., k, i])
        second = torch.atan2(sine, matrix[..., i, i])
    else:
        first = torch.atan2(-sign * matrix[..., j, k], matrix[..., k, k])
        cosine = torch.hypot(matrix[..., i, i], matrix[..., i, j])
        second = torch.atan2(sign * matrix[..., i, k], cosine)
    # Row j of what is left after undoing the first turn: the second, about j, does not change it.
    row = (
        torch.cos(first)[..., None] * matrix[..., j, :]
        + sign * torch.sin(first)[..., None] * matrix[..., k, :]
    )
    sine = -sign * row[..., k] if last == i else sign * row[..., i]
    return torch.stack([first, second, torch.atan2(sine, row[..., j])], dim=-1)


def product(first: Tensor, second: Tensor) -> Tensor:
    """The matrix product (..., 3, n) of (..., 3, 3) and (..., 3, n)."""
    return (first[..., None] * second[..., None, :, :]).sum(-2)


def _identity(like: Tensor) -> Tensor:
    return torch.eye(3, dtype=like.dtype, device=like.device)


def _axes(convention: str) -> tuple[int, int, int]:
    first, second, third = ("XYZ".index(letter) for letter in convention)
    return first, second, third


def _sinc(square: Tensor) -> Tensor:
    """sin(a) / a of a^2."""
    is_small = square < _NEAR_ZERO
    angle = torch.where(is_small, 1.0, square).sqrt()
    return torch.where(is_small, 1 - square / 6 + square.square() / 120, torch.sin(angle) / angle)


def _cross_matrix(vector: Tensor) -> Tensor:
    """K (..., 3, 3) with K u = vector cross u."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)

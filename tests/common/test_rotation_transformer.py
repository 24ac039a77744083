"""Tests for rotation_transformer.py and rotation_matrix.py, against scipy."""

import warnings
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from diffusion_policy.common.rotation_transformer import RotationTransformer

TAIT_BRYAN = ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"]
PROPER = ["XYX", "XZX", "YXY", "YZY", "ZXZ", "ZYZ"]
CONVENTIONS = TAIT_BRYAN + PROPER
REPS = [
    ("axis_angle", None),
    ("quaternion", None),
    ("rotation_6d", None),
    ("matrix", None),
    *(("euler_angles", convention) for convention in CONVENTIONS),
]
every_rep = pytest.mark.parametrize(("rep", "convention"), REPS)
EDGE_ANGLES = [0.0, 1e-12, 1e-7, 1e-4, np.pi / 2, np.pi - 1e-3, np.pi - 1e-7, np.pi - 1e-12, np.pi]
AXES = np.array([(1, 0, 0), (0, -1, 0), (0, 0, 1), (1, 1, 0), (-1, 0, 1), (1, 2, -3), (-3, 1, 1e-9)], float)
AXES /= np.linalg.norm(AXES, axis=1, keepdims=True)
EDGES = Rotation.from_rotvec([angle * axis for angle in EDGE_ANGLES for axis in AXES])

angles = st.floats(-np.pi, np.pi)
unit = st.floats(-1, 1)
rotations = st.one_of(
    st.tuples(unit, unit, unit, unit)
    .filter(lambda q: np.linalg.norm(q) > 1e-3)
    .map(lambda q: Rotation.from_quat(np.array(q))),
    st.tuples(st.sampled_from(list(AXES)), st.sampled_from(EDGE_ANGLES)).map(
        lambda pair: Rotation.from_rotvec(pair[0] * pair[1])
    ),
    st.tuples(
        st.sampled_from(CONVENTIONS), angles, st.sampled_from([-np.pi / 2, 0, np.pi / 2, np.pi]), angles
    ).map(lambda lock: Rotation.from_euler(lock[0], lock[1:])),
)


def written(rotation: Rotation, rep: str, convention: str | None) -> np.ndarray:
    """By scipy."""
    if rep == "euler_angles":
        assert convention is not None
        return rotation.as_euler(convention)
    if rep == "quaternion":
        return rotation.as_quat(canonical=True)[..., [3, 0, 1, 2]]
    if rep == "rotation_6d":
        return rotation.as_matrix()[..., :2, :].reshape(*rotation.as_matrix().shape[:-2], 6)
    return {"axis_angle": rotation.as_rotvec, "matrix": rotation.as_matrix}[rep]()


def read(values: np.ndarray, rep: str, convention: str | None) -> Rotation:
    """By scipy."""
    if rep == "euler_angles":
        assert convention is not None
        return Rotation.from_euler(convention, values)
    if rep == "quaternion":
        return Rotation.from_quat(values[..., [1, 2, 3, 0]])
    if rep == "rotation_6d":
        first, second = values[..., :3], values[..., 3:]
        return Rotation.from_matrix(np.stack([first, second, np.cross(first, second)], axis=-2))
    return {"axis_angle": Rotation.from_rotvec, "matrix": Rotation.from_matrix}[rep](values)


def between(one: Rotation, other: Rotation) -> float:
    """The largest angle between two rotations, measured by the chord, which is exact for small ones."""
    return float(np.abs(one.as_matrix() - other.as_matrix()).max())


@every_rep
@settings(max_examples=30)
@given(rotation=rotations)
def test_matrices_are_read_as_by_scipy(rep, convention, rotation):
    values = RotationTransformer("matrix", rep, to_convention=convention).forward(rotation.as_matrix())
    assert between(read(values, rep, convention), rotation) < 1e-12


@every_rep
@settings(max_examples=30)
@given(rotation=rotations)
def test_matrices_are_made_as_by_scipy(rep, convention, rotation):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gimbal lock")  # scipy sets the third angle to 0
        values = written(rotation, rep, convention)
    matrix = RotationTransformer(rep, "matrix", from_convention=convention).forward(values)
    np.testing.assert_allclose(matrix, read(values, rep, convention).as_matrix(), rtol=0, atol=1e-12)


@every_rep
def test_values_are_scipys_where_they_are_unique(rep, convention):
    rotation = Rotation.random(200, rng=np.random.default_rng(0))
    values = RotationTransformer("matrix", rep, to_convention=convention).forward(rotation.as_matrix())
    np.testing.assert_allclose(values, written(rotation, rep, convention), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("source", "target"), list(product(REPS, REPS[:6])))
def test_round_trips_also_at_angles_0_and_pi(source, target):
    transformer = RotationTransformer(source[0], target[0], source[1], target[1])
    values = RotationTransformer("matrix", source[0], to_convention=source[1]).forward(EDGES.as_matrix())
    again = transformer.inverse(transformer.forward(values))
    assert between(read(again, *source), EDGES) < 1e-11
    if source[0] in ("rotation_6d", "matrix"):  # unique at every rotation
        np.testing.assert_allclose(again, values, rtol=0, atol=1e-11)


def test_small_angles_keep_their_relative_accuracy():
    """1e-9 rad: formulae with 1 - cos(a) or acos would return noise or 0."""
    small = np.array([[1e-9, -2e-9, 3e-9], [0.0, 0.0, 0.0]])
    for rep in ("quaternion", "rotation_6d", "matrix"):
        transformer = RotationTransformer("axis_angle", rep)
        np.testing.assert_allclose(transformer.inverse(transformer.forward(small)), small, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_rep
def test_type_kind_and_leading_dimensions_are_kept(rep, convention, dtype):
    transformer = RotationTransformer("axis_angle", rep, to_convention=convention)
    vectors = Rotation.random(6, rng=np.random.default_rng(1)).as_rotvec().astype(dtype)
    flat = transformer.forward(vectors)
    for lead in ((), (1,), (3, 2), (2, 1, 3), (0,)):
        given_array = np.resize(vectors, (*lead, 3))
        ours = transformer.forward(given_array)
        theirs = transformer.forward(torch.from_numpy(given_array.copy()))
        assert isinstance(ours, np.ndarray)
        assert isinstance(theirs, torch.Tensor)
        assert str(ours.dtype) == dtype == str(theirs.dtype).removeprefix("torch.")
        assert ours.shape == tuple(theirs.shape) == (*lead, *flat.shape[1:])
        np.testing.assert_array_equal(ours, theirs.numpy())
        assert transformer.inverse(ours).shape == (*lead, 3)


def test_numpy_views_and_read_only_arrays_will_do():
    vectors = np.arange(12.0).reshape(4, 3) / 10
    vectors.flags.writeable = False
    transformer = RotationTransformer()
    np.testing.assert_array_equal(transformer.forward(vectors[::-1]), transformer.forward(vectors)[::-1])


def test_what_a_network_predicts_is_made_a_rotation():
    predicted = np.array([2.0, 0, 0, 5, 3, 0])  # neither of length 1 nor orthogonal
    matrix = RotationTransformer("rotation_6d", "matrix").forward(predicted)
    np.testing.assert_allclose(matrix, np.eye(3), atol=1e-15)
    quaternion = np.array([2.0, 0, 0, 2.0])
    np.testing.assert_allclose(
        RotationTransformer("quaternion", "axis_angle").forward(quaternion), [0, 0, np.pi / 2]
    )


SMOOTH = [pair for pair in product(REPS[:4], REPS[:4]) if pair[0] != pair[1]]


@pytest.mark.parametrize(("source", "target"), SMOOTH)
def test_gradients_are_right_and_finite_at_angle_0(source, target):
    for vector in ([0.0, 0.0, 0.0], [1e-9, 0.0, 0.0], [1e-3, 2e-3, 0.0], [0.5, -1.0, 2.0]):
        start = RotationTransformer("axis_angle", source[0]).forward(np.array(vector))
        values = torch.from_numpy(start).requires_grad_()
        transformer = RotationTransformer(source[0], target[0])
        gradient = torch.autograd.functional.jacobian(transformer.forward, values)
        assert gradient.isfinite().all()
        assert torch.autograd.gradcheck(transformer.forward, values, eps=1e-7, atol=2e-5)


def test_gradients_are_finite_at_angle_pi():
    values = torch.tensor([[np.pi, 0, 0], [0, 0, np.pi]], requires_grad=True)
    for rep, _ in REPS[1:4]:
        transformer = RotationTransformer("axis_angle", rep)
        transformer.inverse(transformer.forward(values)).square().sum().backward()
        assert values.grad is not None
        assert values.grad.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"from_rep": "rotvec"}, "from_rep must be one of axis_angle, .*got 'rotvec'"),
        ({"to_rep": "6d"}, "to_rep must be one of"),
        ({"to_rep": "euler_angles"}, "to_convention must be three axes.*got None"),
        ({"to_rep": "euler_angles", "to_convention": "xyz"}, "upper case.*got 'xyz'"),
        ({"to_rep": "euler_angles", "to_convention": "XXY"}, "different neighbours.*got 'XXY'"),
        ({"from_rep": "euler_angles", "from_convention": "XYZX"}, "from_convention must be three axes"),
        ({"from_convention": "XYZ"}, "from_convention is for from_rep=euler_angles alone"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        RotationTransformer(**arguments)


def test_bad_values_are_named():
    with pytest.raises(ValueError, match=r"axis_angle must have shape \(..., 3\), got \(2, 4\)"):
        RotationTransformer().forward(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"rotation_6d must have shape \(..., 6\), got \(3,\)"):
        RotationTransformer().inverse(torch.zeros(3))
    with pytest.raises(TypeError, match="got int64: convert them to float32"):
        RotationTransformer().forward(np.zeros(3, np.int64))

"""Rotations that are none, or jump where the robot does not; which key holds one is guessed by name and shape."""

import math
import re
from collections.abc import Callable

import numpy as np

from diffusion_policy.dataset.checks.finding import Finding, in_episodes
from diffusion_policy.dataset.checks.recording import Recording

UNIT_TOLERANCE = 0.01  # of lengths and angles: float16 is better than that
_GUESSES = {
    "quaternions": re.compile(r"quat"),
    "6D rotations": re.compile(r"6d"),
    "rotation matrices": re.compile(r"rot|mat"),
    "rotation vectors": re.compile(r"axis_?angle|rot_?vec|pose"),
    "Euler angles": re.compile(r"euler|rpy|roll|pitch|yaw|theta|angle"),
}


def check_rotations(recording: Recording) -> list[Finding]:
    """All keys that look like rotations."""
    findings = []
    for key, values in recording.columns.items():
        kind = guessed_kind(key, recording.buffer[key].shape[1:])
        if kind is not None:
            findings += _CHECKS[kind](recording, key, values)
    return findings


def guessed_kind(key: str, shape: tuple[int, ...]) -> str | None:
    """What kind of rotation a key holds by its name and the shape of a step; None if it seems to hold none."""
    if "vel" in key:
        return None
    fits = {
        "quaternions": shape == (4,),
        "6D rotations": shape == (6,),
        "rotation matrices": shape == (3, 3),
        "rotation vectors": shape == (3,) or (shape == (6,) and "pose" in key),
        "Euler angles": math.prod(shape) <= 3,
    }
    named = [kind for kind, pattern in _GUESSES.items() if fits[kind] and pattern.search(key)]
    if shape == (3,) and "pose" in key:  # planar: x, y, angle
        return None
    return named[0] if named else None


def _check_quaternions(recording: Recording, key: str, values: np.ndarray) -> list[Finding]:
    off = np.abs(np.linalg.norm(values, axis=1) - 1)
    flips = (values[1:] * values[:-1]).sum(1) < 0
    return [
        *_broken(recording, key, "quaternions", "have length 1", off),
        *_jumping(recording, key, "quaternions", "change sign", flips),
    ]


def _check_6d(recording: Recording, key: str, values: np.ndarray) -> list[Finding]:
    vectors = values.reshape(-1, 2, 3)
    return _broken(
        recording, key, "6D rotations", "are two perpendicular unit vectors", _not_orthonormal(vectors)
    )


def _check_matrices(recording: Recording, key: str, values: np.ndarray) -> list[Finding]:
    matrices = values.reshape(-1, 3, 3)
    off = np.maximum(_not_orthonormal(matrices), np.abs(np.linalg.det(matrices) - 1))
    return _broken(recording, key, "rotation matrices", "are orthonormal and right-handed", off)


def _not_orthonormal(vectors: np.ndarray) -> np.ndarray:
    """Greatest entry of V V^T - I, (n,)."""
    gram = vectors @ vectors.swapaxes(1, 2)
    return np.abs(gram - np.eye(gram.shape[1])).max((1, 2))


def _check_rotation_vectors(recording: Recording, key: str, values: np.ndarray) -> list[Finding]:
    jumps = np.linalg.norm(np.diff(values[:, -3:], axis=0), axis=1) > np.pi
    return _jumping(recording, key, "rotation vectors", "wrap around", jumps)


def _check_euler_angles(recording: Recording, key: str, values: np.ndarray) -> list[Finding]:
    span = np.ptp(values, axis=0)
    half_turn = np.where(span <= 2 * np.pi + UNIT_TOLERANCE, np.pi, 180.0)
    jumps = np.asarray((np.abs(np.diff(values, axis=0)) > half_turn).any(1))
    return _jumping(recording, key, "Euler angles", "wrap around", jumps)


def _broken(recording: Recording, key: str, kind: str, rule: str, off: np.ndarray) -> list[Finding]:
    steps = np.flatnonzero(off > UNIT_TOLERANCE)
    if len(steps) == 0:
        return []
    episodes = recording.episodes_of(steps)
    message = (
        f"taken for {kind} by its name and shape, which {rule}; off by up to {off.max():.3g} at {len(steps)} steps "
        f"{in_episodes(episodes)}, first at row {steps[0]}"
    )
    return [
        Finding(
            "error", "rotations", key, episodes, message, "Normalise them, or rename the key if it is none"
        )
    ]


def _jumping(recording: Recording, key: str, kind: str, how: str, jumps: np.ndarray) -> list[Finding]:
    steps = np.flatnonzero(jumps & recording.within)
    if len(steps) == 0:
        return []
    episodes = recording.episodes_of(steps)
    message = (
        f"taken for {kind} by its name and shape; they {how} from one step to the next at {len(steps)} steps "
        f"{in_episodes(episodes)}, first after row {steps[0]}"
    )
    advice = "Equal rotations then look far apart: keep the sign or branch, or store them as 6D rotations"
    return [Finding("warning", "rotations", key, episodes, message, advice)]


_CHECKS: dict[str, Callable[[Recording, str, np.ndarray], list[Finding]]] = {
    "quaternions": _check_quaternions,
    "6D rotations": _check_6d,
    "rotation matrices": _check_matrices,
    "rotation vectors": _check_rotation_vectors,
    "Euler angles": _check_euler_angles,
}

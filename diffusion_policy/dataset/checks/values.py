"""Values that cannot be meant or tell nothing: NaN, constant and duplicated dimensions."""

import numpy as np

from diffusion_policy.dataset.checks.finding import Finding, in_episodes, ranges
from diffusion_policy.dataset.checks.recording import Recording

# Two series whose correlation differs from 1 by less than rounding to float32 may cause ...
SAME_CORRELATION = 1 - 1e-6
# ... and of which a line maps one to the other up to this share of its range are copies of each other.
SAME_RESIDUAL = 1e-4
CORRELATED_ROWS = 20_000  # evenly spaced; enough to tell who is not a copy


def check_finite(recording: Recording) -> list[Finding]:
    """NaN and infinity."""
    findings = []
    for key, array in recording.buffer.items():
        if array.dtype.kind != "f":
            continue
        bad = np.flatnonzero(~np.isfinite(np.asarray(array)).reshape(len(array), -1).all(1))
        if len(bad):
            episodes = recording.episodes_of(bad)
            message = f"NaN or infinity in {len(bad)} steps {in_episodes(episodes)}, first at row {bad[0]}"
            advice = "Remove or repair these episodes: training refuses them"
            findings.append(Finding("error", "not finite", key, episodes, message, advice))
    return findings


def check_constant(recording: Recording) -> list[Finding]:
    """Dimensions that never change."""
    findings = []
    for key, values in recording.learned.items():
        constant = np.flatnonzero(np.ptp(values, axis=0) == 0)
        if len(constant) and len(values) > 1:
            which = "never changes" if values.shape[1] == 1 else _dims(constant, values.shape[1])
            message = f"{which} (first value {values[0, constant[0]]:g})"
            advice = "Harmless to training if it is meant so; a dead sensor if not"
            findings.append(Finding("warning", "constant", key, (), message, advice))
    return findings


def _dims(constant: np.ndarray, n_dims: int) -> str:
    return f"{len(constant)} of {n_dims} dimensions never change: {ranges(constant.tolist())}"


def check_duplicated(recording: Recording) -> list[Finding]:
    """Dimensions that are copies of others, or a line a x + b of others."""
    names = [(key, dim) for key, values in recording.learned.items() for dim in range(values.shape[1])]
    if not names or recording.buffer.n_steps < 3:
        return []
    matrix = np.concatenate(list(recording.learned.values()), axis=1)
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for i, j in _copies(matrix):
        (key, dim), (other, other_dim) = names[i], names[j]
        pairs.setdefault((key, other), []).append((dim, other_dim))
    return [_duplicate(key, other, dims) for (key, other), dims in pairs.items()]


def _copies(matrix: np.ndarray) -> list[tuple[int, int]]:
    """Column pairs i < j of which each is a line of the other; every column j is paired once."""
    varying = np.flatnonzero(np.ptp(matrix, axis=0) > 0)
    values = matrix[:, varying]
    rows = values[:: max(1, len(values) // CORRELATED_ROWS)]
    centred = rows - rows.mean(0)
    scale = np.sqrt((centred**2).sum(0))
    centred /= np.where(scale > 0, scale, 1)
    found: dict[int, int] = {}
    for i, j in np.argwhere(np.triu(np.abs(centred.T @ centred) > SAME_CORRELATION, 1)):
        if j not in found and _is_line(values[:, i], values[:, j]):
            found[int(j)] = int(i)
    return [(int(varying[i]), int(varying[j])) for j, i in found.items()]


def _is_line(x: np.ndarray, y: np.ndarray) -> bool:
    x = x - x.mean()
    slope = (x @ (y - y.mean())) / (x @ x)
    return bool(np.abs(y - y.mean() - slope * x).max() <= SAME_RESIDUAL * np.ptp(y))


def _duplicate(key: str, other: str, dims: list[tuple[int, int]]) -> Finding:
    first, second = dims[0]
    also = f" and {len(dims) - 1} more pairs" if len(dims) > 1 else ""
    message = f"dimension {second} repeats {key}[{first}] in every step, up to a factor and a shift{also}"
    if "action" in (key, other) and key != other:
        observed = other if key == "action" else key
        message = f"{observed} holds the action of the same step: {message}"
        advice = "A policy that sees it learns to copy it: leave this observation out"
        return Finding("error", "duplicated", other, (), message, advice)
    return Finding("warning", "duplicated", other, (), message, "Leave one out, or mend the recording")

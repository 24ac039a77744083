"""Observations and actions that are out of step.

An action that is a target position moves the state towards it: from step t to t + 1 the state changes by about
k (a[t] - s[t]). An action that is a velocity or a displacement changes it by about k a[t]. If another action than
that of step t explains the change much better, the recording has shifted one against the other.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

from diffusion_policy.dataset.checks.finding import Finding
from diffusion_policy.dataset.checks.motion import segments
from diffusion_policy.dataset.checks.recording import Recording

MAX_LAG = 5  # steps
CLEAR = 0.9  # least correlation of the best shift; below it nothing is said
BETTER = 2.0  # times as much of the variance must be left unexplained without the shift
SAME_UNITS = 0.5  # rms of action - state over the state's standard deviation: then the action is a position
LEAST_STEPS = 100
MAX_STEPS = 50_000  # looked at


class _Fit(NamedTuple):
    lag: int
    correlation: float
    at_zero: float


def check_alignment(recording: Recording) -> list[Finding]:
    """Shift between state and action, where the correlation is clear."""
    state, action = recording.state[:MAX_STEPS], recording.action[:MAX_STEPS]
    stretch = segments(recording)[:MAX_STEPS]
    fits = [fit for target in _varying(action).T if (fit := _best_fit(stretch, _varying(state), target))]
    clear = [fit for fit in fits if fit.correlation >= CLEAR]
    if not clear:
        return []
    lag, votes = Counter(fit.lag for fit in clear).most_common(1)[0]
    agreeing = [fit for fit in clear if fit.lag == lag and _is_better(fit)]
    if lag == 0 or not agreeing or 2 * votes < len(clear):
        return []
    best = max(agreeing, key=lambda fit: fit.correlation)
    steps = f"{abs(lag)} step{'s' if abs(lag) > 1 else ''}"
    order = f"{steps} late" if lag > 0 else f"{steps} early"
    message = (
        f"seems to be recorded {order}: the change of the state after step t follows the action of step "
        f"t {'+' if lag > 0 else '-'} {abs(lag)} (correlation {best.correlation:.3f}; {best.at_zero:.3f} for step "
        f"t; {len(agreeing)} of {action.shape[1]} dimensions)"
    )
    advice = (
        "A robot may react that late: measure its delay, and shift the actions only if it is shorter"
        if lag < 0
        else "Shift the actions: no robot knows them beforehand"
    )
    return [Finding("warning", "out of step", "action", (), message, advice)]


def _varying(values: np.ndarray) -> np.ndarray:
    return values[:, np.ptp(values, axis=0) > 0] if len(values) else values


def _is_better(fit: _Fit) -> bool:
    return 1 - fit.at_zero**2 >= BETTER * (1 - fit.correlation**2)


def _best_fit(stretch: np.ndarray, state: np.ndarray, target: np.ndarray) -> _Fit | None:
    """How one dimension of the action explains the state's changes; None if nothing can be said."""
    if state.shape[1] == 0 or len(state) < LEAST_STEPS:
        return None
    fits = [_velocity_fit(stretch, state, target)]
    distance = np.sqrt(((target[:, None] - state) ** 2).mean(0)) / state.std(0)
    nearest = int(distance.argmin())
    if distance[nearest] < SAME_UNITS:
        fits.append(_position_fit(stretch, state[:, nearest], target))
    return max(fits, key=lambda fit: fit.correlation)


def _position_fit(stretch: np.ndarray, position: np.ndarray, target: np.ndarray) -> _Fit:
    change = np.diff(position)
    profile = {}
    for lag in range(-MAX_LAG, MAX_LAG + 1):
        steps = _usable_steps(stretch, lag)
        profile[lag] = _correlation(change[steps, None], target[steps + lag] - position[steps])[0]
    return _peak(profile)


def _velocity_fit(stretch: np.ndarray, state: np.ndarray, target: np.ndarray) -> _Fit:
    """Of the dimension that follows the action best."""
    change = np.diff(state, axis=0)
    profiles = {}
    for lag in range(-MAX_LAG, MAX_LAG + 1):
        steps = _usable_steps(stretch, lag)
        profiles[lag] = np.abs(_correlation(change[steps], target[steps + lag]))
    followed = int(np.max(list(profiles.values()), axis=0).argmax())
    return _peak({lag: float(profile[followed]) for lag, profile in profiles.items()})


def _peak(profile: dict[int, float]) -> _Fit:
    lag = max(profile, key=lambda candidate: profile[candidate])
    return _Fit(lag, float(profile[lag]), float(profile[0]))


def _usable_steps(stretch: np.ndarray, lag: int) -> np.ndarray:
    """Steps t of which t + 1 and t + lag are in the same stretch."""
    steps = np.arange(max(0, -lag), len(stretch) - max(1, lag))
    same = (stretch[steps + 1] == stretch[steps]) & (stretch[steps + lag] == stretch[steps])
    return steps[same]


def _correlation(columns: np.ndarray, series: np.ndarray) -> np.ndarray:
    """Of each column with a series, (D,); 0 where one of them is constant."""
    if len(series) < LEAST_STEPS // 2:
        return np.zeros(columns.shape[1])
    columns, series = columns - columns.mean(0), series - series.mean()
    scale = np.sqrt((columns**2).sum(0) * (series @ series))
    return np.where(scale > 0, series @ columns / np.where(scale > 0, scale, 1), 0)

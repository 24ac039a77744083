"""Checks of the order of steps: are observations in sequence, and do actions belong to their observations?"""

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.scripts.diagnosis.check import Check, Table, Verdict
from diffusion_policy.scripts.diagnosis.recordings import Array, Recordings, actions, features

MAX_LAG = 3
SHUFFLED = 0.7  # 1 where neighbours in time are no more alike than any two steps of an episode
MOVED_BY_ACTION = 0.7  # residual variance below which a dimension counts as moved by the action
CLEARLY_BETTER = 0.5  # residual variance at the best lag, as a share of that at lag 0
EXPLAINED = 0.4  # residual variance above which no lag is to be trusted
ROWS_PER_COLUMN = 4  # for a regression that can be trusted


def check_continuity(recordings: Recordings) -> Check:
    """Whether observations and actions change little from one step to the next, as in a recording.

    The mean squared change per step is divided by that between random steps of the same episode.
    """
    keys = list(recordings.held_out[0]["obs"])
    values = {key: [features(episode["obs"][key]) for episode in recordings.all] for key in keys}
    values["action"] = [actions(episode) for episode in recordings.all]
    changes = {key: _relative_change(rows) for key, rows in values.items()}
    broken = [key for key, change in changes.items() if change >= SHUFFLED]  # False for NaN
    observed = [key for key in keys if not np.isnan(changes[key])]
    # One noisy sensor, or a gripper that snaps, is a habit; that no observation is in order is a fault.
    is_bad = len(observed) > 0 and all(key in broken for key in observed)
    verdict: Verdict = "bad" if is_bad else "look" if broken else "ok"
    figure = "Change per step, 1 being any two steps of the episode: " + ", ".join(
        f"{key} still" if np.isnan(change) else f"{key} {change:.3f}" for key, change in changes.items()
    )
    advice = "Neighbouring steps are alike, as they are in a recording."
    if broken:
        what = " and ".join(broken)
        advice = (
            f"Successive steps of {what} are no more alike than any two of an episode: the steps of {what} were "
            "shuffled (a wrong index, a join by the wrong key), or hold noise. Nothing can be learned from "
            "shuffled steps: write the data again, each step's observation beside its action."
        )
    return Check("continuity", "Steps in order", verdict, figure, advice)


def _relative_change(episodes: list[Array]) -> float:
    """Change per step over change between random steps, median over dimensions; NaN if nothing changes."""
    random = np.random.default_rng(0)
    between_neighbours = np.zeros(episodes[0].shape[1])
    between_any = np.zeros_like(between_neighbours)
    for rows in episodes:
        any_order = rows[random.permutation(len(rows))]
        between_neighbours += np.sum(np.diff(rows, axis=0) ** 2, axis=0)
        between_any += np.sum(np.diff(any_order, axis=0) ** 2, axis=0)
    moving = between_any > 0
    return float(np.median(between_neighbours[moving] / between_any[moving])) if moving.any() else np.nan


def check_alignment(recordings: Recordings) -> Check:
    """Whether the change of the observation from t to t+1 is explained by the action of step t.

    A linear model predicts the change from the observations at t and t-1 and the action at t + lag. Where the
    action acts, the residual is smallest at its own step: at lag 0. At a lag of +1 actions are stored a step
    late; at a negative lag they act late, as with a slow robot.
    """
    name, title = "alignment", "Action and observation in step"
    if not recordings.low_dim_keys:
        return Check.not_measured(name, title, "There are only images, whose change no linear model explains")
    lags = range(-MAX_LAG, MAX_LAG + 1)
    rows = _Transitions.of(recordings)
    if rows is None:
        return Check.not_measured(name, title, "Too few steps for a regression")
    residuals = np.stack([rows.residual(lag) for lag in lags])  # (lags, D)
    moved = residuals.min(axis=0) < MOVED_BY_ACTION
    if not moved.any():
        reason = "No dimension of the observation visibly follows the action"
        return Check.not_measured(name, title, reason)
    mean = residuals[:, moved].mean(axis=1)  # (lags,)
    best, at_zero = lags[int(mean.argmin())], float(mean[MAX_LAG])
    if best != 0 and mean.min() > EXPLAINED:
        reason = f"At no lag does the action explain the next change (unexplained: at least {mean.min():.1%})"
        return Check.not_measured(name, title, reason)
    is_clear = mean.min() < CLEARLY_BETTER * at_zero
    verdict, advice = _lag_verdict(best if is_clear else 0)
    moved_names = [n for n, is_moved in zip(recordings.low_dim_names(), moved, strict=True) if is_moved]
    figure = (
        f"The action explains the next change of {len(moved_names)} dimensions best at lag {best:+d} "
        f"(unexplained: {mean.min():.1%}; at lag 0: {at_zero:.1%})"
    )
    table = Table(
        f"Unexplained variance of the change of {', '.join(moved_names[:4])}{'...' * (len(moved_names) > 4)}",
        tuple(f"lag {lag:+d}" for lag in lags),
        (tuple(round(float(value), 3) for value in mean),),
    )
    return Check(name, title, verdict, figure, advice, (table,))


def _lag_verdict(lag: int) -> tuple[Verdict, str]:
    steps = "one step" if abs(lag) == 1 else f"{abs(lag)} steps"
    if lag == 0:
        return "ok", "Each step holds the action that was executed from its observation."
    if lag > 0:
        return "bad", (
            f"Actions are stored {steps} late: what moves the robot from step t to t+1 stands at step t+{lag} (or "
            f"the action is a copy of the observation). The policy learns to repeat the past. Shift the actions "
            f"{steps} forward within each episode, action[t] = action[t+{lag}], and drop what is left over."
        )
    return "look", (
        f"Actions act {steps} after they are stored: the robot or its controller is that slow, or the actions are "
        f"stored early. Measure the delay; if it is not the robot's, shift the actions {steps} back."
    )


class _Transitions:
    """Changes of the observation, and what may explain them; rows of two groups, to fit and to test.

    Args:
        episodes: observations (L, D) and actions (L, Da).
    """

    def __init__(self, episodes: list[tuple[Array, Array]]) -> None:
        changes, known, groups = [], [], []
        self._episodes = episodes
        for number, (obs, _) in enumerate(episodes):
            t = _inner_steps(obs)
            changes.append(obs[t + 1] - obs[t])
            known.append(np.concatenate([obs[t], obs[t - 1]], axis=1))
            groups.append((2 * np.arange(len(t)) // max(len(t), 1) + number) % 2)  # halves of episodes
        self._change = np.concatenate(changes)  # (N, D)
        self._known = np.concatenate(known)  # (N, 2 D)
        self._is_test = np.concatenate(groups) == 1  # (N,)
        self._without_action = self._error(self._known)

    @classmethod
    def of(cls, recordings: Recordings) -> "_Transitions | None":
        """All transitions of some recordings; None where they are too few."""
        episodes = [(recordings.low_dim(episode), actions(episode)) for episode in recordings.all]
        n_rows = sum(len(_inner_steps(obs)) for obs, _ in episodes)
        n_columns = 2 * episodes[0][0].shape[1] + episodes[0][1].shape[1] + 1
        return cls(episodes) if n_rows >= 2 * ROWS_PER_COLUMN * n_columns else None

    def residual(self, lag: int) -> Array:
        """Variance that the action at t + lag leaves unexplained, as a share of that without it, (D,)."""
        shifted = np.concatenate([action[_inner_steps(action) + lag] for _, action in self._episodes])
        error = self._error(np.concatenate([self._known, shifted], axis=1))
        floor = 1e-9 * np.maximum(self._change.var(axis=0), 1e-12)
        still = self._without_action <= floor  # what needs no action to be known
        return np.where(still, 1.0, error / np.maximum(self._without_action, floor))

    def _error(self, columns: Array) -> Array:
        """Mean squared error on the test rows of a linear model fitted to the others, (D,)."""
        spread = columns.std(axis=0)
        scaled = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1)
        design = np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)
        weights = np.linalg.lstsq(design[~self._is_test], self._change[~self._is_test], rcond=None)[0]
        return np.mean((self._change[self._is_test] - design[self._is_test] @ weights) ** 2, axis=0)


def _inner_steps(rows: Array) -> NDArray[np.int64]:
    """Steps that have `MAX_LAG` neighbours on both sides, and one before and after."""
    return np.arange(MAX_LAG, len(rows) - MAX_LAG - 1)

"""Checks of what a policy predicts at recorded moments, without a robot or simulator."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.policy.base_policy import BasePolicy
from diffusion_policy.scripts.diagnosis.check import Cell, Check, Table, Verdict, graded, worst
from diffusion_policy.scripts.diagnosis.chunks import SLACK, Chunks, predict
from diffusion_policy.scripts.diagnosis.recordings import Array, Recordings, actions

TRAIN_LONGER = "train longer (a new run with more training.num_epochs)"
STAYS = 0.4  # moving less than this share of what was recorded counts as staying
RESEMBLES = 0.8  # explained variance from which an observation dimension counts as the action's present value


def action_scale(recordings: Recordings) -> Array:
    """Standard deviation of each action dimension, (Da,); infinity where it is constant, so that it counts 0."""
    spread = np.concatenate([actions(episode) for episode in recordings.training]).std(axis=0)
    return np.where(spread > 1e-8, spread, np.inf)


def check_open_loop(predicted: Array, chunks: Chunks, recordings: Recordings, scale: Array) -> Check:
    """Error of the predicted actions, by dimension and step, beside two predictions that need no policy."""
    mean_action = np.concatenate([actions(episode) for episode in recordings.training]).mean(axis=0)
    candidates = {
        "policy": predicted,
        "last action held": chunks.previous[:, None],
        "mean action": mean_action[None, None],
    }
    errors = {name: _error(value, chunks.executed) for name, value in candidates.items()}  # each (Ta, Da)
    relative = {name: _mean(error / scale) for name, error in errors.items()}
    to_mean = _ratio(relative["policy"], relative["mean action"])
    to_held = _ratio(relative["policy"], relative["last action held"])
    verdict = worst(graded(to_mean, look=0.8, bad=1.0), "look" if to_held >= 1 else "ok")
    figure = (
        f"Mean error {relative['policy']:.2f} standard deviations of the action: {to_mean:.2f} of the mean "
        f"action's error, {to_held:.2f} of that of holding the last action"
    )
    advice = "The predictions follow the recordings better than a guess does."
    if verdict == "bad":
        advice = (
            "The policy does not predict better than always giving the mean action. Look at the other checks "
            f"for broken data; if they are fine, {TRAIN_LONGER}, or see whether train_loss falls at all."
        )
    elif verdict == "look":
        advice = (
            "The policy predicts no better, or hardly better, than a guess. Record more episodes, check that the "
            "observation holds what decides the action (several equally good ways also raise this error), or "
            f"{TRAIN_LONGER}."
        )
    tables = (
        _error_table("Mean absolute error, in the action's units", errors["policy"], errors, None),
        _error_table(
            "Mean absolute error, in standard deviations of the action", errors["policy"], errors, scale
        ),
    )
    return Check("open_loop", "Open-loop error", verdict, figure, advice, tables)


def _error_table(title: str, policy: Array, errors: Mapping[str, Array], scale: Array | None) -> Table:
    """One row per action dimension; with `scale`, also one per way of predicting, averaged over dimensions."""
    divisor = np.ones(policy.shape[1]) if scale is None else scale
    rows = [(f"action[{i}]", policy[:, i] / divisor[i]) for i in range(policy.shape[1])]
    if scale is not None:
        rows += [(f"all: {name}", (error / scale).mean(axis=1)) for name, error in errors.items()]
    columns = ("", *(f"step {k + 1}" for k in range(len(policy))), "mean")
    cells: list[tuple[Cell, ...]] = [
        (name, *(float(f"{value:.3g}") for value in (*values, values.mean()))) for name, values in rows
    ]
    return Table(title, columns, tuple(cells))


def check_timing(predicted: Array, chunks: Chunks, scale: Array) -> Check:
    """Whether the predictions fit the recorded actions of their own steps better than those around."""
    lags = range(-SLACK, SLACK + 1)
    errors = [_mean(_error(predicted, chunks.recorded_at(lag)) / scale) for lag in lags]
    best = lags[int(np.argmin(errors))]
    share = _ratio(min(errors), errors[SLACK])
    verdict = graded(share, look=0.8, bad=0.6) if best else "ok"
    figure = f"Predictions fit the recorded actions best at a lag of {best:+d} steps ({share:.2f} of the error at 0)"
    advice = "Predictions belong to the steps in which they are executed."
    if verdict != "ok":
        advice = (
            f"What is executed at a step fits the recording {abs(best)} steps {'later' if best > 0 else 'earlier'}: "
            "the policy was trained with another n_obs_steps, or on actions stored out of step."
        )
    table = Table(
        "Error by lag, in standard deviations", tuple(f"{lag:+d}" for lag in lags), (_rounded(errors),)
    )
    return Check("timing", "Time line of the predictions", verdict, figure, advice, (table,))


def check_seams(predicted: Array, chunks: Chunks, scale: Array) -> Check:
    """How far apart the end of one chunk and the beginning of the next are, against a step inside a chunk."""
    name, title = "seams", "Jump between chunks"
    here = np.flatnonzero(chunks.next_row >= 0)
    if predicted.shape[1] < 2 or len(here) == 0:
        return Check.not_measured(name, title, "Chunks of one step, or episodes of one chunk")
    jump = _mean(np.abs(predicted[chunks.next_row[here], 0] - predicted[here, -1]) / scale)
    inside = _mean(np.abs(np.diff(predicted, axis=1)) / scale)
    recorded = _mean(np.abs(np.diff(chunks.executed, axis=1)) / scale)
    ratio = _ratio(jump, max(inside, 0.5 * recorded))  # chunks that stand still would make any jump large
    verdict = graded(ratio, look=6, bad=15)
    figure = (
        f"From one chunk to the next the action jumps {ratio:.1f} times a step inside a chunk (where each chunk "
        f"follows the recorded observation)"
    )
    advice = "Chunks join smoothly."
    if verdict != "ok":
        advice = (
            "The robot will jerk at every new chunk: the policy hesitates between ways to go on, or forgets what "
            f"it was doing. Raise n_action_steps or n_obs_steps, or {TRAIN_LONGER}."
        )
    return Check(name, title, verdict, figure, advice)


def check_motion(predicted: Array, chunks: Chunks, scale: Array) -> Check:
    """How far the action moves within a chunk, against the recordings: frozen, alive or trembling."""
    name, title = "motion", "Length of the motion"
    if predicted.shape[1] < 2:
        return Check.not_measured(name, title, "Chunks of one step")
    inside = _mean(np.abs(np.diff(predicted, axis=1)) / scale)
    recorded = _mean(np.abs(np.diff(chunks.executed, axis=1)) / scale)
    if recorded == 0:
        return Check.not_measured(name, title, "The recorded actions do not change")
    ratio = inside / recorded
    verdict = worst(graded(ratio, look=0.5, bad=0.2), graded(ratio, look=2.5, bad=8))
    advice = "Predicted chunks move as far as recorded ones."
    if verdict != "ok" and ratio < 1:
        advice = (
            "The robot will hardly move: the policy averages over ways to go on, or learned the pauses. See the "
            f"idle steps above; {TRAIN_LONGER}; check that sampling is diffusion's and not a mean."
        )
    elif verdict != "ok":
        advice = f"The robot will tremble: take more sampler steps, or {TRAIN_LONGER}."
    return Check(name, title, verdict, f"Chunks move {ratio:.2f} times as far as the recorded ones", advice)


def check_sensitivity(policy: BasePolicy, predicted: Array, chunks: Chunks, scale: Array) -> Check:
    """How much the prediction changes, under equal noise, when an observation is taken from another moment."""
    order = np.random.default_rng(0).permutation(len(chunks))
    keys = list(chunks.obs)

    def change(permuted: list[str]) -> float:
        obs = {key: values[order] if key in permuted else values for key, values in chunks.obs.items()}
        return _mean(np.abs(predict(policy, obs) - predicted) / scale)

    changes = {"all": change(keys)} | ({key: change([key]) for key in keys} if len(keys) > 1 else {})
    spread = _mean(np.abs(chunks.executed[order] - chunks.executed) / scale)
    to_spread = _ratio(changes["all"], spread)
    ignored = [key for key in keys if len(keys) > 1 and changes[key] < 0.03 * changes["all"]]
    verdict = worst(graded(to_spread, look=0.3, bad=0.1), "look" if ignored else "ok")
    figure = (
        f"With observations of another moment the action changes by {to_spread:.2f} of the difference between the "
        "actions recorded at the two"
    )
    return Check(
        "sensitivity",
        "Sensitivity to each observation",
        verdict,
        figure,
        _sensitivity_advice(to_spread, ignored),
        (_sensitivity_table(changes),),
    )


def _sensitivity_advice(to_spread: float, ignored: list[str]) -> str:
    if to_spread < 0.3:
        return (
            "The policy hardly looks at what it observes: observations do not tell the action (shuffled, out of "
            "step, constant, or another camera view), or it has not learned yet. See the checks of the data."
        )
    if ignored:
        return (
            f"The policy ignores {', '.join(ignored)}. If the task needs it: look at what the encoder gets (crop, "
            "normaliser), and whether another key gives the action away."
        )
    return "The policy reads its observations."


def _sensitivity_table(changes: Mapping[str, float]) -> Table:
    rows = tuple((key, round(_ratio(value, changes["all"]), 3)) for key, value in changes.items())
    return Table(
        "Change of the action when permuted, as a share of permuting all", ("observation", "share"), rows
    )


def check_copying(predicted: Array, chunks: Chunks, recordings: Recordings, scale: Array) -> Check:
    """Whether the policy is better than repeating where the robot is."""
    name, title = "copying", "Copying the robot's state"
    copy, copied = _copy(chunks, recordings)
    if not copied.any():
        return Check.not_measured(
            name, title, "No observed dimension resembles an action, so nothing can be copied"
        )
    share = np.where(copied, scale, np.inf)
    of_policy = _mean(_error(predicted, chunks.executed) / share)
    of_copy = _mean(_error(copy[:, None], chunks.executed) / share)
    distance = _mean(_error(predicted, copy[:, None]) / share)
    error_ratio, distance_ratio = _ratio(of_policy, of_copy), _ratio(distance, of_copy)
    verdict: Verdict = worst(
        graded(error_ratio, look=0.9, bad=1.5), graded(distance_ratio, look=STAYS, bad=0.15)
    )
    figure = (
        f"Its error is {error_ratio:.2f} of that of copying the present state, from which it moves away "
        f"{distance_ratio:.2f} times as far as the recording"
    )
    advice = "The policy does more than repeat where the robot is."
    if verdict != "ok" and distance_ratio < STAYS:
        advice = (
            "The policy hardly does more than stay where the robot is. Leave the robot's own state out of the "
            "observations, or blur it; cut idle steps; see whether actions are stored out of step."
        )
    elif verdict != "ok":
        advice = (
            "The policy moves, but is not better than staying where the robot is: it has not learned where to "
            f"go. See the open-loop error above; if the data are fine, {TRAIN_LONGER}."
        )
    return Check(name, title, verdict, figure, advice)


def _copy(chunks: Chunks, recordings: Recordings) -> tuple[Array, NDArray[np.bool_]]:
    """For each action dimension the observed one that resembles it most, as an action.

    Returns:
        Copies (N, Da), and which dimensions have such an observation (Da,).
    """
    obs = np.concatenate([recordings.low_dim(episode) for episode in recordings.training])  # (L, D)
    action = np.concatenate([actions(episode) for episode in recordings.training])  # (L, Da)
    copy = np.zeros_like(chunks.previous)
    resembles = np.zeros(action.shape[1], bool)
    present = [chunks.obs[key][:, -1].reshape(len(chunks), -1) for key in recordings.low_dim_keys]
    if obs.shape[1] == 0 or len(obs) < 3:
        return copy, resembles
    seen = np.concatenate(present, axis=1)  # (N, D)
    for dim in range(action.shape[1]):
        explained = _explained_variance(obs, action[:, dim])
        best = int(explained.argmax())
        slope, offset = np.polyfit(obs[:, best], action[:, dim], 1) if explained[best] > 0 else (0.0, 0.0)
        copy[:, dim] = slope * seen[:, best] + offset
        resembles[dim] = explained[best] > RESEMBLES
    return copy, resembles


def _explained_variance(columns: Array, target: Array) -> Array:
    """Squared correlation of each column with a target; 0 where one of them is constant."""
    x, y = columns - columns.mean(axis=0), target - target.mean()
    norm = np.sqrt((x**2).sum(axis=0) * (y**2).sum())
    usable = (x.std(axis=0) > 1e-8) & (norm > 0)
    return np.where(usable, (x.T @ y / np.where(norm > 0, norm, 1)) ** 2, 0)


def _error(predicted: Array, recorded: Array) -> Array:
    """Mean absolute error by step and dimension, (Ta, Da)."""
    return np.abs(predicted - recorded).mean(axis=0)


def _mean(values: Array) -> float:
    return float(np.mean(values))


def _ratio(value: float, to: float) -> float:
    """NaN, which no check passes, where there is nothing to compare with."""
    return value / to if to > 0 else float("nan")


def _rounded(values: list[float]) -> tuple[float, ...]:
    return tuple(round(value, 3) for value in values)

"""Checks of the demonstrations: padding, idle steps, and what the normaliser makes of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_policy.common.sampler import SequenceSampler
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.policy.base_policy import BasePolicy
from diffusion_policy.scripts.diagnosis.check import Check, Table, Verdict, graded, worst
from diffusion_policy.scripts.diagnosis.recordings import (
    Array,
    Recordings,
    actions,
    features,
    learned_actions,
)

IDLE_SHARE_OF_RANGE = 0.002  # per step; slower than anything that a demonstrator does on purpose
START_STEPS = 10
CONSTANT_RANGE = 1e-4  # as in `LinearNormalizer.fit`
EXPLODING_SCALE = 1000.0  # the whole range is two thousandths of a unit: likely noise of a sensor
OUTSIDE = 1.01  # normalised magnitude; rounding stays below


def check_padding(dataset: SequenceDataset, config: Mapping[str, Any]) -> Check:
    """What share of the loss is about copies of an episode's first and last action."""
    name, title = "padding", "Padding in the loss"
    if not {"n_obs_steps", "n_action_steps"} <= config.keys():
        return Check.not_measured(name, title, "The dataset pads by rules of its own")
    pad_before, pad_after = config.get("pad_before"), config.get("pad_after")
    sampler = SequenceSampler(
        dataset.episode_ends,
        dataset.horizon,
        config["n_obs_steps"] - 1 if pad_before is None else pad_before,
        config["n_action_steps"] - 1 if pad_after is None else pad_after,
        dataset.train_mask,
    )
    if len(sampler) != len(dataset):
        return Check.not_measured(name, title, "The dataset makes windows of its own")
    recorded = sampler.indices[:, 3] - sampler.indices[:, 2]  # (N,) steps of each window
    share = 1 - recorded.sum() / (len(sampler) * dataset.horizon)
    verdict = graded(share, look=0.15, bad=0.4)
    advice = {
        "ok": "Few loss targets are copies of an episode's first or last action.",
        "look": "Much of the training teaches to stand still at the ends of episodes.",
        "bad": "Most of the training teaches to stand still at the ends of episodes.",
    }[verdict]
    if verdict != "ok":
        advice += (
            " Episodes are short against the horizon: lower horizon and n_action_steps, or record longer."
        )
    return Check(name, title, verdict, f"{share:.1%} of the action targets are padding", advice)


def check_idle(recordings: Recordings) -> Check:
    """What share of the steps hardly changes action and observation."""
    pairs = [(recordings.low_dim(episode), actions(episode)) for episode in recordings.all]
    steps = [np.concatenate(pair, axis=1) for pair in pairs]  # each (L, D + Da)
    joined = np.concatenate(steps)
    threshold = IDLE_SHARE_OF_RANGE * np.ptp(joined, axis=0)
    idle = [(np.abs(np.diff(rows, axis=0)) <= threshold).all(axis=1) for rows in steps if len(rows) > 1]
    if not idle:
        return Check.not_measured("idle", "Idle steps", "Every episode is a single step")
    share = float(np.concatenate(idle).mean())
    at_start = float(np.concatenate([episode[:START_STEPS] for episode in idle]).mean())
    longest = max(_longest_run(episode) for episode in idle)
    figure = (
        f"{share:.1%} of the steps, {at_start:.1%} of each episode's first {START_STEPS}; "
        f"longest pause {longest} steps"
    )
    verdict = worst(graded(share, look=0.1, bad=0.5), graded(at_start, look=0.3, bad=0.8))
    advice = "The demonstrations keep moving."
    if verdict != "ok":
        advice = (
            "The policy learns the pauses and may freeze in them, often at the very start. "
            "Cut idle steps, above all at the beginnings, out of the data, or record without pausing."
        )
    return Check("idle", "Idle steps", verdict, figure, advice)


def _longest_run(flags: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return int(np.max(edges[1::2] - edges[::2], initial=0))


def check_normalizer(recordings: Recordings, policy: BasePolicy) -> Check:
    """Dimensions that are constant, explode, leave [-1, 1] or have rare outliers."""
    clips = bool(getattr(policy, "clip_sample", False))
    rows: list[tuple[str, str, str]] = []
    verdicts: list[Verdict] = ["ok"]
    n_dims = 0
    n_training = sum(len(episode["action"]) for episode in recordings.training)
    for key in (*recordings.low_dim_keys, "action"):
        if key == "action":
            raw = np.concatenate([learned_actions(episode, policy) for episode in recordings.all])  # (N, Da)
        else:
            raw = np.concatenate([features(episode["obs"][key]) for episode in recordings.all])  # (N, D)
        normalised = _normalised(policy, key, raw)
        is_clipped = clips and key == "action"
        for dim in range(raw.shape[1]):
            found = _dimension_faults(raw[:, dim], normalised[:, dim], n_training, is_clipped)
            rows += [(f"{key}[{dim}]", verdict, text) for verdict, text in found]
            verdicts += [verdict for verdict, _ in found]
        n_dims += raw.shape[1]
    verdict = worst(*verdicts)
    names = list(dict.fromkeys(name for name, _, _ in rows))
    figure = f"{len(names)} of {n_dims} dimensions are odd" + (f": {_some(names)}" if names else "")
    advice = "Every dimension fills its range, without outliers."
    if verdict != "ok":
        advice = (
            "See the table: leave dead dimensions out of shape_meta, mend outliers and units in the data, "
            "record more where training episodes are few, and fit the normaliser to the data that are trained on."
        )
    tables = (Table("Odd dimensions", ("dimension", "verdict", "what"), tuple(rows)),) if rows else ()
    return Check("normalizer", "Normaliser", verdict, figure, advice, tables)


def _normalised(policy: BasePolicy, key: str, raw: Array) -> Array:
    field = policy.normalizer[key]
    with torch.no_grad():
        rows = field.normalize(
            torch.as_tensor(raw.reshape(len(raw), -1, *field.scale.shape), dtype=torch.float32)
        )
    return rows.reshape(raw.shape).cpu().numpy().astype(np.float64)


def _dimension_faults(
    raw: Array, normalised: Array, n_training: int, is_clipped: bool
) -> list[tuple[Verdict, str]]:
    """What is odd about one dimension, (N,) before and after normalisation, the training episodes first."""
    extent = float(np.ptp(raw))
    if extent < CONSTANT_RANGE:
        return [("look", f"constant at {raw[0]:.4g}: it tells nothing")]
    faults: list[tuple[Verdict, str]] = []
    scale = float(np.ptp(normalised)) / extent
    if scale > EXPLODING_SCALE:
        faults.append(("look", f"scaled by {scale:.0f}: its range is only {extent:.2g}; noise is blown up"))
    largest = float(np.abs(normalised).max())
    is_outside = np.abs(normalised) > OUTSIDE
    outside = float(is_outside.mean())
    if is_clipped and outside > 0 and not is_outside[:n_training].any():
        text = (
            f"{is_outside[n_training:].mean():.1%} of the held-out values lie beyond those of the training episodes: "
            "these are too few to cover what happens, and clip_sample cuts predictions there"
        )
        faults.append(("look", text))
    elif is_clipped and outside > 0:
        text = f"{outside:.1%} of the values lie outside [-1, 1], where clip_sample cuts the predictions"
        faults.append((graded(outside, look=0, bad=0.001), text))
    elif largest > 5:
        text = f"values up to {largest:.1f} after normalisation: it was fitted to other data, or there are outliers"
        faults.append((graded(largest, look=5, bad=10), text))
    low, high = np.quantile(raw, [0.01, 0.99])
    tail = extent / max(float(high - low), 1e-12 * extent)
    if tail > 5:
        text = f"98 % of the values fill only {1 / tail:.1%} of the range: rare outliers squeeze the rest"
        faults.append((graded(tail, look=5, bad=50), text))
    return faults


def _some(names: list[str], n: int = 6) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")

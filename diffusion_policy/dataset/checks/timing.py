"""Time stamps that jump or run backwards."""

import re

import numpy as np

from diffusion_policy.dataset.checks.finding import Finding, in_episodes
from diffusion_policy.dataset.checks.recording import Recording

JUMP_PERIODS = 1.5  # a later step than that means that one was lost
RATE_TOLERANCE = 0.05  # of the period that the data set states
_NAMES = re.compile(r"^(time|timestamps?)$|_timestamps?$")


def check_timestamps(recording: Recording) -> list[Finding]:
    """Time stamps within episodes, guessed by name."""
    findings = []
    for key, values in recording.columns.items():
        if _NAMES.search(key) and values.shape[1] == 1 and recording.within.any():
            findings += _check(recording, key, np.diff(values[:, 0]))
    return findings


def _check(recording: Recording, key: str, periods: np.ndarray) -> list[Finding]:
    findings = []
    backwards = np.flatnonzero((periods <= 0) & recording.within)
    if len(backwards):
        episodes = recording.episodes_of(backwards)
        message = (
            f"time does not increase at {len(backwards)} steps {in_episodes(episodes)}, first after row "
            f"{backwards[0]}"
        )
        advice = "Sort or record these episodes again (float32 cannot hold seconds since 1970)"
        findings.append(Finding("error", "time stamps", key, episodes, message, advice))
    usual = float(np.median(periods[recording.within]))
    late = np.flatnonzero((periods > JUMP_PERIODS * usual) & recording.within)
    if usual > 0 and len(late):
        episodes = recording.episodes_of(late)
        message = (
            f"gaps of up to {periods[late].max():.4g} where steps are usually {usual:.4g} apart, at {len(late)} "
            f"steps {in_episodes(episodes)}, first after row {late[0]}"
        )
        advice = "Steps were lost: split the episodes there, or resample them"
        findings.append(Finding("warning", "time stamps", key, episodes, message, advice))
    if recording.fps and usual > 0 and abs(usual * recording.fps - 1) > RATE_TOLERANCE:
        message = f"steps are {usual:.4g} apart, but the data set says {recording.fps:g} frames per second"
        advice = "Correct one of them"
        findings.append(Finding("warning", "time stamps", key, (), message, advice))
    return findings

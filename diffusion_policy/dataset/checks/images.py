"""Cameras that see nothing or stand still."""

import numpy as np

from diffusion_policy.common.stored_array import StoredArray
from diffusion_policy.dataset.checks.finding import Finding, in_episodes
from diffusion_policy.dataset.checks.recording import Recording

BLANK = 8  # levels of 255 between the darkest and the brightest pixel: noise of a covered camera
MOVED = 0.05  # of the range that the robot must move while a camera shows one frame
ROWS_AT_ONCE = 256


def check_blank_frames(recording: Recording) -> list[Finding]:
    """Frames of one colour, such as black ones."""
    findings = []
    for key in recording.images:
        images = recording.buffer[key]
        low, high = _extremes(images)
        blank = np.flatnonzero(high - low <= BLANK)
        if len(blank):
            episodes = recording.episodes_of(blank)
            colour = "black" if high[blank].max() <= BLANK else "blank"
            message = f"{len(blank)} {colour} frames {in_episodes(episodes)}, first at row {blank[0]}"
            advice = "Remove these episodes, or repair them from neighbouring frames"
            findings.append(Finding("error", f"{colour} frames", key, episodes, message, advice))
    return findings


def _extremes(images: np.ndarray | StoredArray) -> tuple[np.ndarray, np.ndarray]:
    """Darkest and brightest value of each frame, (n,) int each."""
    blocks = [np.asarray(images[i : i + ROWS_AT_ONCE]) for i in range(0, len(images), ROWS_AT_ONCE)]
    low = np.concatenate([block.min((1, 2, 3)) for block in blocks])
    high = np.concatenate([block.max((1, 2, 3)) for block in blocks])
    return low.astype(int), high.astype(int)


def check_frozen_frames(recording: Recording) -> list[Finding]:
    """Stretches of equal frames while state or action change."""
    findings = []
    for key in recording.images:
        images = recording.buffer[key]
        equal = np.array([np.array_equal(images[i], images[i + 1]) for i in range(len(images) - 1)], bool)
        runs = [
            (first, last)
            for first, last in recording.runs(equal)
            if recording.motion[first:last].sum() > MOVED
        ]
        if runs:
            episodes = recording.episodes_of(np.array([first for first, _ in runs]))
            longest = max(last - first for first, last in runs) + 1
            message = (
                f"{len(runs)} stretches {in_episodes(episodes)} show one frame while the robot moves, the longest "
                f"for {longest} steps, first at row {runs[0][0]}"
            )
            advice = "The camera stood still: remove these episodes or cut the stretches out"
            findings.append(Finding("error", "frozen frames", key, episodes, message, advice))
    return findings

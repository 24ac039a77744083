"""Look for the faults of demonstrations that make training fail in silence."""

import warnings
from collections.abc import Callable, Sequence
from os import PathLike

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.checks.alignment import check_alignment
from diffusion_policy.dataset.checks.finding import Finding
from diffusion_policy.dataset.checks.images import check_blank_frames, check_frozen_frames
from diffusion_policy.dataset.checks.motion import check_episode_ends, check_idle
from diffusion_policy.dataset.checks.recording import Recording
from diffusion_policy.dataset.checks.rotations import check_rotations
from diffusion_policy.dataset.checks.timing import check_timestamps
from diffusion_policy.dataset.checks.values import check_constant, check_duplicated, check_finite
from diffusion_policy.dataset.episode_files import load_episodes

CHECKS: tuple[Callable[[Recording], list[Finding]], ...] = (
    check_finite,
    check_constant,
    check_duplicated,
    check_idle,
    check_timestamps,
    check_alignment,
    check_rotations,
    check_blank_frames,
    check_frozen_frames,
    check_episode_ends,
)


def check_episodes(buffer: ReplayBuffer) -> list[Finding]:
    """Run all checks.

    Args:
        buffer: The demonstrations, best in memory; the action has the key `action`.

    Returns:
        What was found, errors first.
    """
    if buffer.n_episodes == 0:
        message = "there are no episodes"
        return [Finding("error", "empty", "", (), message, "Record or fetch demonstrations first")]
    recording = Recording(buffer)
    findings = [finding for check in CHECKS for finding in check(recording)]
    return sorted(findings, key=lambda finding: finding.severity != "error")


def check_file(
    path: str | PathLike[str], keys: Sequence[str] | None = None
) -> tuple[ReplayBuffer | None, list[Finding]]:
    """Read demonstrations and run all checks; what cannot be read is a finding too.

    Args:
        path: Demonstrations in any format of `episode_files`.
        keys: The arrays to look at, by default all.

    Returns:
        The demonstrations, None if they cannot be read, and the findings.

    Raises:
        FileNotFoundError: nothing at `path`.
        ImportError: the format needs a package that is not installed.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            buffer = load_episodes(path, keys)
        except ValueError as error:
            return None, [Finding("error", "unreadable", "", (), str(error), "Nothing else was checked")]
    said = [Finding("warning", "incomplete", "", (), str(w.message), "The rest was read") for w in caught]
    return buffer, [*check_episodes(buffer), *said]

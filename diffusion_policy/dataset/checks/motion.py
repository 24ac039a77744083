"""Pauses, and episode ends that contradict the motion."""

import numpy as np

from diffusion_policy.dataset.checks.finding import Finding, in_episodes
from diffusion_policy.dataset.checks.recording import Recording

STILL = 1e-3  # of the range per step: at 10 Hz the whole range would take 100 s
IDLE_SHARE = 0.02  # below it a policy hardly learns to wait

# A reset moves many dimensions at once, each further than a step of an episode does; a wrapping angle, a gripper
# or a blow moves few. On human Push-T, Lift and kitchen data no step within an episode comes near all three.
JUMP = 5.0  # times the 95th percentile of a step's change
JUMP_SHARE = 0.4  # of the dimensions
JUMP_DIMS = 2
ORDINARY = 2.0  # times that percentile: a boundary with no larger change looks like any other step
RESETS_JUMP = 0.8  # if at this share of the boundaries the state jumps, one without a jump is suspicious
LEAST_BOUNDARIES = 4
FEW_VALUES = 10  # a dimension with fewer is a switch


def check_idle(recording: Recording) -> list[Finding]:
    """Stretches in which neither state nor action changes."""
    if recording.state.shape[1] == 0 or recording.buffer.n_steps < 2:
        return []
    runs = recording.runs(recording.motion < STILL)
    n_idle = sum(last - first for first, last in runs)
    if n_idle < IDLE_SHARE * recording.buffer.n_steps:
        return []
    episodes = recording.episodes_of(np.array([first for first, _ in runs]))
    longest = max(last - first for first, last in runs)
    message = (
        f"nothing moves in {n_idle / recording.buffer.n_steps:.1%} of all steps: {len(runs)} pauses of at least "
        f"{recording.stretch_steps} steps {in_episodes(episodes)}, the longest {longest} steps"
    )
    advice = "A policy may learn to stand still: cut the pauses out, or keep them knowingly"
    return [Finding("warning", "idle", "", episodes, message, advice)]


def check_episode_ends(recording: Recording) -> list[Finding]:
    """Ends that are missing inside of episodes, or where there is none."""
    scaled = _scaled_changes(recording)
    jumps = _jumps(scaled)
    return [*_missed_ends(recording, jumps), *_needless_ends(recording, scaled, jumps)]


def segments(recording: Recording) -> np.ndarray:
    """Number of the stretch without an end or a jump that each step is in, (n_steps,) int."""
    breaks = ~recording.within | _jumps(_scaled_changes(recording))
    return np.concatenate([[0], np.cumsum(breaks)])


def _jumps(scaled: np.ndarray) -> np.ndarray:
    """Whether the state changes from step t to t + 1 as it does at a reset, (n_steps - 1,) bool."""
    return (scaled > JUMP).sum(1) >= max(JUMP_DIMS, JUMP_SHARE * scaled.shape[1])


def _scaled_changes(recording: Recording) -> np.ndarray:
    """Change from step t to t + 1 of each dimension that moves, over the 95th percentile, (n_steps - 1, D)."""
    state = recording.state
    if recording.within.sum() < FEW_VALUES or state.shape[1] == 0:
        return np.zeros((len(recording.within), 0))
    changes = np.abs(np.diff(state, axis=0))
    starts = np.concatenate([[0], recording.ends[:-1]])
    starts = starts[starts < len(changes)]
    from_rest = np.ptp(state[starts], axis=0) == 0  # as velocities: they start alike, and then jump
    if recording.buffer.n_episodes > 1:
        changes[starts] = np.where(from_rest, 0, changes[starts])
    usual = np.percentile(changes[recording.within], 95, axis=0)
    gradual = [len(np.unique(column)) >= FEW_VALUES for column in state.T]
    kept = (usual > 0) & gradual
    return changes[:, kept] / usual[kept]


def _missed_ends(recording: Recording, jumps: np.ndarray) -> list[Finding]:
    steps = np.flatnonzero(jumps & recording.within)
    if len(steps) == 0:
        return []
    episodes = recording.episodes_of(steps)
    message = (
        f"the state jumps as at a reset at {len(steps)} places inside of episodes, {in_episodes(episodes)}, first "
        f"from row {steps[0]} to {steps[0] + 1}"
    )
    advice = "An end may be missing there, or steps were lost: split or repair these episodes"
    return [Finding("error", "episode ends", "", episodes, message, advice)]


def _needless_ends(recording: Recording, scaled: np.ndarray, jumps: np.ndarray) -> list[Finding]:
    boundaries = recording.ends[:-1] - 1
    if len(boundaries) < LEAST_BOUNDARIES or jumps[boundaries].mean() < RESETS_JUMP:
        return []
    smooth = boundaries[(scaled[boundaries] <= ORDINARY).all(1) & (scaled[boundaries] > 0).any(1)]
    if len(smooth) == 0:
        return []
    episodes = recording.episodes_of(smooth)
    message = (
        f"{len(smooth)} episodes ({', '.join(map(str, episodes[:8]))}) go on in the next one without the jump that "
        f"{jumps[boundaries].mean():.0%} of the {len(boundaries)} ends show"
    )
    advice = "These ends may cut one episode in two: join them, or keep them knowingly"
    return [Finding("warning", "episode ends", "", episodes, message, advice)]

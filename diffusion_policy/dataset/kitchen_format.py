"""The layouts in which demonstrations in the Franka Kitchen were published, as replay buffers.

All come out as `positions` (n_steps, 30) of the robot's 9 joints and of 21 of objects, and `action` (n_steps, 9),
velocities, or `target` (n_steps, 9), joint positions to go to; the original's arrays also as `goal` (n_steps, 30).
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.common.kitchen import N_JOINTS, N_POSITIONS
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import episodes_in_memory, joined_parts
from diffusion_policy.dataset.mjl_format import read_mjl

OBSERVATIONS, ACTIONS, MASK = "observations_seq.npy", "actions_seq.npy", "existence_mask.npy"
LOG_STEPS = 40  # of the simulation, 2 ms each, per action


def is_sequences(path: Path) -> bool:
    """Whether this is the folder of three arrays that the original trains on."""
    return any((path / name).is_file() for name in (OBSERVATIONS, ACTIONS, MASK))


def load_sequences(path: Path) -> ReplayBuffer:
    """The original's arrays: observations (E, L, 60), velocity actions (E, L, 9) and which steps exist (E, L).

    Raises:
        ValueError: one is missing or damaged, or they contradict each other.
    """
    observations, actions, mask = (_array(path / name) for name in (OBSERVATIONS, ACTIONS, MASK))
    if mask.ndim != 2 or observations.shape[:2] != mask.shape or actions.shape != (*mask.shape, N_JOINTS):
        raise ValueError(
            f"{path}: {OBSERVATIONS}, {ACTIONS} and {MASK} have shapes {observations.shape}, {actions.shape} and "
            f"{mask.shape}; expected (E, L, 60), (E, L, {N_JOINTS}) and (E, L)"
        )
    exists = mask != 0
    lengths = exists.sum(axis=1)
    if not np.array_equal(exists, np.arange(mask.shape[1]) < lengths[:, None]):
        raise ValueError(f"{path / MASK}: an episode's steps must be 1, ..., 1, 0, ..., 0; fetch it again")
    if observations.shape[2:] != (2 * N_POSITIONS,):
        raise ValueError(
            f"{path / OBSERVATIONS} has shape {observations.shape}; expected (E, L, {2 * N_POSITIONS})"
        )
    positions, goal = np.split(observations[exists], 2, axis=1)
    arrays = {"positions": positions, "goal": goal, "action": actions[exists]}
    return episodes_in_memory(path, arrays, np.cumsum(lengths))


def _array(path: Path) -> NDArray:
    if not path.is_file():
        raise ValueError(f"{path.parent} has no {path.name}; it takes {OBSERVATIONS}, {ACTIONS} and {MASK}")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is no whole array ({error}); fetch it again") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path} holds {array.dtype}; expected numbers. Fetch it again")
    return array


def log_files(path: Path) -> list[Path]:
    """The logs in the folders in a folder (or in itself), in the order of their names."""
    return sorted([*path.glob("*.mjl"), *path.glob("*/*.mjl")]) if path.is_dir() else []


def load_logs(path: Path) -> ReplayBuffer:
    """A folder of logs, one episode each; whose actions are positions.

    Raises:
        ValueError: a file is damaged, or no log of the kitchen.
    """
    files = log_files(path)
    logs = [read_mjl(file, LOG_STEPS) for file in files]
    for file, log in zip(files, logs, strict=True):
        if log.qpos.shape[1] < N_POSITIONS or log.ctrl.shape[1] != N_JOINTS:
            raise ValueError(
                f"{file} has {log.qpos.shape[1]} positions and {log.ctrl.shape[1]} controls, but the kitchen has "
                f"{N_POSITIONS} and {N_JOINTS}; remove it"
            )
    n_objects = N_POSITIONS - N_JOINTS  # the last ones; a mocap body may come between
    positions = [np.hstack([log.qpos[:, :N_JOINTS], log.qpos[:, -n_objects:]]) for log in logs]
    arrays = {
        "positions": joined_parts(path, "qpos", positions),
        "target": joined_parts(path, "ctrl", [log.ctrl for log in logs]),
    }
    return episodes_in_memory(path, arrays, np.cumsum([len(log.ctrl) for log in logs]))

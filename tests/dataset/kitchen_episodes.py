"""Invented demonstrations in the kitchen, in the layouts in which real ones were published."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_files import save_episodes


def kitchen_buffer(n_episodes: int = 3, length: int = 20) -> ReplayBuffer:
    """States (59) and velocities (9) as in D4RL; the arm within its joints' ranges."""
    random = np.random.default_rng(0)
    buffer = ReplayBuffer.create_empty_numpy()
    for _ in range(n_episodes):
        state = random.uniform(-0.5, 0.5, (length, 59))
        state[:, [3, 5]] += [-1, 1]  # the ranges of these joints end at 0
        state[:, 7:9] = random.uniform(0, 0.04, (length, 2))
        action = random.uniform(-1, 1, (length, 9))
        buffer.add_episode({"state": state.astype(np.float32), "action": action.astype(np.float32)})
    return buffer


def write_kitchen(path: Path, n_episodes: int = 3, length: int = 20) -> Path:
    save_episodes(kitchen_buffer(n_episodes, length), path)
    return path


def write_sequences(folder: Path, lengths: Sequence[int] = (20, 15)) -> dict[str, np.ndarray]:
    """The original's three arrays; what follows an episode's end are NaN."""
    random = np.random.default_rng(1)
    longest = max(lengths)
    mask = np.arange(longest) < np.array(lengths)[:, None]
    arrays = {
        "observations_seq": np.where(mask[..., None], random.uniform(-1, 1, (*mask.shape, 60)), np.nan),
        "actions_seq": np.where(mask[..., None], random.uniform(-1, 1, (*mask.shape, 9)), np.nan),
        "existence_mask": mask.astype(np.float32),
    }
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    return arrays


def write_log(
    path: Path, n_steps: int = 400, sizes: Sequence[int] = (30, 29, 9, 1, 2, 3), name: bytes = b"a kitchen"
) -> np.ndarray:
    """A log of random numbers; `sizes` are nq, nv, nu, nmocap, nsensordata, nuserdata. Returns its records."""
    nq, nv, nu, n_mocap, n_sensors, n_user = sizes
    random = np.random.default_rng(len(path.name) + ord(path.stem[-1]))
    width = 1 + nq + nv + nu + 7 * n_mocap + n_sensors + n_user
    records = random.uniform(-1, 1, (n_steps, width)).astype("<f4")
    path.parent.mkdir(parents=True, exist_ok=True)
    header = np.array([*sizes, len(name)], "<i4").tobytes() + name
    path.write_bytes(header + records.tobytes())
    return records

"""The HDF5 files in which D4RL and Minari publish demonstrations in the kitchen, as replay buffers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.common.hdf5_file import opened_hdf5
from diffusion_policy.common.kitchen import N_POSITIONS
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import by_number, episodes_in_memory
from diffusion_policy.dataset.robomimic_format import HDF5_SIGNATURE


def is_kitchen_hdf5(path: Path) -> bool:
    """Whether this is an HDF5 file in the layout of Minari or D4RL, not robomimic's.

    Raises:
        ImportError: h5py is not installed.
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(len(HDF5_SIGNATURE)) != HDF5_SIGNATURE:
            return False
    with opened_hdf5(path) as content:
        return "data" not in content


def load_hdf5(path: Path) -> ReplayBuffer:
    """Read either layout.

    Minari's `main_data.hdf5`: `episode_<i>/{observations/observation (L + 1, 59), actions (L, 9)}`, as `state` and
    `action`. D4RL's: `observations` (N, 60), `actions` (N, 9) and `terminals`, `timeouts` (N,), true where an episode
    ends; as `positions`, `goal` and `action`, without what follows the last end.

    Raises:
        ImportError: h5py is not installed.
        ValueError: the file is damaged, or laid out otherwise.
    """
    with opened_hdf5(path) as file:
        try:
            names = sorted((name for name in file if name.startswith("episode_")), key=by_number)
            arrays, ends = _minari([file[name] for name in names]) if names else _d4rl(file)
        except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is in the layout of neither Minari (episode_0/observations/observation) nor D4RL "
                f"(observations, actions, terminals): {error}; at its top there are {list(file)}"
            ) from error
    return episodes_in_memory(path, arrays, ends)


def _minari(episodes: list[Any]) -> tuple[dict[str, NDArray], NDArray]:
    actions = [episode["actions"][:] for episode in episodes]
    lengths = [len(part) for part in actions]
    states = [
        episode["observations"]["observation"][:length]  # that after the last action is left out
        for episode, length in zip(episodes, lengths, strict=True)
    ]
    return {"state": np.concatenate(states), "action": np.concatenate(actions)}, np.cumsum(lengths)


def _d4rl(file: Mapping[str, Any]) -> tuple[dict[str, NDArray], NDArray]:
    last = file["terminals"][:].astype(bool)
    if "timeouts" in file:
        last |= file["timeouts"][:].astype(bool)
    ends = np.flatnonzero(last) + 1
    n_steps = ends[-1]
    observations = file["observations"][:n_steps]
    arrays = {"positions": observations[:, :N_POSITIONS], "goal": observations[:, N_POSITIONS:]}
    return {**arrays, "action": file["actions"][:n_steps]}, ends

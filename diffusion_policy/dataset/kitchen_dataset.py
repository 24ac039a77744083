"""Demonstrations in the Franka Kitchen, in any of the layouts in which they were published."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.common import kitchen
from diffusion_policy.common.kitchen import N_JOINTS, N_POSITIONS
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_dataset import EpisodeDataset
from diffusion_policy.dataset.kitchen_format import is_sequences, load_logs, load_sequences, log_files
from diffusion_policy.dataset.kitchen_hdf5 import is_kitchen_hdf5, load_hdf5
from diffusion_policy.dataset.sequence_dataset import Sample
from diffusion_policy.model.common.normalizer import FieldNormalizer, LinearNormalizer

STILL = 0.05  # rad or m
STATE_WIDTH = 59  # of D4RL and Minari: positions and velocities of the robot (9, 9), then of objects (21, 20)


class KitchenLowdimDataset(EpisodeDataset):
    """What the robot and the objects of the kitchen do, at 12.5 Hz.

    The one observation `obs` is the positions of the robot's 9 joints and 21 of objects, and, where `shape_meta`
    says (60), goals: those recorded, else zeros. `action` (9) is velocities in [-1, 1], or positions to go to.

    Args:
        path: One of

            - a folder with the original's `observations_seq.npy`, `actions_seq.npy` and `existence_mask.npy`
              (velocity actions);
            - a folder with folders of `.mjl` logs of the teleoperation (absolute actions);
            - Minari's `main_data.hdf5` or D4RL's HDF5 file (velocities);
            - any format of `episode_files` with their `state` (59) and `action`.

        shape_meta: As in `EpisodeDataset`, like `seed` and `options`.
        abs_action: Actions are to be positions. Velocities become those that the environment makes of them.
        robot_noise_ratio: Of uniform noise on the 30 positions, drawn by `seed`, once; as the environment's, 0.1, for
            data that have none.
        seed: Also of the noise.
        options: All other arguments of `EpisodeDataset`.

    Raises:
        FileNotFoundError: nothing at `path`; the message says what is looked for.
        ValueError: a file is damaged or lacks something, or the actions are positions and `abs_action` is false.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        shape_meta: Mapping[str, Any],
        *,
        abs_action: bool = False,
        robot_noise_ratio: float = 0.0,
        seed: int = 42,
        **options: Any,
    ) -> None:
        if not 0 <= robot_noise_ratio < np.inf:
            raise ValueError(
                f"robot_noise_ratio is {robot_noise_ratio}; expected a finite number of at least 0"
            )
        self._abs_action = abs_action
        self._robot_noise_ratio = robot_noise_ratio
        self._noise_seed = seed
        super().__init__(path, shape_meta, seed=seed, **options)

    def find(self, path: str | PathLike[str]) -> Path:
        """Where the demonstrations lie."""
        found = super().find(path)
        if not found.exists():
            raise FileNotFoundError(
                f"no demonstrations of the kitchen at {found}. Give task.dataset.path the original's folder "
                "(observations_seq.npy and two more), a folder of .mjl logs, or Minari's or D4RL's HDF5 file; or set "
                "the environment variable DIFFUSION_POLICY_DATA (default: data/) to the folder that holds "
                "kitchen/kitchen_complete.zarr. docs/guides/kitchen.md says where to get them"
            )
        return found

    def recorded_keys(self, path: Path, shape_meta: Mapping[str, Any]) -> list[str]:
        """What D4RL's and Minari's arrays are called."""
        return ["state", self._action_key]

    def read(self, path: Path, shape_meta: Mapping[str, Any]) -> ReplayBuffer:
        """Read the layout that lies there."""
        if is_sequences(path):
            return load_sequences(path)
        if log_files(path):
            return load_logs(path)
        if is_kitchen_hdf5(path):
            return load_hdf5(path)
        return super().read(path, shape_meta)

    def to_sample(self, replay_buffer: ReplayBuffer) -> Sample:
        """Positions with noise, and goals if they are asked for; actions as they are asked for."""
        positions = _positions(replay_buffer)
        noise = np.random.default_rng(self._noise_seed)
        obs = (
            kitchen.noisy(positions, self._robot_noise_ratio, noise) if self._robot_noise_ratio else positions
        )
        if self._metas.get("obs", {}).get("shape") != (N_POSITIONS,):
            goal = replay_buffer["goal"] if "goal" in replay_buffer else np.zeros_like(obs)
            obs = np.concatenate([obs, goal], axis=1)
        return {"obs": {"obs": obs}, "action": self._actions(replay_buffer, positions)}

    def get_normalizer(self) -> LinearNormalizer:
        """Range to [-1, 1]; observed positions that vary less than 0.05 are only shifted.

        Else the noise of what no demonstration moves would be as large as what the others do (the original's figure).
        """
        normalizer = super().get_normalizer()
        normalizer["obs"] = FieldNormalizer.create_fit(self._tensors["obs"], range_eps=STILL)
        return normalizer

    def _actions(self, replay_buffer: ReplayBuffer, positions: NDArray) -> NDArray:
        if "target" not in replay_buffer:
            actions = np.asarray(replay_buffer[self._action_key])
            if not self._abs_action:
                return actions
            return kitchen.targets(positions[:, :N_JOINTS], kitchen.velocities(actions))
        if not self._abs_action:
            raise ValueError(
                f"{replay_buffer.where}: the actions of .mjl logs are positions; set abs_action=True, as "
                "task=kitchen_lowdim_abs does"
            )
        return np.asarray(replay_buffer["target"])


def _positions(replay_buffer: ReplayBuffer) -> NDArray:
    """Positions of robot and objects, (n_steps, 30)."""
    if "positions" in replay_buffer:
        return np.asarray(replay_buffer["positions"])
    state = np.asarray(replay_buffer["state"])
    if state.shape[1:] != (STATE_WIDTH,):
        raise ValueError(
            f"{replay_buffer.where}: 'state' has shape {state.shape[1:]} per step, but D4RL's and Minari's states of "
            f"the kitchen have ({STATE_WIDTH},): positions and velocities of the robot (9, 9) and of objects (21, 20)"
        )
    objects = slice(2 * N_JOINTS, 2 * N_JOINTS + N_POSITIONS - N_JOINTS)
    return np.concatenate([state[:, :N_JOINTS], state[:, objects]], axis=1)

"""robomimic's demonstrations as training data."""

import json
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusion_policy.common.arm_actions import ROTATION_6D_SIZE, are_changes, are_poses, to_rotation_6d
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_dataset import EpisodeDataset
from diffusion_policy.dataset.sequence_dataset import Sample
from diffusion_policy.model.common.normalizer import STATS, FieldNormalizer, LinearNormalizer

# Since 1.5 robosuite puts an object's pose seen from the hand (7) before its pose (7), and Transport's flags earlier.
# Of each column of `object` its place before 1.5.
_OBJECT = [*range(7, 14), *range(7)]
ORDER_SINCE_1_5 = {
    "PickPlaceCan": _OBJECT,
    "NutAssemblySquare": _OBJECT,
    "ToolHang": [*(start + column for start in (0, 14, 28) for column in _OBJECT), 42, 43],
    "TwoArmTransport": [*range(27), 39, 40, *range(27, 39)],
}


class RobomimicDataset(EpisodeDataset):
    """Observations of robomimic's HDF5 files by their names, images (N, H, W, 3) among them.

    `action` (7 for each arm) is as recorded: the change of position and rotation, and the gripper. With `abs_action`
    it is read as poses, position (3), axis-angle (3) and gripper (1), and becomes position (3), the first two rows of
    the rotation matrix (6) and gripper (1): 10 for each arm. Rotation and gripper are not normalised then: they lie
    in [-1, 1], and the six numbers of a rotation have one scale.

    The numbers in `object` have the order of robosuite before 1.5, also where a newer one recorded them.

    Args:
        path: The HDF5 file, or what `diffusion-policy data convert` made of it.
        shape_meta: As in `EpisodeDataset`, like `options`.
        abs_action: Whether the recorded actions are poses.
        env_name: The task, by robosuite's name, which a file must name if it names any; None takes all.
        options: All other arguments of `EpisodeDataset`.

    Raises:
        FileNotFoundError: nothing at `path`; the message says how to get the demonstrations.
        ValueError: the data are damaged, lack a key of `shape_meta` or contradict it; they are of another task; or
            their actions are no poses where they should be, or the other way round.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        shape_meta: Mapping[str, Any],
        *,
        abs_action: bool = False,
        env_name: str | None = None,
        **options: Any,
    ) -> None:
        self._abs_action = abs_action
        self._env_name = env_name
        super().__init__(path, shape_meta, **options)

    def find(self, path: str | PathLike[str]) -> Path:
        """Where the demonstrations lie; what is missing can be downloaded or converted."""
        found = super().find(path)
        if not found.exists():
            relative = found.with_name(found.name.replace("_abs", ""))
            how = "docs/guides/robomimic.md says where to get robomimic's demonstrations"
            if self._abs_action and relative.exists():
                how = (
                    "make it with `python -m diffusion_policy.scripts.robomimic_dataset_conversion "
                    f"-i {relative} -o {found}`"
                )
            raise FileNotFoundError(
                f"there is no {found}; {how}, or name another file with task.dataset.path"
            )
        return found

    def to_sample(self, replay_buffer: ReplayBuffer) -> Sample:
        """Take the arrays as they are named, `object` in one order, and rotations in six numbers."""
        self._check_task(replay_buffer)
        sample = super().to_sample(replay_buffer)
        self._check_actions(np.asarray(sample["action"]), replay_buffer.where)
        if "object" in sample["obs"]:
            sample["obs"]["object"] = _in_published_order(sample["obs"]["object"], replay_buffer)
        if self._abs_action:
            sample["action"] = to_rotation_6d(np.asarray(sample["action"]))
        return sample

    def _check_task(self, replay_buffer: ReplayBuffer) -> None:
        recorded = _env_args(replay_buffer).get("env_name")
        if None not in (recorded, self._env_name) and recorded != self._env_name:
            raise ValueError(
                f"{replay_buffer.where}: it was recorded in {recorded}, but the task is {self._env_name}; choose its "
                "task, or another file with task.dataset.path"
            )

    def _check_actions(self, actions: np.ndarray, where: str) -> None:
        if self._abs_action and are_changes(actions):
            raise ValueError(
                f"{where}: its actions are changes of the pose (all lie in [-1, 1]), but the task takes poses. Make "
                "them with `python -m diffusion_policy.scripts.robomimic_dataset_conversion`, or choose the task "
                "without _abs"
            )
        if not self._abs_action and are_poses(actions):
            raise ValueError(
                f"{where}: its actions are poses (most leave [-1, 1]), but the task takes changes of the pose; "
                "choose the task with _abs, or the file from which this was made"
            )

    def get_normalizer(self) -> LinearNormalizer:
        """Range to [-1, 1], but for the rotation and gripper of poses, which stay as they are."""
        normalizer = super().get_normalizer()
        if self._abs_action:
            normalizer["action"] = _positions_only(normalizer["action"])
        return normalizer


def _in_published_order(objects: Any, replay_buffer: ReplayBuffer) -> Any:
    """`object` (N, D) with its columns as robosuite had them before 1.5, as most files and `RobomimicEnv` do."""
    env_args = _env_args(replay_buffer)
    version = [int(number) for number in re.findall(r"\d+", str(env_args.get("env_version", "")))[:2]]
    order = ORDER_SINCE_1_5.get(env_args.get("env_name", ""))
    if version < [1, 5] or order is None:
        return objects
    return np.asarray(objects)[:, np.argsort(order)]


def _env_args(replay_buffer: ReplayBuffer) -> dict[str, Any]:
    """What the file says of the environment it was recorded in; nothing where it says nothing."""
    return json.loads(replay_buffer.meta["env_args"].item()) if "env_args" in replay_buffer.meta else {}


def _positions_only(fitted: FieldNormalizer) -> FieldNormalizer:
    is_position = torch.arange(len(fitted.scale)) % ROTATION_6D_SIZE < 3
    scale = torch.where(is_position, fitted.scale, 1.0)
    offset = torch.where(is_position, fitted.offset, 0.0)
    return FieldNormalizer(scale, offset, {name: getattr(fitted, f"input_{name}") for name in STATS})

"""Demonstrations of any format, named as in `shape_meta`, as training batches."""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_cache import load_cached, open_cached
from diffusion_policy.dataset.episode_files import load_episodes
from diffusion_policy.dataset.sequence_dataset import ImageStorage, Sample, SequenceDataset


class EpisodeDataset(SequenceDataset):
    """Windows over demonstrations in any format of `episode_files`: zarr, robomimic, LeRobot or npz.

    Only the keys of `shape_meta` are read. `diffusion-policy data info PATH` lists what there is, and
    `diffusion-policy data init PATH` writes `shape_meta`.

    A task whose observations are computed from what was recorded overrides `recorded_keys` and `to_sample`; one whose
    files have a format of their own, `read`.

    Args:
        path: The demonstrations, a file or folder.
        shape_meta: As in `SequenceDataset`, like the arguments below.
        horizon: T.
        n_obs_steps: To.
        n_action_steps: Ta.
        seed: Of the draws of validation and training episodes.
        val_ratio: Share of episodes to validate on.
        max_train_episodes: Number of episodes to train on; None takes all.
        pad_before: By default n_obs_steps - 1.
        pad_after: By default n_action_steps - 1.
        action_key: The array that is the action.
        cache_dir: Where to keep decoded images of PNG files and videos, so that later runs start at once; None
            decodes them anew. It may be deleted at any time.
        image_storage: "memory", or "disk" for images that are too many: zarr is read where it lies, other formats
            are kept as such in `cache_dir`.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: the data are damaged, lack a key of `shape_meta` or contradict it.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        shape_meta: Mapping[str, Any],
        horizon: int,
        n_obs_steps: int,
        n_action_steps: int,
        seed: int = 42,
        val_ratio: float = 0.0,
        max_train_episodes: int | None = None,
        pad_before: int | None = None,
        pad_after: int | None = None,
        action_key: str = "action",
        cache_dir: str | PathLike[str] | None = None,
        image_storage: ImageStorage = "memory",
    ) -> None:
        self._action_key = action_key
        self._cache_dir = None if cache_dir is None else Path(cache_dir).expanduser()
        self._image_storage = image_storage
        super().__init__(
            self.read(self.find(path), shape_meta),
            shape_meta,
            horizon,
            n_obs_steps,
            n_action_steps,
            seed,
            val_ratio,
            max_train_episodes,
            pad_before,
            pad_after,
            image_storage,
        )

    def find(self, path: str | PathLike[str]) -> Path:
        """Where the demonstrations lie; a task may say how to get those that are missing."""
        return Path(path).expanduser().absolute()

    def recorded_keys(self, path: Path, shape_meta: Mapping[str, Any]) -> Sequence[str]:
        """The arrays to read, under the names they were recorded with."""
        return [*shape_meta.get("obs", ()), self._action_key]

    def read(self, path: Path, shape_meta: Mapping[str, Any]) -> ReplayBuffer:
        """Read the demonstrations, or open them where their images stay on disk."""
        keys = self.recorded_keys(path, shape_meta)
        if self._image_storage == "disk":
            return open_cached(path, keys, self._cache_dir)
        if self._cache_dir is None:
            return load_episodes(path, keys)
        return load_cached(path, keys, self._cache_dir)

    def to_sample(self, replay_buffer: ReplayBuffer) -> Sample:
        """Take the arrays as they are named."""
        obs = {key: replay_buffer[key] for key in self._metas if key != "action"}
        return {"obs": obs, "action": replay_buffer[self._action_key]}

"""Episodes in the LeRobot layouts 2.0, 2.1 and 3.0: parquet files, with images in them or as mp4 videos."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import chosen, episodes_in_memory, joined_parts, unique_names
from diffusion_policy.dataset.lerobot_columns import (
    BOOKKEEPING,
    decode_images,
    from_column,
    key_of,
    per_step_shape,
)
from diffusion_policy.dataset.lerobot_layout import (
    INFO,
    Episode,
    LayoutV3,
    LayoutV21,
    grouped_by_file,
    layout_of,
    read_info,
    read_table,
)
from diffusion_policy.dataset.lerobot_video import read_frames
from diffusion_policy.dataset.lerobot_writer import write_v3, write_v21

TIMESTAMP_TOLERANCE_S = 1e-4  # LeRobot's own


class LeRobotFormat:
    """A LeRobot data set of layout 3.0; reads 2.0 and 2.1 too.

    `observation.state` is the key `state`, `observation.images.<camera>` is `<camera>`, `action` is `action`,
    `next.reward` is `next_reward`. Text is left out, and so is LeRobot's bookkeeping: row and episode numbers;
    `timestamp` where it follows from the frame rate; `task_index` where it is always the same. (Each is read when
    it is asked for.) `fps`, `tasks` and `robot_type` go to the buffer's `meta`.

    Saving writes images as PNG, without loss, and `fps` must be known.
    """

    name = "lerobot"

    def matches(self, path: Path) -> bool:
        """Whether this is a folder with a LeRobot index, or with the parquet files of one."""
        return (path / INFO).is_file() or any(path.glob("data/*/*.parquet"))

    def load(self, path: Path, keys: Sequence[str] | None = None) -> ReplayBuffer:
        """Read episodes into memory.

        Args:
            path: The folder with `meta`, `data` and perhaps `videos`.
            keys: The arrays to read, by default all.

        Raises:
            ImportError: pyarrow, or for images av or opencv, is not installed.
            ValueError: one of `keys` is not there, or a file is missing or damaged, or contradicts the index.
        """
        return _Reader(path).read(keys)

    def save(self, buffer: ReplayBuffer, path: Path) -> None:
        """Write all episodes in layout 3.0.

        Raises:
            FileExistsError: something is at `path`.
            ValueError: the buffer does not say its frame rate.
        """
        write_v3(buffer, path)


class LeRobotV21Format:
    """A LeRobot data set of layout 2.0 or 2.1: see `LeRobotFormat`; saves layout 2.1."""

    name = "lerobot-v2.1"

    def matches(self, path: Path) -> bool:
        """Whether this is a folder with a LeRobot index of layout 2."""
        return (path / INFO).is_file() and isinstance(layout_of(path, read_info(path)), LayoutV21)

    def load(self, path: Path, keys: Sequence[str] | None = None) -> ReplayBuffer:
        """Read episodes into memory; see `LeRobotFormat.load`."""
        return _Reader(path).read(keys)

    def save(self, buffer: ReplayBuffer, path: Path) -> None:
        """Write all episodes in layout 2.1; see `LeRobotFormat.save`."""
        write_v21(buffer, path)


class _Reader:
    """Reads one data set.

    Args:
        root: Its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.info = read_info(root)
        self.fps: float = self.info["fps"]
        self.layout: LayoutV3 | LayoutV21 = layout_of(root, self.info)
        try:
            self.episodes: list[Episode] = self.layout.episodes(root, self.info)
            self.tasks = self.layout.tasks(root)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{root}: its index of episodes is damaged ({error!r}); fetch it again"
            ) from error
        self._check_totals()
        self.features: dict[str, Mapping[str, Any]] = self.info["features"]

    def _check_totals(self) -> None:
        lengths = [episode.length for episode in self.episodes]
        if min(lengths, default=1) < 1:
            raise ValueError(
                f"{self.root}: its index says that an episode has {min(lengths)} steps; fetch it again"
            )
        for name, found in (("total_episodes", len(lengths)), ("total_frames", sum(lengths))):
            if self.info.get(name, found) != found:
                raise ValueError(
                    f"{self.root / INFO}: {name} is {self.info[name]}, but the index of episodes says {found}; fetch "
                    f"the data set again"
                )

    def read(self, keys: Sequence[str] | None) -> ReplayBuffer:
        """The chosen keys, by default all that say something, as a replay buffer."""
        names = self._features_by_key()
        wanted = chosen(self.root, [*names, *BOOKKEEPING], keys) if keys else list(names)
        if keys is None:
            wanted = self._without_absent_videos(wanted, names)
        arrays = {key: self._array(names.get(key, key)) for key in wanted}
        if keys is None:
            arrays |= self._telling_bookkeeping(arrays, len(self.tasks))
        lengths = [episode.length for episode in self.episodes]
        meta = {"fps": np.asarray(self.fps)}
        if self.tasks:
            meta["tasks"] = np.asarray([self.tasks[number] for number in sorted(self.tasks)])
        if self.info.get("robot_type"):
            meta["robot_type"] = np.asarray(str(self.info["robot_type"]))
        return episodes_in_memory(self.root, arrays, np.cumsum(lengths, dtype=np.int64), meta)

    def _features_by_key(self) -> dict[str, str]:
        names = [
            (key_of(feature), feature)
            for feature, entry in self.features.items()
            if feature not in BOOKKEEPING and entry["dtype"] != "string"
        ]
        return unique_names(self.root, names)

    def _without_absent_videos(self, wanted: list[str], names: Mapping[str, str]) -> list[str]:
        absent = [
            key
            for key in wanted
            if self._dtype(names[key]) == "video" and not (self.root / "videos").exists()
        ]
        if absent:
            warnings.warn(
                f"{self.root}: there is no folder 'videos', so {absent} are left out; fetch them if you need them",
                stacklevel=4,
            )
        return [key for key in wanted if key not in absent]

    def _telling_bookkeeping(self, arrays: Mapping[str, np.ndarray], n_tasks: int) -> dict[str, np.ndarray]:
        telling = {}
        if n_tasks > 1 and "task_index" not in arrays:
            numbers = self._array("task_index")
            if len(np.unique(numbers)) > 1:
                telling["task_index"] = numbers
        if "timestamp" in self.features and "timestamp" not in arrays:
            timestamps = self._array("timestamp")
            steps = np.concatenate([np.arange(episode.length) for episode in self.episodes])
            if np.abs(timestamps - steps / self.fps).max(initial=0) > TIMESTAMP_TOLERANCE_S:
                telling["timestamp"] = timestamps
        return telling

    def _dtype(self, feature: str) -> str:
        return str(self.features.get(feature, {}).get("dtype"))

    def _array(self, feature: str) -> np.ndarray:
        """All rows of a feature, (n_steps, ...)."""
        if self._dtype(feature) == "video":
            return self._video(feature)
        parts = []
        for file, numbers in grouped_by_file(self.episodes):
            table = read_table(file, ["episode_index", feature])
            self._check_rows(file, table["episode_index"].to_numpy(), numbers)
            if self._dtype(feature) == "image":
                parts.append(decode_images(file, feature, table[feature], table["episode_index"].to_numpy()))
            else:
                shape = per_step_shape(feature, self.features[feature])
                parts.append(from_column(file, feature, table[feature], shape))
        first_episodes = [numbers[0] for _, numbers in grouped_by_file(self.episodes)]
        is_image = self._dtype(feature) == "image"
        return joined_parts(self.root, feature, parts, first_episodes) if is_image else np.concatenate(parts)

    def _check_rows(self, file: Path, found: np.ndarray, numbers: Sequence[int]) -> None:
        expected = np.concatenate([np.full(self.episodes[number].length, number) for number in numbers])
        if not np.array_equal(found, expected):
            wrong = [number for number in numbers if (found == number).sum() != self.episodes[number].length]
            detail = (
                f"episode {wrong[0]} has {(found == wrong[0]).sum()} rows, but the index says "
                f"{self.episodes[wrong[0]].length}"
                if wrong
                else "its episodes are not one after another"
            )
            raise ValueError(f"{file}: {detail}; fetch the data set again")

    def _video(self, feature: str) -> np.ndarray:
        times: dict[Path, list[np.ndarray]] = {}
        numbers: dict[Path, list[int]] = {}
        for number, episode in enumerate(self.episodes):
            try:
                file, begin_s = self.layout.video(self.root, self.info, feature, episode)
            except KeyError as error:
                raise ValueError(
                    f"{self.root}: its index does not say where the videos of '{feature}' are (no {error}); fetch "
                    "the data set again, or leave this key out by naming the keys to read"
                ) from error
            times.setdefault(file, []).append(begin_s + np.arange(episode.length) / self.fps)
            numbers.setdefault(file, []).extend([number] * episode.length)
        parts = [
            read_frames(file, np.concatenate(times[file]), self.fps, np.array(numbers[file]))
            for file in times
        ]
        return joined_parts(self.root, feature, parts, [numbers[file][0] for file in times])

"""Write the LeRobot layouts 3.0 and 2.1, images as PNG files inside the parquet files."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.optional_package import optional_package
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import frames_per_second, unique_names
from diffusion_policy.dataset.lerobot_columns import (
    feature_entry,
    feature_of,
    hugging_face_feature,
    is_png,
    to_column,
)
from diffusion_policy.dataset.new_path import new_path

EPISODES_PER_CHUNK = 1000
IMAGES_IN_STATISTICS = 100  # at most, evenly spaced: a mean colour needs no more
_DATA_V3 = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_DATA_V21 = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_OWN = {
    name: {"dtype": dtype, "shape": [1], "names": None}
    for name, dtype in (
        ("timestamp", "float32"),
        ("frame_index", "int64"),
        ("episode_index", "int64"),
        ("index", "int64"),
        ("task_index", "int64"),
    )
}


def write_v3(buffer: ReplayBuffer, path: Path) -> None:
    """Write layout 3.0, complete or not at all."""
    pq, pa = optional_package("pyarrow.parquet"), optional_package("pyarrow")
    source = _Source(buffer)
    with new_path(path) as root:
        file = _made(root / _DATA_V3.format(chunk_index=0, file_index=0))
        with pq.ParquetWriter(file, source.schema()) as writer:
            for index in range(buffer.n_episodes):
                writer.write_table(source.table(index))  # a row group per episode
        rows = [source.index_row(index) for index in range(buffer.n_episodes)]
        for row, end in zip(rows, buffer.episode_ends.tolist(), strict=True):
            row |= {"dataset_from_index": end - row["length"], "dataset_to_index": end}
            row |= dict.fromkeys(("data/chunk_index", "data/file_index"), 0)
            row |= dict.fromkeys(("meta/episodes/chunk_index", "meta/episodes/file_index"), 0)
        index_file = _made(root / "meta/episodes/chunk-000/file-000.parquet")
        pq.write_table(pa.Table.from_pylist(rows), index_file)
        pq.write_table(_task_table(source.tasks), root / "meta/tasks.parquet")
        _write_json(root / "meta/stats.json", source.statistics(slice(0, buffer.n_steps)))
        sizes = {"data_files_size_in_mb": 100, "video_files_size_in_mb": 200}
        _write_json(root / "meta/info.json", source.info("v3.0", _DATA_V3) | sizes)


def write_v21(buffer: ReplayBuffer, path: Path) -> None:
    """Write layout 2.1, complete or not at all."""
    pq = optional_package("pyarrow.parquet")
    source = _Source(buffer)
    with new_path(path) as root:
        statistics = []
        for index in range(buffer.n_episodes):
            place = {"episode_chunk": index // EPISODES_PER_CHUNK, "episode_index": index}
            pq.write_table(source.table(index), _made(root / _DATA_V21.format(**place)))
            of_episode = source.statistics(buffer.get_episode_slice(index))
            statistics.append({"episode_index": index, "stats": of_episode})
        (root / "meta").mkdir()
        _write_lines(root / "meta/episodes.jsonl", map(source.index_row, range(buffer.n_episodes)))
        _write_lines(root / "meta/episodes_stats.jsonl", statistics)
        tasks = [{"task_index": i, "task": task} for i, task in enumerate(source.tasks)]
        _write_lines(root / "meta/tasks.jsonl", tasks)
        n_chunks = -(-buffer.n_episodes // EPISODES_PER_CHUNK)
        info = source.info("v2.1", _DATA_V21) | {"total_videos": 0, "total_chunks": n_chunks}
        _write_json(root / "meta/info.json", info)


class _Source:
    """A replay buffer as LeRobot sees it.

    Raises:
        ValueError: it has no episodes, or does not say its frame rate.
    """

    def __init__(self, buffer: ReplayBuffer) -> None:
        fps = frames_per_second(buffer)
        if fps is None:
            raise ValueError(
                f"{buffer.where} does not say its frame rate, which the LeRobot layout needs: convert with "
                "--fps 10, or set it with buffer.update_meta({'fps': 10})"
            )
        if buffer.n_episodes == 0:
            raise ValueError(f"{buffer.where} has no episodes to write")
        self.buffer = buffer
        self.fps = fps
        features = [(feature_of(key, array), key) for key, array in buffer.items()]
        self.keys = unique_names(buffer.where, features)
        self.features = {name: feature_entry(buffer[key]) for name, key in self.keys.items()} | _OWN
        self._task_numbers = np.zeros(buffer.n_steps, np.int64)
        if "task_index" in buffer:
            self._task_numbers = np.asarray(buffer["task_index"]).reshape(buffer.n_steps).astype(np.int64)
        words = [str(word) for word in np.atleast_1d(buffer.meta.get("tasks", np.asarray("task")))]
        n_tasks = int(self._task_numbers.max()) + 1
        self.tasks = words + [f"task {number}" for number in range(len(words), n_tasks)]

    def schema(self) -> Any:
        """The columns of all files."""
        return self.table(0).schema

    def table(self, index: int) -> Any:
        """The rows of one episode."""
        pa = optional_package("pyarrow")
        rows = self.buffer.get_episode_slice(index)
        steps = np.arange(rows.stop - rows.start)
        own = {
            "timestamp": (steps / self.fps).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(len(steps), index),
            "index": np.arange(rows.start, rows.stop),
            "task_index": self._task_numbers[rows],
        }
        arrays = {name: self.buffer[key][rows] for name, key in self.keys.items()} | own
        table = pa.table({name: to_column(array) for name, array in arrays.items()})
        described = {name: hugging_face_feature(entry) for name, entry in self.features.items()}
        return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": described}})})

    def index_row(self, index: int) -> dict[str, Any]:
        """What the index of episodes says of one."""
        rows = self.buffer.get_episode_slice(index)
        tasks = [self.tasks[number] for number in np.unique(self._task_numbers[rows])]
        return {"episode_index": index, "tasks": tasks, "length": rows.stop - rows.start}

    def info(self, version: str, data_path: str) -> dict[str, Any]:
        """`meta/info.json`."""
        robot = self.buffer.meta.get("robot_type")
        return {
            "codebase_version": version,
            "robot_type": None if robot is None else str(robot),
            "total_episodes": self.buffer.n_episodes,
            "total_frames": self.buffer.n_steps,
            "total_tasks": len(self.tasks),
            "chunks_size": EPISODES_PER_CHUNK,
            "fps": int(self.fps) if self.fps.is_integer() else self.fps,
            "splits": {"train": f"0:{self.buffer.n_episodes}"},
            "data_path": data_path,
            "video_path": None,
            "features": self.features,
        }

    def statistics(self, rows: slice) -> dict[str, dict[str, Any]]:
        """Least, greatest, mean and standard deviation of every feature over some rows."""
        return {name: _statistics(np.asarray(self.buffer[key][rows])) for name, key in self.keys.items()}


def _statistics(values: np.ndarray) -> dict[str, Any]:
    """Per number of a step; of images per channel, in [0, 1], as (3, 1, 1)."""
    count = len(values)
    if is_png(values):
        values = values[:: -(-len(values) // IMAGES_IN_STATISTICS)].reshape(-1, 3)[..., None, None] / 255.0
    numbers = values.reshape(len(values), *(values.shape[1:] or (1,))).astype(np.float64)
    result = {"min": numbers.min(0), "max": numbers.max(0), "mean": numbers.mean(0), "std": numbers.std(0)}
    return {name: value.tolist() for name, value in result.items()} | {"count": [count]}


def _task_table(tasks: list[str]) -> Any:
    """A table which pandas reads with the words as its index, as LeRobot expects."""
    pa = optional_package("pyarrow")
    index = "__index_level_0__"
    kinds = {"task_index": ("int64", "int64"), index: ("unicode", "object")}
    columns = [
        {
            "name": None if name == index else name,
            "field_name": name,
            "pandas_type": kind,
            "numpy_type": numpy,
            "metadata": None,
        }
        for name, (kind, numpy) in kinds.items()
    ]
    described = {
        "index_columns": [index],
        "column_indexes": [],
        "columns": columns,
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": np.arange(len(tasks)), index: tasks})
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def _made(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2))


def _write_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))

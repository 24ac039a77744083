"""Where the two LeRobot layouts keep what: 2.1 a file per episode, 3.0 many episodes per file."""

import json
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_policy.common.optional_package import optional_package

INFO = "meta/info.json"


@dataclass(frozen=True)
class Episode:
    """One episode of the index.

    Args:
        length: Number of steps L.
        data_file: The parquet file with its rows.
        tasks: What was to be done, in words.
        row: What the index says of it.
    """

    length: int
    data_file: Path
    tasks: tuple[str, ...]
    row: Mapping[str, Any]


def read_info(root: Path) -> dict[str, Any]:
    """`meta/info.json`.

    Raises:
        ValueError: it is missing or damaged.
    """
    path = root / INFO
    if not path.is_file():
        raise ValueError(f"{root}: no {INFO}, without which its parquet files mean nothing; fetch it too")
    try:
        info = json.loads(path.read_text())
        features = {
            name: {
                **entry,
                "dtype": str(entry["dtype"]),
                "shape": [operator.index(n) for n in entry["shape"]],
            }
            for name, entry in info["features"].items()
        }
        fps = float(info["fps"])
        if not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps}")
        return {**info, "fps": fps, "features": features}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); fetch it again") from error


def column_names(path: Path) -> list[str]:
    """The columns of a parquet file.

    Raises:
        ValueError: the file is missing or damaged.
    """
    pq, pa = optional_package("pyarrow.parquet"), optional_package("pyarrow")
    if not path.is_file():
        raise ValueError(f"no file {path}, which the data set's index names; fetch the data set again")
    try:
        return pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} is not a complete parquet file ({error}); fetch it again") from error


def read_table(path: Path, columns: Sequence[str]) -> Any:
    """Columns of a parquet file as an Arrow table.

    Raises:
        ValueError: the file is missing or damaged, or lacks a column.
    """
    pq, pa = optional_package("pyarrow.parquet"), optional_package("pyarrow")
    present = column_names(path)
    missing = [name for name in columns if name not in present]
    if missing:
        raise ValueError(f"{path}: no columns {missing} among {present}; fetch the data set again")
    try:
        return pq.read_table(path, columns=list(columns), partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} is damaged ({error}); fetch it again") from error


class LayoutV3:
    """Layout 3.0: the index is parquet files below `meta/episodes`."""

    version = "v3.0"

    def episodes(self, root: Path, info: Mapping[str, Any]) -> list[Episode]:
        """The index, in the order of the episodes."""
        files = sorted(root.glob("meta/episodes/*/*.parquet"))
        if not files:
            raise ValueError(f"{root}: no meta/episodes/*/*.parquet, the index of episodes; fetch it too")
        rows = [row for file in files for row in _index_rows(file)]
        return [self._episode(root, info, row) for row in sorted(rows, key=lambda row: row["episode_index"])]

    def _episode(self, root: Path, info: Mapping[str, Any], row: Mapping[str, Any]) -> Episode:
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        data_file = located(root, info["data_path"], **place)
        return Episode(operator.index(row["length"]), data_file, tuple(row.get("tasks") or ()), row)

    def video(
        self, root: Path, info: Mapping[str, Any], feature: str, episode: Episode
    ) -> tuple[Path, float]:
        """The video file with an episode's frames of a camera, and when in it the episode begins in seconds."""
        begin = f"videos/{feature}"
        place = {name: episode.row[f"{begin}/{name}"] for name in ("chunk_index", "file_index")}
        file = located(root, info["video_path"], video_key=feature, **place)
        return file, float(episode.row[f"{begin}/from_timestamp"])

    def tasks(self, root: Path) -> dict[int, str]:
        """Tasks in words by number."""
        file = root / "meta/tasks.parquet"
        table = read_table(file, column_names(file)).to_pydict()
        words: list[str] = next((values for name, values in table.items() if name != "task_index"), [])
        return dict(zip(table["task_index"], words, strict=True))


class LayoutV21:
    """Layouts 2.0 and 2.1: the index is `meta/episodes.jsonl`."""

    version = "v2.1"

    def episodes(self, root: Path, info: Mapping[str, Any]) -> list[Episode]:
        """The index, in the order of the episodes."""
        rows = sorted(_json_lines(root / "meta/episodes.jsonl"), key=lambda row: row["episode_index"])
        return [
            Episode(
                operator.index(row["length"]),
                located(root, info["data_path"], **self._place(info, row)),
                tuple(row.get("tasks") or ()),
                row,
            )
            for row in rows
        ]

    def _place(self, info: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, int]:
        number = operator.index(row["episode_index"])
        return {
            "episode_chunk": number // operator.index(info.get("chunks_size", 1000)),
            "episode_index": number,
        }

    def video(
        self, root: Path, info: Mapping[str, Any], feature: str, episode: Episode
    ) -> tuple[Path, float]:
        """The video file with an episode's frames of a camera, and when in it the episode begins in seconds."""
        place = self._place(info, episode.row)
        return located(root, info["video_path"], video_key=feature, **place), 0.0

    def tasks(self, root: Path) -> dict[int, str]:
        """Tasks in words by number."""
        return {
            operator.index(row["task_index"]): row["task"] for row in _json_lines(root / "meta/tasks.jsonl")
        }


def layout_of(root: Path, info: Mapping[str, Any]) -> LayoutV3 | LayoutV21:
    """The layout that a data set says it has.

    Raises:
        ValueError: it is older than 2.0 or newer than 3.x.
    """
    version = str(info.get("codebase_version", ""))
    if version.startswith("v3."):
        return LayoutV3()
    if version.startswith("v2."):
        return LayoutV21()
    raise ValueError(
        f"{root / INFO}: codebase_version is {version!r}; readable are v2.0, v2.1 and v3.x. Convert older data "
        "sets with LeRobot's own scripts"
    )


def located(root: Path, template: str, **place: Any) -> Path:
    """A file of the data set from a template of `meta/info.json`.

    Raises:
        ValueError: the template asks for something else, or leads out of the data set.
    """
    try:
        path = root / template.format(**place)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{root / INFO}: template {template!r} does not fit its layout ({error!r})"
        ) from error
    if ".." in Path(template).parts or not path.is_relative_to(root):
        raise ValueError(f"{root / INFO}: template {template!r} leads out of the data set")
    return path


def grouped_by_file(episodes: Sequence[Episode]) -> Iterator[tuple[Path, list[int]]]:
    """Data files in the order of their first episode, each with the numbers of its episodes."""
    files: dict[Path, list[int]] = {}
    for number, episode in enumerate(episodes):
        files.setdefault(episode.data_file, []).append(number)
    yield from files.items()


def _index_rows(file: Path) -> list[dict[str, Any]]:
    """Rows of the index, without the statistics in it."""
    names = [name for name in column_names(file) if not name.startswith("stats/")]
    return read_table(file, names).to_pylist()


def _json_lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"no {path}, which LeRobot's layout 2.1 needs; fetch it too")
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); fetch it again") from error

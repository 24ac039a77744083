"""Demonstrations that are missing, truncated, hostile or that lie: each function makes some in a folder."""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from diffusion_policy.dataset.episode_files import save_episodes
from tests.dataset.example_episodes import reaching_episodes

Make = Callable[[Path], Path]
N_EPISODES, LENGTH = 3, 6


class Hostile:
    """Unpickling this makes a folder: the canary that shows that code was run."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def sound(folder: Path, name: str, format: str | None = None) -> Path:
    """Demonstrations without a fault: `state` (3), `action` (3) and `camera` (16, 16, 3)."""
    save_episodes(reaching_episodes(N_EPISODES, LENGTH), folder / name, format)
    return folder / name


def edit_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# Nothing there, or something else


def nothing(folder: Path) -> Path:
    return folder / "data.zarr"


def empty_folder(folder: Path) -> Path:
    (folder / "data").mkdir()
    return folder / "data"


def text_file(folder: Path) -> Path:
    (folder / "data.csv").write_text("x,y\n1,2\n")
    return folder / "data.csv"


# zarr


def without(member: str) -> Make:
    """A zarr directory from which something was deleted."""

    def make(folder: Path) -> Path:
        path = sound(folder, "data.zarr")
        shutil.rmtree(path / member) if (path / member).is_dir() else (path / member).unlink()
        return path

    return make


def with_ends(ends: Any) -> Make:
    """A zarr directory with other episode ends than 6, 12, 18."""

    def make(folder: Path) -> Path:
        path = without("meta/episode_ends")(folder)
        zarr.open_group(path / "meta", mode="r+", zarr_format=2).create_array(
            "episode_ends", data=np.asarray(ends)
        )
        return path

    return make


def with_metadata(**changes: object) -> Make:
    """A zarr directory whose action says something else of itself."""

    def make(folder: Path) -> Path:
        path = sound(folder, "data.zarr")
        edit_json(path / "data/action/.zarray", **changes)
        return path

    return make


def garbled_metadata(folder: Path) -> Path:
    path = sound(folder, "data.zarr")
    (path / "data/action/.zarray").write_text("{")
    return path


def truncated_chunk(folder: Path) -> Path:
    path = sound(folder, "data.zarr")
    return truncated(path / "data/action/0.0") and path


def zarr_of_format_3(folder: Path) -> Path:
    zarr.open_group(folder / "data.zarr", mode="w", zarr_format=3)
    return folder / "data.zarr"


def zip_of_text(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "data.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    return folder / "data.zip"


def pickled_zarr(folder: Path) -> Path:
    """zarr itself takes these codecs for a text array, so only the reader can refuse them."""
    codecs = {"filters": [{"id": "vlen-utf8"}], "compressor": {"id": "pickle", "protocol": 5}}
    path = with_metadata(dtype="|O", fill_value="", **codecs)(folder)
    (path / "data/action/0.0").write_bytes(pickle.dumps(Hostile(folder / "canary")))
    return path


# Files of the other formats


def truncated(file: Path) -> Path:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return file


def half_of(name: str) -> Make:
    return lambda folder: truncated(sound(folder, name))


def hdf5(**arrays: object) -> Make:
    """An HDF5 file with these arrays; `__` in a name stands for a level."""

    def make(folder: Path) -> Path:
        h5py = pytest.importorskip("h5py")
        with h5py.File(folder / "data.hdf5", "w") as file:
            for name, array in arrays.items():
                file[name.replace("__", "/")] = array
        return folder / "data.hdf5"

    return make


def npz(**arrays: Any) -> Make:
    def make(folder: Path) -> Path:
        np.savez(folder / "data.npz", **arrays)
        return folder / "data.npz"

    return make


def pickled_npz(folder: Path) -> Path:
    hostile = np.array([Hostile(folder / "canary")] * 2, dtype=object)
    return npz(action=hostile, episode_ends=[2])(folder)


# LeRobot


def lerobot(version: str = "lerobot", **changes: object) -> Make:
    """A LeRobot folder whose `meta/info.json` says something else."""

    def make(folder: Path) -> Path:
        path = sound(folder, "data", version)
        edit_json(path / "meta/info.json", **changes)
        return path

    return make


def lerobot_with_action(**entry: object) -> Make:
    """A LeRobot folder whose `meta/info.json` says something else of the action."""

    def make(folder: Path) -> Path:
        path = sound(folder, "data", "lerobot")
        (path / "videos").mkdir()
        info = json.loads((path / "meta/info.json").read_text())
        edit_json(path / "meta/info.json", features=info["features"] | {"action": entry})
        return path

    return make


def lerobot_without_info(folder: Path) -> Path:
    path = sound(folder, "data", "lerobot")
    (path / "meta/info.json").unlink()
    return path


def lerobot_truncated(folder: Path) -> Path:
    path = sound(folder, "data", "lerobot")
    return truncated(next(path.glob("data/*/*.parquet"))) and path


def lerobot_index(name: str, edit: Callable[[str], str]) -> Make:
    """A LeRobot folder of layout 2.1 with an edited index file."""

    def make(folder: Path) -> Path:
        path = sound(folder, "data", "lerobot-v2.1")
        file = path / "meta" / name
        file.write_text(edit(file.read_text()))
        return path

    return make

"""Episodes in robomimic's HDF5 layout, `data/demo_<i>/{obs/<key>, actions, ...}` (robomimic 0.2 to 0.5)."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.hdf5_file import opened_hdf5
from diffusion_policy.common.optional_package import optional_package
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import (
    by_number,
    chosen,
    episodes_in_memory,
    joined_parts,
    unique_names,
)
from diffusion_policy.dataset.new_path import new_path

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_KEPT_META = ("env_args", "fps")
_EPISODE_META = ("seed", "success")  # of demonstrations of a scripted expert
NOT_OBSERVED = ("rewards", "dones", "states")  # what a demonstration holds beside obs and actions


class RobomimicFormat:
    """robomimic and robosuite demonstrations: `obs/<key>` is the key `<key>`, `actions` is `action`.

    Other arrays of a demonstration (`states`, `rewards`, `dones`, `actions_abs`) keep their names. `next_obs`
    repeats `obs` one step later and is left out, as are `mask` and what is not an array. Demonstrations come in
    the order of their numbers. `env_args` stays in the buffer's `meta` as JSON text, its control frequency as
    `fps`.
    """

    name = "robomimic"

    def matches(self, path: Path) -> bool:
        """Whether this is an HDF5 file, whole or not."""
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE or path.suffix in (".hdf5", ".h5")

    def load(self, path: Path, keys: Sequence[str] | None = None) -> ReplayBuffer:
        """Read episodes into memory.

        Args:
            path: The HDF5 file.
            keys: The arrays to read, by default all.

        Raises:
            ImportError: h5py is not installed.
            ValueError: one of `keys` is not there, or the file is damaged or laid out otherwise.
        """
        with opened_hdf5(path) as file:
            demos = _demos(path, file)
            places = _places(path, demos[0])
            lengths = [
                len(_array(path, demo, places.get("action", next(iter(places.values()))))) for demo in demos
            ]
            arrays = {key: _joined(path, demos, places[key], lengths) for key in chosen(path, places, keys)}
            meta = _meta(file["data"].attrs)
        return episodes_in_memory(path, arrays, np.cumsum(lengths), meta)

    def save(self, buffer: ReplayBuffer, path: Path) -> None:
        """Write all episodes.

        Raises:
            FileExistsError: something is at `path`.
        """
        h5py = optional_package("h5py")
        with new_path(path) as temporary:
            content = io.BytesIO()  # on a full disk HDF5 would end the process where it writes a file itself
            with h5py.File(content, "w") as file:
                _write(buffer, file.create_group("data"))
            with temporary.open("wb") as target, content.getbuffer() as written:
                target.write(written)


def _write(buffer: ReplayBuffer, data: Any) -> None:
    data.attrs["total"] = buffer.n_steps
    data.attrs.update({name: buffer.meta[name].item() for name in _KEPT_META if name in buffer.meta})
    for index in range(buffer.n_episodes):
        demo = data.create_group(f"demo_{index}")
        rows = buffer.get_episode_slice(index)
        demo.attrs["num_samples"] = rows.stop - rows.start
        demo.attrs.update({name: buffer.meta[name][index] for name in _EPISODE_META if name in buffer.meta})
        for key, array in buffer.items():
            demo.create_dataset(_place(key), data=array[rows])


def _place(key: str) -> str:
    """Where a key is kept in a demonstration."""
    if key == "action":
        return "actions"
    return key if key in NOT_OBSERVED or key.startswith("actions_") else f"obs/{key}"


def _demos(path: Path, file: Any) -> list[Any]:
    data = file.get("data")
    demos = [name for name in data if name.startswith("demo_")] if hasattr(data, "keys") else []
    if not all(hasattr(data[name], "keys") for name in demos):
        raise ValueError(f"{path}: of {demos} in 'data' some are no groups; write them as robomimic does")
    if not demos:
        raise ValueError(
            f"{path}: no demonstrations: expected groups data/demo_0, data/demo_1, ... as robomimic writes "
            f"them, found {list(file)} at the top"
        )
    return [data[name] for name in sorted(demos, key=by_number)]


def _places(path: Path, demo: Any) -> dict[str, str]:
    """Where the array of each key is in a demonstration."""
    own = [("action" if name == "actions" else name, name) for name in demo if hasattr(demo[name], "dtype")]
    observed = demo.get("obs", {})
    obs = [(name, f"obs/{name}") for name in observed if hasattr(observed[name], "dtype")]
    if not own and not obs:
        raise ValueError(f"{path}: {demo.name} holds no arrays; expected 'actions' and a group 'obs'")
    return unique_names(path, [*obs, *own])


def _array(path: Path, demo: Any, place: str) -> Any:
    if place not in demo:
        raise ValueError(f"{path}: {demo.name} lacks '{place}', which the first demonstration has")
    return demo[place]


def _joined(path: Path, demos: Sequence[Any], place: str, lengths: Sequence[int]) -> np.ndarray:
    parts = []
    for demo, length in zip(demos, lengths, strict=True):
        array = _array(path, demo, place)
        if array.ndim == 0 or len(array) != length:
            raise ValueError(
                f"{path}: {demo.name}/{place} has shape {array.shape}, but the demonstration has {length} steps; "
                "leave this key out by naming the keys to read"
            )
        parts.append(array[()])
    return joined_parts(path, place, parts)


def _meta(attributes: Any) -> dict[str, np.ndarray]:
    meta = {}
    if "env_args" in attributes:
        meta["env_args"] = np.asarray(str(attributes["env_args"]))
    fps = attributes.get("fps", _control_frequency(attributes.get("env_args")))
    if fps is not None:
        meta["fps"] = np.asarray(float(fps))
    return meta


def _control_frequency(env_args: str | None) -> float | None:
    try:
        return json.loads(env_args or "{}").get("env_kwargs", {}).get("control_freq")
    except (ValueError, AttributeError):
        return None  # free text: not ours to judge

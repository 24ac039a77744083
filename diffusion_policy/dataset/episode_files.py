"""Demonstrations in any format this package knows, by their path."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Protocol

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.lerobot_format import LeRobotFormat, LeRobotV21Format
from diffusion_policy.dataset.npz_format import NpzFormat
from diffusion_policy.dataset.robomimic_format import RobomimicFormat
from diffusion_policy.dataset.zarr_format import ZarrFormat


class EpisodeFormat(Protocol):
    """One way to keep demonstrations on disk."""

    name: str

    def matches(self, path: Path) -> bool:
        """Whether what is at an existing path looks like this format."""

    def load(self, path: Path, keys: Sequence[str] | None = None) -> ReplayBuffer:
        """Read the chosen keys, by default all, into memory."""

    def save(self, buffer: ReplayBuffer, path: Path) -> None:
        """Write all, complete or not at all; never over what is there."""


# The first that matches is taken.
FORMATS: tuple[EpisodeFormat, ...] = (
    LeRobotV21Format(),
    LeRobotFormat(),
    RobomimicFormat(),
    NpzFormat(),
    ZarrFormat(),
)
_SUFFIXES = {".npz": "npz", ".hdf5": "robomimic", ".h5": "robomimic", ".zarr": "zarr", ".zip": "zarr"}
_LOOKED_FOR = (
    "a zarr directory (.zgroup in it) or .zarr.zip, a robomimic .hdf5 file, a LeRobot folder (meta/info.json in "
    "it), an .npz file or a folder of them"
)


def detect_format(path: str | PathLike[str]) -> EpisodeFormat:
    """The format of the demonstrations at `path`.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: no format fits; the message says what was looked for.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no demonstrations at {path}: there is no such path. Expected {_LOOKED_FOR}")
    for candidate in FORMATS:
        if candidate.matches(path):
            return candidate
    inside = [inner for inner in sorted(path.glob("*")) if inner.suffix in _SUFFIXES] if path.is_dir() else []
    advice = f"give {inside[0]}" if inside else "give the path of one, or convert your arrays to .npz"
    raise ValueError(f"{path} holds no demonstrations in a known format. Looked for {_LOOKED_FOR}; {advice}")


def load_episodes(path: str | PathLike[str], keys: Sequence[str] | None = None) -> ReplayBuffer:
    """Read demonstrations of any format into memory.

    Args:
        path: A file or folder; see `FORMATS`.
        keys: The arrays to read, by default all.

    Returns:
        A replay buffer in memory. Images are (n_steps, H, W, C) uint8, the action has the key `action`.

    Raises:
        FileNotFoundError: nothing at `path`.
        ImportError: the format needs a package that is not installed.
        ValueError: no format fits, one of `keys` is not there, or the data are damaged.
    """
    return detect_format(path).load(Path(path).expanduser(), keys)


def save_episodes(buffer: ReplayBuffer, path: str | PathLike[str], format: str | None = None) -> None:
    """Write demonstrations, complete or not at all.

    Args:
        buffer: The demonstrations.
        path: A file or folder that does not exist yet.
        format: The name of one of `FORMATS`; by default that of the path's ending.

    Raises:
        FileExistsError: something is at `path`.
        ValueError: the format is unknown, or cannot hold these data.
    """
    target = Path(path).expanduser()
    if target.exists():
        raise FileExistsError(f"{target} exists already; remove it or choose another name")
    format_for_writing(target, format).save(buffer, target)


def format_for_writing(path: Path, name: str | None = None) -> EpisodeFormat:
    """The format of a given name, else that of a path's ending.

    Raises:
        ValueError: there is none.
    """
    known = {candidate.name: candidate for candidate in FORMATS}
    name = name or _SUFFIXES.get(path.suffix)
    if name not in known:
        asked = f"format {name!r} is not known" if name else f"the ending of {path} names no format"
        raise ValueError(
            f"{asked}: choose one of {sorted(known)} with --format, or an ending of {list(_SUFFIXES)}"
        )
    return known[name]

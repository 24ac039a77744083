"""Episodes in the replay buffer's own zarr v2 layout."""

from collections.abc import Sequence
from pathlib import Path

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.zarr_files import open_group
from diffusion_policy.common.zarr_storage import ZarrStorage
from diffusion_policy.dataset.episode_arrays import episodes_in_memory


class ZarrFormat:
    """The original's layout, a `.zarr` directory or a `.zarr.zip` file; see `ReplayBuffer`."""

    name = "zarr"

    def matches(self, path: Path) -> bool:
        """Whether this looks like a zarr directory or a zip file."""
        if path.is_file():
            return path.suffix == ".zip"
        return path.suffix == ".zarr" or (path / ".zgroup").exists() or (path / "zarr.json").exists()

    def load(self, path: Path, keys: Sequence[str] | None = None) -> ReplayBuffer:
        """Read episodes into memory; images of floats 0, 1, ..., 255 become uint8.

        Args:
            path: The zarr directory or zip file.
            keys: The arrays to read, by default all.

        Raises:
            ValueError: one of `keys` is not there, or a chunk of one is missing or damaged.
        """
        stored = _stored(path, keys)
        return episodes_in_memory(path, stored.data, stored.episode_ends, stored.meta)

    def open(self, path: Path, keys: Sequence[str] | None = None) -> ReplayBuffer:
        """Open episodes where they lie: rows are read when they are indexed, as they are stored.

        Args:
            path: The zarr directory or zip file.
            keys: The arrays to open, by default all.

        Raises:
            ValueError: one of `keys` is not there.
        """
        return ReplayBuffer(_stored(path, keys))

    def has(self, path: Path, key: str) -> bool:
        """Whether there is an array of this name; it is not opened."""
        _, folder = open_group(path, "r")
        return (folder / "data" / key / ".zarray").exists()

    def save(self, buffer: ReplayBuffer, path: Path) -> None:
        """Write all episodes; see `ReplayBuffer.save_to_path`.

        Raises:
            FileExistsError: something is at `path`.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer.save_to_path(path)


def _stored(path: Path, keys: Sequence[str] | None) -> ZarrStorage:
    try:
        return ZarrStorage(path, "r", keys)
    except KeyError as error:
        raise ValueError(error.args[0]) from error

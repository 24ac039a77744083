"""What all data formats share: arrays over the steps of all episodes, checked, become a replay buffer."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from diffusion_policy.common.memory_storage import MemoryStorage
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.stored_array import StoredArray

ROWS_AT_ONCE = 64
LEAST_IMAGE_SIDE = 8  # pixels; float arrays (n, 3, 3, 3), say, are no images


def episodes_in_memory(
    where: Path,
    arrays: Mapping[str, np.ndarray | StoredArray],
    episode_ends: np.ndarray,
    meta: Mapping[str, np.ndarray] | None = None,
) -> ReplayBuffer:
    """A replay buffer of arrays that were read from `where`.

    Args:
        where: What messages call it.
        arrays: Arrays (n_steps, ...) by key. Images stored as floats 0, 1, ..., 255 become uint8.
        episode_ends: Exclusive end of every episode, (n_episodes,) int, increasing.
        meta: Other arrays, such as `fps`.

    Raises:
        ValueError: there are steps but no arrays, one is not numeric or not n_steps long, or the ends do not
            increase.
    """
    ends = checked_ends(where, episode_ends)
    n_steps = int(ends[-1]) if len(ends) else 0
    if n_steps and not arrays:
        raise ValueError(
            f"{where}: its {len(ends)} episodes have no arrays, such as 'action'; write or fetch it again"
        )
    for key, array in arrays.items():
        if array.dtype.kind not in "biuf" or not array.shape:
            raise ValueError(
                f"{where}: '{key}' holds {array.dtype} of shape {array.shape}, but a key must hold numbers, "
                "one row per step; leave it out by naming the keys to read"
            )
        if len(array) != n_steps:
            raise ValueError(
                f"{where}: '{key}' has {len(array)} rows, but the {len(ends)} episodes have {n_steps} steps; "
                "mend the episode ends, or leave this key out by naming the keys to read"
            )
    data = {key: as_stored(array) for key, array in arrays.items()}
    return ReplayBuffer(
        MemoryStorage(f"episodes read from {where}", data, {**(meta or {}), "episode_ends": ends})
    )


def checked_ends(where: Path, episode_ends: np.ndarray) -> np.ndarray:
    """Episode ends as int64.

    Raises:
        ValueError: they are not increasing positive integers.
    """
    ends = np.asarray(episode_ends)
    if ends.ndim != 1 or ends.dtype.kind not in "iu":
        raise ValueError(
            f"{where}: episode_ends must be integers (n_episodes,), got {ends.dtype} of shape {ends.shape}"
        )
    lengths = np.diff(ends.astype(np.int64), prepend=0)
    if (lengths <= 0).any():
        row = int(np.argmax(lengths <= 0))
        raise ValueError(
            f"{where}: episode_ends must increase from one episode to the next, but episode {row} ends at "
            f"{ends[row]} after {ends[row - 1] if row else 0}; it holds the exclusive ends: 161, 279, ..."
        )
    return ends.astype(np.int64)


def as_stored(array: np.ndarray | StoredArray) -> np.ndarray:
    """Images (n, H, W, 3) of floats that are whole numbers in [0, 255] as uint8; all else as it is."""
    shape = array.shape
    if array.dtype.kind != "f" or len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < LEAST_IMAGE_SIDE:
        return array[:]
    images = np.empty(shape, np.uint8)
    for rows, values in row_blocks(array):  # as floats all might not fit into memory
        with np.errstate(invalid="ignore"):
            images[rows] = values.astype(np.uint8)
        if not np.array_equal(images[rows], values):
            return array[:]
    return images


def row_blocks(array: np.ndarray | StoredArray) -> Iterator[tuple[slice, np.ndarray]]:
    """All rows in blocks, one after another: where each lies, and its values."""
    size = array.chunks[0] if isinstance(array, StoredArray) else ROWS_AT_ONCE
    for number, start in enumerate(range(0, len(array), size)):
        rows = slice(start, min(start + size, len(array)))
        yield rows, array.read_chunk(number) if isinstance(array, StoredArray) else array[rows]


def joined_parts(
    where: Path, key: str, parts: Sequence[np.ndarray], first_episodes: Sequence[int] | None = None
) -> np.ndarray:
    """One array over all steps from one part per episode.

    Args:
        where: What messages call the data.
        key: What they call the array.
        parts: Arrays (L, ...).
        first_episodes: The episode that each part begins with, where a part holds several.

    Raises:
        ValueError: shape or type of a step differ; names the first such episode.
    """
    episodes = range(len(parts)) if first_episodes is None else first_episodes
    first = parts[0]
    for episode, part in zip(episodes, parts, strict=True):
        if (part.shape[1:], part.dtype) != (first.shape[1:], first.dtype):
            raise ValueError(
                f"{where}: '{key}' differs in shape or type between episodes: from episode {episode}, step 0 on it "
                f"is {part.dtype} {part.shape[1:]} per step, in episode 0 {first.dtype} {first.shape[1:]}; write "
                "them alike, or leave this key out by naming the keys to read"
            )
    return np.concatenate(parts)


def is_image(array: np.ndarray | StoredArray) -> bool:
    """Whether an array of a replay buffer holds images: (n, H, W, C) uint8."""
    return array.dtype == np.uint8 and len(array.shape) == 4 and array.shape[-1] in (1, 3, 4)


def frame_chunks(buffer: ReplayBuffer) -> dict[str, tuple[int, ...]]:
    """Chunk shapes of the images in a buffer that can be read one by one."""
    return {key: (1, *array.shape[1:]) for key, array in buffer.items() if is_image(array)}


def chosen(where: Path, present: Collection[str], keys: Sequence[str] | None) -> list[str]:
    """The keys to read: those asked for, by default all.

    Raises:
        ValueError: one of them is not there.
    """
    missing = [key for key in keys or () if key not in present]
    if missing:
        raise ValueError(
            f"{where}: no key {missing}; it holds {sorted(present)}. Choose among these, or other data"
        )
    return list(present if keys is None else keys)


def unique_names(where: Path | str, names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """(new name, old name) pairs as a dict.

    Raises:
        ValueError: two would get the same new name.
    """
    old_names: dict[str, str] = {}
    for new, old in names:
        if new in old_names:
            raise ValueError(
                f"{where}: '{old_names[new]}' and '{old}' would both be named '{new}'; rename one of them"
            )
        old_names[new] = old
    return old_names


def by_number(name: str) -> list[tuple[int, str]]:
    """Sorting key by which demo_2 comes before demo_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def frames_per_second(buffer: ReplayBuffer) -> float | None:
    """The control rate in Hz, where the data set says it.

    Raises:
        ValueError: what it says is no positive number.
    """
    fps = buffer.meta.get("fps")
    if fps is None:
        return None
    if fps.size != 1 or fps.dtype.kind not in "iuf" or not 0 < fps.item() < np.inf:
        raise ValueError(f"{buffer.where}: fps must be a positive number, got {fps}; write it again")
    return float(fps.item())

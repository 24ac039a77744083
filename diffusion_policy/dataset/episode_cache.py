"""Demonstrations whose images are slow to decode, kept once more as a zarr directory that is fast to read."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import frame_chunks
from diffusion_policy.dataset.episode_files import EpisodeFormat, detect_format
from diffusion_policy.dataset.zarr_format import ZarrFormat

logger = logging.getLogger(__name__)

SLOW_FORMATS = ("lerobot", "lerobot-v2.1")  # images are PNG files or videos
CACHE_VERSION = 1  # of what is kept; another one makes new caches


def load_cached(path: Path, keys: Sequence[str], cache_dir: Path) -> ReplayBuffer:
    """Read demonstrations of a slow format, from the cache if they are in it; what is fast is read as it is.

    Args:
        path: The demonstrations.
        keys: The arrays to read.
        cache_dir: Where caches are kept; made if need be. They may be deleted at any time.

    Raises:
        ValueError: the demonstrations, or their cache, are damaged.
    """
    demonstrations = detect_format(path)
    if demonstrations.name not in SLOW_FORMATS:
        return demonstrations.load(path, keys)
    cache = cache_dir / f"{fingerprint(path, keys)}.zarr"
    _fill(cache, demonstrations, path, keys, one_frame_chunks=False)
    with _named(cache):
        return ReplayBuffer.copy_from_path(cache, keys)


def open_cached(path: Path, keys: Sequence[str], cache_dir: Path | None) -> ReplayBuffer:
    """Open demonstrations on disk: zarr where it lies, other formats in a cache with one image to a chunk.

    Args:
        path: The demonstrations.
        keys: The arrays to open.
        cache_dir: Where caches are kept; None if there are to be none.

    Raises:
        ValueError: the demonstrations, or their cache, are damaged; or a cache is needed.
    """
    demonstrations = detect_format(path)
    if isinstance(demonstrations, ZarrFormat):
        return demonstrations.open(path, keys)
    if cache_dir is None:
        raise ValueError(
            f"{path} is of format {demonstrations.name!r}, but image_storage='disk' reads zarr: name a folder with "
            "cache_dir, in which the demonstrations are kept so, or convert them with `diffusion-policy data convert`"
        )
    cache = cache_dir / f"{fingerprint(path, keys)}-frames.zarr"
    _fill(cache, demonstrations, path, keys, one_frame_chunks=True)
    with _named(cache):
        return ZarrFormat().open(cache, keys)


def _fill(
    cache: Path, demonstrations: EpisodeFormat, path: Path, keys: Sequence[str], one_frame_chunks: bool
) -> None:
    """Make the cache unless it is there; of several processes one does, the others wait."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.with_suffix(".lock")):
        if not cache.exists():
            logger.info("decoding %s once into %s", path, cache)
            buffer = demonstrations.load(path, keys)
            buffer.save_to_path(cache, frame_chunks(buffer) if one_frame_chunks else None)


@contextmanager
def _named(cache: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"the cache {cache} is damaged; delete it to make it anew. {error}") from error


def fingerprint(path: Path, keys: Sequence[str]) -> str:
    """A name for some keys of a data set, which changes when one of its files does (name, size or time)."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {sorted(keys)} {path.resolve()}\n".encode())
    for name, file in sorted(_files(path)):
        state = file.stat()
        digest.update(f"{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    files = [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())
    return ((file.relative_to(path).as_posix(), file) for file in files)

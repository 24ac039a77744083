"""Demonstrations whose images are slow to decode, kept once more as a zarr directory that is fast to read."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_files import detect_format

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
    cache_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(cache.with_suffix(".lock")):  # of several processes one decodes, the others wait
        if not cache.exists():
            logger.info("decoding %s once into %s", path, cache)
            demonstrations.load(path, keys).save_to_path(cache)
    try:
        return ReplayBuffer.copy_from_path(cache, keys)
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

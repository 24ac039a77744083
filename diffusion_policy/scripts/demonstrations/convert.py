"""Write demonstrations in another format, and see that nothing was lost: `diffusion-policy data convert`."""

from os import PathLike
from pathlib import Path

from diffusion_policy.common.atomic_write import remove, temporary_path
from diffusion_policy.common.content_hash import content_hash
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import frames_per_second
from diffusion_policy.dataset.episode_files import EpisodeFormat, detect_format, format_for_writing


def convert(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    format: str | None = None,
    fps: float | None = None,
) -> str:
    """Convert demonstrations; what was written is read again and compared before it gets its name.

    Args:
        source: Demonstrations in any format of `episode_files`.
        destination: A file or folder that does not exist yet.
        format: Name of a format; by default that of the destination's ending.
        fps: Frame rate in Hz, where the source does not state it.

    Returns:
        SHA-256 over all arrays and the episode ends, which are the same in both.

    Raises:
        FileExistsError: something is at `destination`.
        OSError: it could not be written; nothing is left at `destination`.
        ValueError: the source is damaged, or the format cannot hold it; nothing is left at `destination`.
    """
    source, destination = Path(source).expanduser(), Path(destination).expanduser()
    if destination.exists():
        raise FileExistsError(f"{destination} exists already; remove it or choose another name")
    target = format_for_writing(destination, format)
    buffer = detect_format(source).load(source)
    if buffer.n_episodes == 0:
        raise ValueError(f"{source} has no episodes to convert")
    if fps is not None:
        buffer.update_meta({"fps": float(fps)})
    frames_per_second(buffer)  # raises where it is no rate
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(destination)
    try:
        target.save(buffer, temporary)
        digest = _verified(buffer, target, temporary)
        temporary.rename(destination)
    except OSError as error:
        raise OSError(
            f"could not write {destination}: {error}. Nothing was left there; make room, or choose another place"
        ) from error
    finally:
        remove(temporary)
    return digest


def _verified(buffer: ReplayBuffer, target: EpisodeFormat, written: Path) -> str:
    """The hash of what was written, which is that of the buffer.

    Raises:
        ValueError: it is not; names the keys.
    """
    again = target.load(written)
    digest = content_hash(buffer.data, buffer.episode_ends)
    if content_hash(again.data, again.episode_ends) != digest:
        raise ValueError(
            f"format {target.name!r} does not give back what was written: {_differing(buffer, again)}; rename "
            "these keys, or choose another format"
        )
    return digest


def _differing(ours: ReplayBuffer, others: ReplayBuffer) -> str:
    described = [
        {key: f"{array.dtype} {array.shape[1:]}" for key, array in buffer.items()}
        for buffer in (ours, others)
    ]
    differing = [
        key for key in {**described[0], **described[1]} if described[0].get(key) != described[1].get(key)
    ]
    if not differing:
        return "values or episode ends differ"
    return ", ".join(f"{key}: {described[0].get(key)} became {described[1].get(key)}" for key in differing)

"""Write demonstrations in another format, and see that nothing was lost: `diffusion-policy data convert`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from diffusion_policy.common.atomic_write import remove, temporary_path
from diffusion_policy.common.content_hash import content_hash
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import frame_chunks, frames_per_second, row_blocks
from diffusion_policy.dataset.episode_files import EpisodeFormat, detect_format, format_for_writing

LOSSY = ("jpeg2k", "jpegxl")


@dataclass(frozen=True)
class ImageError:
    """How far images are from what they were, in levels of 255: root mean square, and the largest."""

    rms: float
    largest: int

    def __str__(self) -> str:
        return f"off by {self.rms:.2f} of 255 (root mean square), at most by {self.largest}"


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Args:
        sha256: Over all its arrays and the episode ends.
        image_errors: Of the keys whose images a lossy codec changed; all else is as it was.
    """

    sha256: str
    image_errors: Mapping[str, ImageError]

    def summary(self, source: Path, destination: Path) -> str:
        """What to tell the user."""
        if not self.image_errors:
            return f"wrote {destination}; read again, its arrays are those of {source} (sha256 {self.sha256})"
        lost = "".join(f"\n  {key}: {error}" for key, error in self.image_errors.items())
        return (
            f"wrote {destination} (sha256 of its arrays {self.sha256}); read again, they are those of {source} but "
            f"for images, which the codec changed:{lost}"
        )


def convert(
    source: str | PathLike[str],
    destination: str | PathLike[str],
    format: str | None = None,
    fps: float | None = None,
    image_compressor: str | None = None,
) -> Conversion:
    """Convert demonstrations; what was written is read again and compared before it gets its name.

    Args:
        source: Demonstrations in any format of `episode_files`.
        destination: A file or folder that does not exist yet.
        format: Name of a format; by default that of the destination's ending.
        fps: Frame rate in Hz, where the source does not state it.
        image_compressor: Write images one to a chunk, so that they can be read one by one, with this codec of
            `ReplayBuffer.save_to_path`; for zarr only.

    Raises:
        FileExistsError: something is at `destination`.
        ImportError: the codec needs a package that is not installed.
        OSError: it could not be written; nothing is left at `destination`.
        ValueError: the source is damaged, or the format cannot hold it; nothing is left at `destination`.
    """
    source, destination = Path(source).expanduser(), Path(destination).expanduser()
    if destination.exists():
        raise FileExistsError(f"{destination} exists already; remove it or choose another name")
    target = format_for_writing(destination, format)
    if image_compressor is not None and target.name != "zarr":
        raise ValueError(
            f"image_compressor is for zarr, not {target.name!r}; leave it out, or write to NAME.zarr"
        )
    buffer = detect_format(source).load(source)
    if buffer.n_episodes == 0:
        raise ValueError(f"{source} has no episodes to convert")
    if fps is not None:
        buffer.update_meta({"fps": float(fps)})
    frames_per_second(buffer)  # raises where it is no rate
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(destination)
    try:
        if image_compressor is None:
            target.save(buffer, temporary)
        else:
            chunks = frame_chunks(buffer)
            buffer.save_to_path(temporary, chunks, dict.fromkeys(chunks, image_compressor))
        changed = frame_chunks(buffer) if image_compressor in LOSSY else ()
        conversion = _verified(buffer, target, temporary, changed)
        temporary.rename(destination)
    except OSError as error:
        raise OSError(
            f"could not write {destination}: {error}. Nothing was left there; make room, or choose another place"
        ) from error
    finally:
        remove(temporary)
    return conversion


def _verified(
    buffer: ReplayBuffer, target: EpisodeFormat, written: Path, changed: Collection[str]
) -> Conversion:
    """What was written, which is the buffer but for the images of the keys `changed`.

    Raises:
        ValueError: it is not; names the keys.
    """
    again = target.load(written)
    if _hash_without(changed, buffer) != _hash_without(changed, again):
        raise ValueError(
            f"format {target.name!r} does not give back what was written: {_differing(buffer, again)}; rename "
            "these keys, or choose another format"
        )
    errors = {key: _image_error(np.asarray(buffer[key]), np.asarray(again[key])) for key in changed}
    return Conversion(content_hash(again.data, again.episode_ends), errors)


def _hash_without(keys: Collection[str], buffer: ReplayBuffer) -> str:
    arrays = {key: array for key, array in buffer.items() if key not in keys}
    return content_hash(arrays, buffer.episode_ends)


def _image_error(images: np.ndarray, others: np.ndarray) -> ImageError:
    squares, largest = 0.0, 0
    for rows, block in row_blocks(images):
        difference = block.astype(np.int16) - others[rows]
        squares += float(np.square(difference, dtype=np.float64).sum())
        largest = max(largest, int(np.abs(difference).max()))
    return ImageError((squares / images.size) ** 0.5, largest)


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

"""Frames out of the videos of a LeRobot data set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.episode_step import labelled_step
from diffusion_policy.common.optional_package import optional_package


def read_frames(path: Path, times_s: np.ndarray, fps: float, episode_index: np.ndarray) -> np.ndarray:
    """Decode the frames of a video that are shown at given times.

    Args:
        path: The video; it is decoded once from its beginning, whatever the order of its key frames.
        times_s: When each wanted frame is shown in seconds, (n,), increasing.
        fps: Frames per second; a frame may be off by less than half of its period.
        episode_index: The episode of each wanted frame, (n,), ascending, for messages.

    Returns:
        (n, H, W, 3) uint8 RGB.

    Raises:
        ImportError: PyAV is not installed.
        FileNotFoundError: no such video.
        ValueError: the video is damaged, or lacks one of the frames; names episode and step.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"no video at {path}; fetch the data set with its videos, or leave this key out"
        )
    images: np.ndarray | None = None
    found = 0
    av = optional_package("av")
    try:
        for time_s, frame in _decoded(path):
            if found == len(times_s) or time_s - times_s[found] >= 0.5 / fps:
                break
            if abs(time_s - times_s[found]) < 0.5 / fps:
                image = frame.to_ndarray(format="rgb24")
                if images is None:
                    images = np.empty((len(times_s), *image.shape), np.uint8)
                images[found] = image
                found += 1
    except av.FFmpegError as error:
        place = labelled_step(min(found, len(times_s) - 1), episode_index)
        raise ValueError(
            f"{path} cannot be decoded from {place} on ({error}); fetch the video again"
        ) from error
    if images is None or found < len(times_s):
        raise ValueError(
            f"{path}: has no frame at {times_s[found]:.3f} s, where frame {found} of the {len(times_s)} recorded "
            f"ones should be ({labelled_step(found, episode_index)}); fetch the video again, or leave this key out"
        )
    return images


def _decoded(path: Path) -> Iterator[tuple[float, Any]]:
    """Every frame with its time in seconds."""
    with optional_package("av").open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path} holds no video")
        for frame in container.decode(container.streams.video[0]):
            yield frame.time, frame

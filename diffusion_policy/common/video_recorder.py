"""Writing H.264 videos."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import av
except ImportError as error:
    raise ImportError('writing videos needs PyAV: pip install "diffusion_policy[pusht]"') from error


class VideoRecorder:
    """Writes frames to an H.264 mp4 file, which appears under its name only when it is complete.

    Colours are stored at half resolution (yuv420p, which every player reads), so height and width must be
    even: the last row or column of an odd frame is repeated. As a context manager it closes the file, or
    drops it if the block raised. Without a frame no file is written.

    Args:
        path: file to write; its directory is created, and a file of this name is replaced.
        fps: frames per second, up to four decimals.
        crf: quality, from 0 (lossless) to 51 (worst).

    Raises:
        ValueError: if `fps` or `crf` is out of range.
    """

    def __init__(self, path: str | Path, fps: float, crf: int = 22) -> None:
        if not 0 < fps < 1000:
            raise ValueError(f"fps is {fps}; expected a number of frames per second in (0, 1000)")
        if not 0 <= crf <= 51:
            raise ValueError(f"crf is {crf}; expected a quality in [0, 51]")
        self.path = Path(path)
        self._partial_path = self.path.with_name(self.path.name + ".part")
        self._rate = Fraction(fps).limit_denominator(10_000)
        self._crf = crf
        self._container: Any = None
        self._stream: Any = None
        self._frame_shape: tuple[int, ...] = ()
        self._frame_count = 0
        self._closed = False

    def write_frame(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame, (H, W, 3) uint8 RGB, of the same size as the first.

        Raises:
            ValueError: if the frame has another type or shape.
            RuntimeError: if the recorder is closed.
        """
        if self._closed:
            raise RuntimeError(f"the video {self.path} is closed; make a new VideoRecorder")
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"frame is {frame.dtype} of shape {frame.shape}; expected uint8 (H, W, 3)")
        if self._container is None:
            self._open(frame.shape)
        if frame.shape != self._frame_shape:
            raise ValueError(f"frame has shape {frame.shape}; the frames before it have {self._frame_shape}")
        height, width, _ = frame.shape
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(even, format="rgb24")
        picture.pts, picture.time_base = self._frame_count, 1 / self._rate
        self._container.mux(self._stream.encode(picture))
        self._frame_count += 1

    def close(self) -> None:
        """Complete the file. Closing again has no effect."""
        if self._container is not None:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._container = None
            self._partial_path.replace(self.path)
        self._closed = True

    def discard(self) -> None:
        """Close without leaving a file."""
        if self._container is not None:
            self._container.close()
            self._container = None
            self._partial_path.unlink(missing_ok=True)
        self._closed = True

    def __enter__(self) -> "VideoRecorder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _open(self, frame_shape: tuple[int, ...]) -> None:
        height, width, _ = frame_shape
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(self._partial_path, mode="w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": str(self._crf)})
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._frame_shape = frame_shape

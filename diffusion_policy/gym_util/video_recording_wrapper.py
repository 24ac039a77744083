"""Videos of episodes."""

from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium

from diffusion_policy.common.video_recorder import VideoRecorder


class VideoRecordingWrapper(gymnasium.Wrapper):
    """Records an episode, as `env.render()` shows it, to an H.264 mp4 file.

    The first frame is the scene after `reset`, and each step adds one. The file appears, complete, when the
    episode terminates or is truncated by the environment, at the next `reset`, or by `finish_recording` or
    `close`.

    `path` holds for one episode, so that no recording is overwritten unasked: `reset` takes it and leaves
    `None`. Set it again to record another episode.

    Args:
        env: environment that renders `(H, W, 3)` uint8 arrays.
        path: file to write; `None` records nothing.
        fps: frames per second; `None` takes the environment's `metadata["render_fps"]`.
        crf: quality, from 0 (lossless) to 51 (worst).
    """

    def __init__(
        self, env: gymnasium.Env, path: str | Path | None, fps: float | None = None, crf: int = 22
    ) -> None:
        super().__init__(env)
        if fps is None and "render_fps" not in env.metadata:
            raise ValueError('fps is None and the environment\'s metadata lack "render_fps"; give fps')
        self.path = path
        self.fps = env.metadata["render_fps"] if fps is None else fps
        self.crf = crf
        self._recorder: VideoRecorder | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode and, where `path` is set, its recording."""
        self.finish_recording()
        observation, info = self.env.reset(seed=seed, options=options)
        if self.path is not None:
            self._recorder = VideoRecorder(self.path, fps=self.fps, crf=self.crf)
            self.path = None
            self._record_frame()
        return observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Step the environment and record the result."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._record_frame()
        if terminated or truncated:
            self.finish_recording()
        return observation, reward, terminated, truncated, info

    def finish_recording(self) -> None:
        """Complete the file of the running recording, if there is one."""
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None

    def close(self) -> None:
        """Complete the recording and close the environment."""
        self.finish_recording()
        super().close()

    def _record_frame(self) -> None:
        if self._recorder is not None:
            self._recorder.write_frame(self.env.render())

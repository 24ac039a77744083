from fractions import Fraction

import av
import numpy as np
import pytest

from diffusion_policy.common.video_recorder import VideoRecorder


def moving_square(count: int, height: int = 64, width: int = 96) -> np.ndarray:
    """A bright square that moves to the right, (count, height, width, 3) uint8."""
    frames = np.full((count, height, width, 3), 30, np.uint8)
    for index in range(count):
        frames[index, 16:48, 2 * index : 2 * index + 32] = (220, 120, 60)
    return frames


def read(path) -> np.ndarray:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def record(path, frames, **arguments) -> None:
    with VideoRecorder(path, **arguments) as recorder:
        for frame in frames:
            recorder.write_frame(frame)


def test_video_shows_its_frames(tmp_path):
    frames = moving_square(20)
    record(tmp_path / "video.mp4", frames, fps=10, crf=10)
    shown = read(tmp_path / "video.mp4")
    assert shown.shape == frames.shape
    # colours are stored at half resolution, so pixels next to an edge may differ more
    assert np.abs(shown.astype(int) - frames).mean() < 4
    assert np.median(np.abs(shown.astype(int) - frames)) <= 3


@pytest.mark.parametrize(
    ("fps", "rate"),
    [(10, Fraction(10)), (12.5, Fraction(25, 2)), (29.97, Fraction(2997, 100)), (0.5, Fraction(1, 2))],
)
def test_frame_rate_is_rational(tmp_path, fps, rate):
    record(tmp_path / "video.mp4", moving_square(6), fps=fps)
    with av.open(tmp_path / "video.mp4") as container:
        stream = container.streams.video[0]
        times = [frame.pts * stream.time_base for frame in container.decode(stream)]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert stream.average_rate == rate
    assert times == [index / rate for index in range(6)]


def test_odd_frames_repeat_their_last_row_and_column(tmp_path):
    frames = moving_square(4, height=49, width=75)
    record(tmp_path / "video.mp4", frames, fps=10, crf=5)
    shown = read(tmp_path / "video.mp4").astype(int)
    assert shown.shape == (4, 50, 76, 3)
    assert np.abs(shown[:, 49] - shown[:, 48]).mean() < 3
    assert np.abs(shown[:, :49, :75] - frames).mean() < 4


def test_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "video.mp4"
    recorder = VideoRecorder(path, fps=10)
    for frame in moving_square(3):
        recorder.write_frame(frame)
    assert not path.exists()
    recorder.close()
    recorder.close()
    assert len(read(path)) == 3
    assert [file.name for file in path.parent.iterdir()] == ["video.mp4"]
    with pytest.raises(RuntimeError, match="closed"):
        recorder.write_frame(moving_square(1)[0])


@pytest.mark.parametrize("count", [0, 1, 60])
def test_an_error_leaves_no_file(tmp_path, count):
    def frames():
        yield from moving_square(count, width=200)
        raise KeyError

    with pytest.raises(KeyError):
        record(tmp_path / "video.mp4", frames(), fps=10)
    assert list(tmp_path.iterdir()) == []


def test_an_older_video_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "video.mp4"
    record(path, moving_square(2), fps=10)
    recorder = VideoRecorder(path, fps=10)
    recorder.write_frame(moving_square(1)[0])
    assert len(read(path)) == 2
    recorder.close()
    assert len(read(path)) == 1


def test_no_frames_no_file(tmp_path):
    record(tmp_path / "video.mp4", [], fps=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
    ],
)
def test_frames_of_another_type(tmp_path, frame):
    with pytest.raises(ValueError, match="frame is"):
        VideoRecorder(tmp_path / "video.mp4", fps=10).write_frame(frame)


def test_frames_keep_their_size(tmp_path):
    with VideoRecorder(tmp_path / "video.mp4", fps=10) as recorder:
        recorder.write_frame(np.zeros((8, 8, 3), np.uint8))
        with pytest.raises(ValueError, match=r"\(8, 10, 3\)"):
            recorder.write_frame(np.zeros((8, 10, 3), np.uint8))


@pytest.mark.parametrize(
    "arguments", [{"fps": 0}, {"fps": -1}, {"fps": float("nan")}, {"fps": 10, "crf": 52}]
)
def test_arguments_out_of_range(tmp_path, arguments):
    with pytest.raises(ValueError, match=list(arguments)[-1]):
        VideoRecorder(tmp_path / "video.mp4", **arguments)

import av
import numpy as np
import pytest

from diffusion_policy.gym_util.multistep_wrapper import MultiStepWrapper
from diffusion_policy.gym_util.video_recording_wrapper import VideoRecordingWrapper

from .toy_env import CountingEnv

CONTINUE, TERMINATE = np.array([0.0, 0.0]), np.array([-1.0, 0.0])


def levels(path) -> list[float]:
    """Mean brightness of every frame."""
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(video=0)]


def test_every_frame_of_an_episode(tmp_path):
    path = tmp_path / "media" / "episode.mp4"
    env = VideoRecordingWrapper(CountingEnv(), path)
    env.reset()
    for action in [CONTINUE] * 7 + [TERMINATE]:
        assert not path.exists()
        env.step(action)
    assert list(path.parent.iterdir()) == [path]
    np.testing.assert_allclose(levels(path), 10 * np.arange(9), atol=2)
    with av.open(path) as container:
        assert container.streams.video[0].average_rate == 12.5


def test_a_path_holds_for_one_episode(tmp_path):
    env = VideoRecordingWrapper(CountingEnv(), tmp_path / "first.mp4", fps=10)
    env.reset()
    env.step(TERMINATE)
    first = (tmp_path / "first.mp4").read_bytes()
    env.reset()  # not recorded
    env.step(CONTINUE)
    assert (tmp_path / "first.mp4").read_bytes() == first
    env.path = tmp_path / "second.mp4"
    env.step(TERMINATE)  # the running episode is not recorded either
    env.reset()
    env.step(CONTINUE)
    env.step(TERMINATE)
    assert len(levels(tmp_path / "second.mp4")) == 3
    assert (tmp_path / "first.mp4").read_bytes() == first


@pytest.mark.parametrize("end", ["reset", "close", "finish_recording"])
def test_an_interrupted_episode_is_kept(tmp_path, end):
    env = VideoRecordingWrapper(CountingEnv(), tmp_path / "episode.mp4")
    env.reset()
    env.step(CONTINUE)
    getattr(env, end)()
    assert len(levels(tmp_path / "episode.mp4")) == 2
    env.close()
    assert env.unwrapped.closed


def test_without_a_path_nothing_is_rendered():
    inner = CountingEnv()
    inner.render = lambda: pytest.fail("rendered")
    env = VideoRecordingWrapper(inner, None)
    env.reset()
    env.step(TERMINATE)
    env.close()


def test_chunks_record_every_step(tmp_path):
    recording = VideoRecordingWrapper(CountingEnv(), tmp_path / "episode.mp4")
    env = MultiStepWrapper(recording, n_obs_steps=1, n_action_steps=4, max_episode_steps=8)
    env.reset()
    env.step(np.zeros((4, 2)))
    env.step(np.zeros((4, 2)))  # ends by the outer limit, which the inner wrapper does not see
    assert not (tmp_path / "episode.mp4").exists()
    env.get_wrapper_attr("finish_recording")()
    assert len(levels(tmp_path / "episode.mp4")) == 9


def test_observations_pass_through(tmp_path):
    env = VideoRecordingWrapper(CountingEnv(), tmp_path / "episode.mp4")
    observation, info = env.reset(seed=2, options={"a": 1})
    assert (observation.item(), info) == (0, {"seed": 2, "options": {"a": 1}})
    observation, reward, terminated, truncated, info = env.step(np.array([0.5, -1.0]))
    assert (observation.item(), reward, terminated, truncated, info) == (1, 0.5, False, True, {"count": 1})


def test_fps_must_be_known(tmp_path):
    env = CountingEnv()
    env.metadata = {"render_modes": ["rgb_array"]}
    with pytest.raises(ValueError, match="fps"):
        VideoRecordingWrapper(env, tmp_path / "episode.mp4")

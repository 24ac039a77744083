"""Tests for demo_pusht.py and mouse_window.py; no person and no screen is needed."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.env.pusht.pusht_env import PushTEnv
from diffusion_policy.env.pusht.scripted_pusher import ScriptedPusher
from diffusion_policy.scripts.demonstrations.demo_pusht import demo_pusht
from diffusion_policy.scripts.demonstrations.window import PersonInput

pytestmark = pytest.mark.sim

AWAY = PersonInput((500, 500))
QUIT = PersonInput((0, 0), quit=True)
RETRY = PersonInput((0, 0), retry=True)


class ScriptedWindow:
    """A window whose person does what a list says."""

    def __init__(self, script: Iterable[PersonInput]) -> None:
        self._script = iter(script)
        self.images: list[NDArray[np.uint8]] = []
        self.titles: list[str] = []
        self.frequencies_hz: list[float] = []

    def show(self, image: NDArray[np.uint8], title: str) -> None:
        self.images.append(image)
        self.titles.append(title)

    def poll(self) -> PersonInput:
        return next(self._script)

    def wait(self, frequency_hz: float) -> None:
        self.frequencies_hz.append(frequency_hz)


def solution(seed: int) -> list[PersonInput]:
    """The mouse positions of a person who solves the task."""
    env, pusher = PushTEnv(), ScriptedPusher(0)
    _, info = env.reset(seed=seed)
    mouse = []
    while not info["is_success"]:
        x, y = (int(value) for value in pusher.act(info["pos_agent"], info["block_pose"]))
        mouse.append(PersonInput((x, y)))
        *_, info = env.step((x, y))
    return mouse


@pytest.fixture(scope="module")
def solved() -> list[PersonInput]:
    return solution(seed=0)


@pytest.fixture(scope="module")
def recording(
    solved: list[PersonInput], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ScriptedWindow]:
    path = tmp_path_factory.mktemp("demo") / "demo.zarr"
    pause = PersonInput(solved[9].mouse, paused=True)
    mistake = [AWAY, *solved[:5], RETRY]
    window = ScriptedWindow([*mistake, AWAY, AWAY, *solved[:10], pause, pause, *solved[10:], AWAY, QUIT])
    assert demo_pusht(path, window) == 1
    return path, window


def test_what_is_stored(recording: tuple[Path, ScriptedWindow], solved: list[PersonInput]) -> None:
    """The solution, without what was done before it started, while it paused and before the retry."""
    buffer = ReplayBuffer.copy_from_path(recording[0])
    length = len(solved)
    layout = {key: (array.shape, array.dtype) for key, array in buffer.items()}
    assert layout == {
        "img": ((length, 96, 96, 3), np.uint8),
        "state": ((length, 5), np.float32),
        "keypoint": ((length, 9, 2), np.float32),
        "action": ((length, 2), np.float32),
        "n_contacts": ((length, 1), np.float32),
    }
    np.testing.assert_array_equal(buffer["action"], [person.mouse for person in solved])


def test_images_and_states_are_those_of_the_environment(recording: tuple[Path, ScriptedWindow]) -> None:
    episode = ReplayBuffer.copy_from_path(recording[0]).get_episode(0)
    env = PushTEnv()
    state, info = env.reset(seed=0)
    for step, action in enumerate(episode["action"]):
        np.testing.assert_array_equal(episode["state"][step], np.float32(state))
        if step % 20 == 0:
            np.testing.assert_array_equal(episode["img"][step], env.render_observation())
        state, _, _, _, info = env.step(action)
    assert info["is_success"]


def test_contacts_are_counted_while_the_block_is_pushed(recording: tuple[Path, ScriptedWindow]) -> None:
    episode = ReplayBuffer.copy_from_path(recording[0]).get_episode(0)
    pushed = np.abs(np.diff(episode["state"][:, 2:4], axis=0)).max(1) > 1
    contacts = episode["n_contacts"][1:, 0] > 0
    assert contacts[pushed].mean() > 0.9
    assert contacts[~pushed].mean() < 0.3


def test_what_the_person_sees(recording: tuple[Path, ScriptedWindow]) -> None:
    window = recording[1]
    assert {image.shape for image in window.images} == {(512, 512, 3)}
    assert window.titles[0] == "episode 0: hover near the blue disc to start"
    assert window.titles[-1] == "episode 1: hover near the blue disc to start"
    assert any(title.startswith("episode 0: coverage") for title in window.titles)
    assert set(window.frequencies_hz) == {10}


def test_episodes_are_added_and_the_seed_is_their_number(solved: list[PersonInput], tmp_path: Path) -> None:
    path = tmp_path / "demo.zarr"
    assert demo_pusht(path, ScriptedWindow([*solved, QUIT]), render_size=32) == 1
    second = solution(seed=1)
    window = ScriptedWindow([*second, QUIT])
    assert demo_pusht(path, window, render_size=32, control_hz=20) == 1
    buffer = ReplayBuffer.copy_from_path(path)
    assert buffer.episode_lengths.tolist() == [len(solved), len(second)]
    start, _ = PushTEnv().reset(seed=1)
    np.testing.assert_array_equal(buffer.get_episode(1)["state"][0], np.float32(start))
    assert buffer["img"].shape[1:] == (32, 32, 3)
    assert set(window.frequencies_hz) == {20}


def test_finished_episodes_stay_whatever_happens(solved: list[PersonInput], tmp_path: Path) -> None:
    """The script ends in the middle of the second episode, as a killed process would."""
    with pytest.raises(StopIteration):
        demo_pusht(tmp_path / "demo.zarr", ScriptedWindow([*solved, *solution(seed=1)[:20]]))
    assert ReplayBuffer.copy_from_path(tmp_path / "demo.zarr").episode_lengths.tolist() == [len(solved)]


@pytest.mark.parametrize("argument", ["control_hz", "render_size"])
def test_arguments_out_of_range(argument: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{argument} is 0"):
        demo_pusht(tmp_path / "demo.zarr", ScriptedWindow([]), **{argument: 0})
    assert not any(tmp_path.iterdir())


def test_a_real_window_reads_keys_and_mouse(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    from diffusion_policy.scripts.demonstrations.mouse_window import MouseWindow

    def press(kind: int, key: int) -> None:
        pygame.event.post(pygame.event.Event(kind, key=key))

    with MouseWindow() as window:
        image = np.zeros((512, 512, 3), np.uint8)
        image[100, 200] = (1, 2, 3)  # row, column
        window.show(image, "a title")
        assert pygame.display.get_caption()[0] == "a title"
        assert pygame.display.get_surface().get_at((200, 100))[:3] == (1, 2, 3)
        window.poll()
        press(pygame.KEYDOWN, pygame.K_SPACE)
        press(pygame.KEYDOWN, pygame.K_r)
        assert window.poll()[1:] == (True, True, False)
        assert window.poll()[1:] == (True, False, False), "space is held, R was pressed once"
        press(pygame.KEYUP, pygame.K_SPACE)
        press(pygame.KEYDOWN, pygame.K_q)
        assert window.poll()[1:] == (False, False, True)
        pygame.event.post(pygame.event.Event(pygame.QUIT))
        assert window.poll().quit
        monkeypatch.setattr(pygame.mouse, "get_pos", lambda: (7, 9))
        assert window.poll().mouse == (7, 9)
        window.wait(frequency_hz=1000)
    assert not pygame.display.get_init()

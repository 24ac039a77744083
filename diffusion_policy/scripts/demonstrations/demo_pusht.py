"""Demonstrate Push-T with the mouse: `python demo_pusht.py -o data/pusht_demo.zarr`.

Hover near the blue disc to start; it then follows the mouse. Push the T onto the green mark: an episode ends and is
saved when the T covers 95 % of it, and the next one begins. R starts an episode over, Space held pauses, Q quits.
"""

import argparse
import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.user_errors import report_user_errors
from diffusion_policy.env.pusht.geometry import block_keypoints
from diffusion_policy.env.pusht.pusht_keypoints_env import PushTKeypointsEnv
from diffusion_policy.env.pusht.renderer import render_scene
from diffusion_policy.scripts.demonstrations.window import WINDOW_PIXELS, DemonstrationWindow

logger = logging.getLogger(__name__)

START_DISTANCE = 30.0  # between mouse and disc, in pixels

Steps = dict[str, list[NDArray]]


class _DemonstrationEnv(PushTKeypointsEnv):
    """Push-T that also says what the published demonstrations hold beyond observations."""

    def n_contacts(self) -> int:
        """Contact points of the last physics step.

        The published count is of all ten steps of a control period, divided by ten and rounded up: the same
        while contacts last.
        """
        return len(self._running_physics().contact_segments())


def demo_pusht(
    output: str | PathLike[str],
    window: DemonstrationWindow,
    render_size: int = 96,
    control_hz: float = 10,
) -> int:
    """Record episodes until the person quits.

    Every step that has an action is stored: `img` (render_size, render_size, 3) uint8 as a policy sees the scene,
    `state` (5,), `keypoint` (9, 2), `action` (2,) and `n_contacts` (1,), all float32. Episode n starts from
    seed n. Finished episodes are safe whenever the process ends.

    Args:
        output: the zarr directory to add to; made if need be.
        window: where the person sees the scene and acts.
        render_size: height and width of the stored images, in pixels.
        control_hz: steps per second. The simulated time of a step is 0.1 s, so 10 is real time.

    Returns:
        The number of episodes recorded now.

    Raises:
        ValueError: an argument is out of range, or what is at `output` is no replay buffer.
    """
    if not control_hz > 0:
        raise ValueError(f"control_hz is {control_hz}; expected a positive number")
    env = _DemonstrationEnv(render_size=render_size)
    buffer = ReplayBuffer.create_from_path(output, mode="a")
    buffer.check_episode(_stacked(_first_step(env)))  # before a person demonstrates what cannot be added
    n_before = buffer.n_episodes
    while (steps := _record_episode(env, window, buffer.n_episodes, control_hz)) is not None:
        if steps:
            buffer.add_episode(_stacked(steps), compressors="disk")
            logger.info("saved episode %d", buffer.n_episodes - 1)
        else:
            logger.info("retry of episode %d", buffer.n_episodes)
    return buffer.n_episodes - n_before


def _record_episode(
    env: _DemonstrationEnv, window: DemonstrationWindow, seed: int, control_hz: float
) -> Steps | None:
    """One episode up to its success; without steps if the person wants to retry, None if to quit."""
    _, info = env.reset(seed=seed)
    steps: Steps = {}
    started = False
    title = f"episode {seed}: hover near the blue disc to start"
    while not (started and info["is_success"]):
        window.show(render_scene(info["pos_agent"], info["block_pose"], size=WINDOW_PIXELS), title)
        window.wait(control_hz)
        person = window.poll()
        if person.quit:
            return None
        if person.retry:
            return {}
        if person.paused:
            continue
        started = started or math.dist(person.mouse, info["pos_agent"]) < START_DISTANCE
        if started:
            title = f"episode {seed}: coverage {info['coverage']:.0%}"
            _append(steps, env, info, person.mouse)
            *_, info = env.step(person.mouse)
    return steps


def _first_step(env: _DemonstrationEnv) -> Steps:
    """What an episode of one step would store."""
    _, info = env.reset(seed=0)
    steps: Steps = {}
    _append(steps, env, info, (0, 0))
    return steps


def _stacked(steps: Steps) -> dict[str, NDArray]:
    return {key: np.stack(values) for key, values in steps.items()}


def _append(steps: Steps, env: _DemonstrationEnv, info: dict, action: tuple[int, int]) -> None:
    low_dim = {
        "state": info["state"],
        "keypoint": block_keypoints(info["block_pose"]),
        "action": action,
        "n_contacts": [env.n_contacts()],
    }
    steps.setdefault("img", []).append(env.render_observation())
    for key, value in low_dim.items():
        steps.setdefault(key, []).append(np.array(value, dtype=np.float32))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(
        description="Demonstrate Push-T with the mouse: hover near the blue disc to start, push the T onto the "
        "green mark. R: retry, Space held: pause, Q: quit."
    )
    parser.add_argument("-o", "--output", required=True, help="zarr directory; episodes are added to it")
    parser.add_argument("-rs", "--render_size", type=int, default=96, help="of stored images (default 96)")
    parser.add_argument("-hz", "--control_hz", type=float, default=10, help="steps per second (default 10)")
    options = parser.parse_args(arguments)

    def run() -> None:
        from diffusion_policy.scripts.demonstrations.mouse_window import MouseWindow

        with MouseWindow() as window, suppress(KeyboardInterrupt):
            demo_pusht(options.output, window, options.render_size, options.control_hz)

    report_user_errors(run)


if __name__ == "__main__":
    main()

"""Franka Kitchen: a robot arm between microwave, kettle, stove, light switch and two cabinets."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from diffusion_policy.common import kitchen
from diffusion_policy.common.kitchen import N_ARM_JOINTS, N_JOINTS, N_POSITIONS
from diffusion_policy.env.kitchen.kitchen_model import kitchen_camera, kitchen_model
from diffusion_policy.env.kitchen.kitchen_starts import START, Start, checked_state, read_starts
from diffusion_policy.env.kitchen.kitchen_tasks import TASKS, done_tasks
from diffusion_policy.env.mujoco_rendering import OffscreenRenderer

import mujoco  # isort: skip  # after mujoco_rendering, which chooses its OpenGL

SIMULATION_STEPS = 40  # of 2 ms, per action
N_SUCCESS = 4
LARGEST_VALUE = 8.0  # of observations and absolute actions, as the original declares it


class KitchenEnv(gymnasium.Env):
    """Do tasks in a kitchen, in any order: open the microwave, move the kettle, turn two burners on, and the light,
    slide one cabinet open and swing the other.

    The model and the conventions are those of Relay Policy Learning (Gupta et al. 2019), as Diffusion Policy was
    evaluated on; 12.5 Hz.

    Observation: (60,) float64: positions of the robot's 9 joints and 21 of objects (rad, m), with noise, then 30
    zeros where goals once were; or (30,) without these.

    Action: (9,) joint velocities in units of 2 rad/s (fingers: 2 m/s), clipped to [-1, 1]: the arm is told to go to
    `read + 2 * action * 0.08 s`, where `read` is the last observation, noise included. With `abs_action`: positions
    (rad, m) to go to, at 10 rad/s at most. Targets are limited to the joints' ranges.

    Reward: how many tasks were done in this step; each counts once. A task is done when its positions, as
    observed, are closer to its goal than 0.3. The episode terminates when all seven are done.

    Info: `completed_tasks` (sorted names, of the episode so far), `score` (their share of seven), `p_1` to `p_7`
    (whether as many are done), `is_success` (whether four are: each demonstration does four, so nothing that is
    learned from them does seven), `qpos` (30,) and `qvel` (29,) of the simulation, without noise.

    Args:
        abs_action: actions are positions, not velocities.
        include_goal: observe the 30 zeros too.
        robot_noise_ratio: of the noise of observations: 0.1 is 0.01 rad on the arm (`common/kitchen.py`).
        start_noise: the seven joints of the arm start up to so many rad from where they would, drawn by the seed. The
            original has none: its episodes differ only in the noise of observations.
        starts: folder with the original's `all_init_qpos.npy` (E, 30) and `all_init_qvel.npy` (E, 29): the episode
            with seed s starts from row s modulo E. None starts all from one state.
        render_size: height and width of images, in pixels.
        render_mode: "rgb_array"; `None` means the same.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 12.5}  # noqa: RUF012, gymnasium declares it so

    def __init__(
        self,
        abs_action: bool = False,
        include_goal: bool = True,
        robot_noise_ratio: float = 0.1,
        start_noise: float = 0.0,
        starts: str | PathLike[str] | None = None,
        render_size: Sequence[int] = (240, 360),
        render_mode: str | None = "rgb_array",
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f'render_mode is {render_mode!r}; the kitchen draws "rgb_array" only')
        if len(render_size) != 2 or min(render_size) < 1:
            raise ValueError(f"render_size is {render_size}; expected height and width, such as [240, 360]")
        _check_not_negative(robot_noise_ratio=robot_noise_ratio, start_noise=start_noise)
        self.abs_action = abs_action
        self.robot_noise_ratio = robot_noise_ratio
        self.start_noise = start_noise
        self.render_size = tuple(render_size)
        self.render_mode = render_mode
        self._zeros = np.zeros(N_POSITIONS if include_goal else 0)
        largest_action = LARGEST_VALUE if abs_action else 1.0
        self.action_space = Box(-largest_action, largest_action, (N_JOINTS,), np.float64)
        n_observed = N_POSITIONS + len(self._zeros)
        self.observation_space = Box(-LARGEST_VALUE, LARGEST_VALUE, (n_observed,), np.float64)
        self._starts = [START] if starts is None else read_starts(Path(starts))
        self._model = kitchen_model()
        self._data = mujoco.MjData(self._model)
        self._reading: NDArray[np.float64] | None = None  # the last positions observed, (30,)
        self._completed: set[str] = set()
        self._renderer: OffscreenRenderer | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Start an episode.

        Without a seed, one is drawn from the environment's generator: episodes differ, and their sequence follows
        from the last seed given. Options:

        - `qpos`: (30,) and `qvel`: (29,), the state to start from, exactly; without `qvel` all is at rest.

        Raises:
            ValueError: if an option is unknown or its value cannot be used.
        """
        super().reset(seed=seed)
        start = checked_state(options) if options else self._drawn_start(seed)
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = start.qpos
        self._data.qvel[:] = start.qvel
        mujoco.mj_normalizeQuat(self._model, self._data.qpos)
        mujoco.mj_forward(self._model, self._data)
        self._completed = set()
        return self._observe(self._read()), self._info()

    def step(self, action: ArrayLike) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        """Follow an action (9,) for 0.08 s.

        Raises:
            ValueError: if the action does not have nine finite numbers.
            gymnasium.error.ResetNeeded: if no episode was started.
        """
        self._data.ctrl[:] = self._targets(_checked_action(action))
        mujoco.mj_step(self._model, self._data, SIMULATION_STEPS)
        reading = self._read()
        new = done_tasks(reading) - self._completed
        self._completed |= new
        terminated = len(self._completed) == len(TASKS)
        return self._observe(reading), float(len(new)), terminated, False, self._info()

    def render(self) -> NDArray[np.uint8]:
        """The kitchen over the robot's shoulder, (*render_size, 3) uint8, without shadows and reflections.

        Raises:
            RuntimeError: there is no OpenGL to draw with; says what to install.
        """
        self._last_reading()
        if self._renderer is None:
            self._renderer = OffscreenRenderer(self._model, *self.render_size, reflections=False)
        return self._renderer.render(self._data, kitchen_camera())

    def close(self) -> None:
        """Give the OpenGL context back, if there is one."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _drawn_start(self, seed: int | None) -> Start:
        number = int(self.np_random.integers(len(self._starts))) if seed is None else seed
        qpos, qvel = self._starts[number % len(self._starts)]
        moved = qpos.copy()
        moved[:N_ARM_JOINTS] += self.np_random.uniform(-1.0, 1.0, N_ARM_JOINTS) * self.start_noise
        low, high = kitchen.JOINT_LOW[:N_ARM_JOINTS], kitchen.JOINT_HIGH[:N_ARM_JOINTS]
        moved[:N_ARM_JOINTS] = np.clip(moved[:N_ARM_JOINTS], low, high)
        return Start(moved, qvel)

    def _targets(self, action: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions that the joints are told to go to, (9,)."""
        joints = self._last_reading()[:N_JOINTS]
        wanted = (action - joints) / kitchen.STEP_S if self.abs_action else kitchen.velocities(action)
        return kitchen.targets(joints, wanted)

    def _read(self) -> NDArray[np.float64]:
        """The positions with noise, (30,)."""
        self._reading = kitchen.noisy(self._data.qpos, self.robot_noise_ratio, self.np_random)
        return self._reading

    def _observe(self, reading: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([reading, self._zeros])

    def _info(self) -> dict[str, Any]:
        n_completed = len(self._completed)
        return {
            "completed_tasks": sorted(self._completed),
            "score": n_completed / len(TASKS),
            "is_success": n_completed >= N_SUCCESS,
            **{f"p_{n}": n_completed >= n for n in range(1, len(TASKS) + 1)},
            "qpos": self._data.qpos.copy(),
            "qvel": self._data.qvel.copy(),
        }

    def _last_reading(self) -> NDArray[np.float64]:
        if self._reading is None:
            raise gymnasium.error.ResetNeeded("no episode was started; call reset() first")
        return self._reading


def _checked_action(action: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(action, dtype=np.float64)
    if values.shape != (N_JOINTS,):
        raise ValueError(f"action has shape {values.shape}; expected ({N_JOINTS},), one number per joint")
    if not np.isfinite(values).all():
        raise ValueError(f"action is {values}; expected finite numbers (does the policy diverge?)")
    return values


def _check_not_negative(**numbers: float) -> None:
    for name, value in numbers.items():
        if not 0 <= value < np.inf:
            raise ValueError(f"{name} is {value}; expected a finite number of at least 0")

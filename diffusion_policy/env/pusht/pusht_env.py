"""Push-T as a gymnasium environment, observed through its state."""

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from diffusion_policy.env.pusht.geometry import GOAL_POSE, WINDOW_SIZE, coverage
from diffusion_policy.env.pusht.physics import PushTPhysics
from diffusion_policy.env.pusht.renderer import draw_action, render_scene

SUCCESS_COVERAGE = 0.95
# With actions inside the window the agent stays inside too: its controller does not overshoot. The block
# can be forced through a wall, by up to 131 px in half a million random pushes.
BLOCK_LOW, BLOCK_HIGH = -256.0, WINDOW_SIZE + 256.0
STATE_LOW = np.array([0, 0, BLOCK_LOW, BLOCK_LOW, 0])
STATE_HIGH = np.array([WINDOW_SIZE, WINDOW_SIZE, BLOCK_HIGH, BLOCK_HIGH, 2 * math.pi])


class PushTEnv(gymnasium.Env):
    """Push a T onto its goal pose with a disc that follows the action.

    Observation: (5,) float64 state: agent x, y, block x, y (pixels of a 512 x 512 window, y down) and block
    angle (radians, in [0, 2 pi)).

    Action: (2,) desired agent x, y in pixels, held for 0.1 s. Finite values outside the action space are used
    as they are: the agent then leaves the window, and observations may leave their space.

    Reward: `min(coverage / 0.95, 1)`, where coverage is the share of the goal's area under the block. The
    episode terminates when coverage exceeds 0.95. It is never truncated here, and may be stepped after its
    end.

    Info: `coverage`, `is_success`, `state` (5,), `block_pose` (3,) with the angle not wrapped, `goal_pose`
    (3,), `pos_agent` (2,) and `vel_agent` (2,) in pixels per second.

    Args:
        legacy: place the block as the recorded demonstrations did (see `reset`), where `reset` is not told.
        render_size: height and width of the images, in pixels.
        render_mode: "rgb_array"; `None` means the same.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012, gymnasium declares it so

    def __init__(
        self, legacy: bool = False, render_size: int = 96, render_mode: str | None = "rgb_array"
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f'render_mode is {render_mode!r}; Push-T draws "rgb_array" only')
        if render_size < 1:
            raise ValueError(f"render_size is {render_size}; expected a positive number of pixels")
        self.legacy = legacy
        self.render_size = render_size
        self.render_mode = render_mode
        self.observation_space = Box(STATE_LOW, STATE_HIGH, dtype=np.float64)
        self.action_space = Box(0.0, WINDOW_SIZE, shape=(2,), dtype=np.float64)
        self._physics: PushTPhysics | None = None
        self._last_action: NDArray[np.float64] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Without a seed, one is drawn from the environment's generator: episodes differ, and their sequence
        follows from the last seed given. Options:

        - `state`: (5,) the state to start from; it is the first state observed (angle modulo 2 pi).
        - `legacy`: bool, in place of the constructor's. If true, the drawn position is set before the
          angle, which turns the block about its centre of gravity and so moves its origin. `seed=i` with
          `legacy=True` is the start of episode i of the human demonstrations. Has no effect on `state`.

        Raises:
            ValueError: if an option is unknown or its value cannot be used.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := set(options) - {"state", "legacy"}:
            raise ValueError(f"options has unknown keys {sorted(unknown)}; allowed are 'state' and 'legacy'")
        if options.get("state") is not None:
            state = _checked_state(options["state"])
            position_first = False
        else:
            state = _draw_state(int(self.np_random.integers(2**32)) if seed is None else seed)
            position_first = _checked_legacy(options, self.legacy)
        self._physics = PushTPhysics(state[:2], state[2:], position_first=position_first)
        self._last_action = None
        return self._observe()

    def step(self, action: ArrayLike) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Follow `action`, (2,) x, y in pixels, for 0.1 s.

        Raises:
            ValueError: if the action does not have two finite numbers.
        """
        target = np.array(action, dtype=np.float64)
        if target.shape != (2,):
            raise ValueError(f"action has shape {target.shape}; expected (2,): desired agent x, y in pixels")
        if not np.isfinite(target).all():
            raise ValueError(f"action is {target}; expected finite numbers (does the policy diverge?)")
        self._running_physics().follow(target.tolist())
        self._last_action = target
        observation, info = self._observe()
        reward = min(info["coverage"] / SUCCESS_COVERAGE, 1.0)
        return observation, reward, info["is_success"], False, info

    def render(self) -> NDArray[np.uint8]:
        """The scene with a red cross at the last action, if any: (render_size, render_size, 3) uint8."""
        image = self.render_observation()
        if self._last_action is not None:
            draw_action(image, self._last_action)
        return image

    def render_observation(self) -> NDArray[np.uint8]:
        """The scene as a policy sees it, without the action: (render_size, render_size, 3) uint8.

        Equal to the recorded demonstrations' images where `render_size` is 96.
        """
        physics = self._running_physics()
        return render_scene(
            physics.agent_position, physics.block_pose, physics.contact_segments(), self.render_size
        )

    def _observe(self) -> tuple[Any, dict[str, Any]]:
        """Observation (what it is, a subclass may change) and info of the current moment."""
        physics = self._running_physics()
        x, y, angle = physics.block_pose
        state = np.array([*physics.agent_position, x, y, angle % (2 * math.pi)])
        covered = coverage((x, y, angle))
        info = {
            "coverage": covered,
            "is_success": covered > SUCCESS_COVERAGE,
            "state": state.copy(),
            "block_pose": np.array([x, y, angle]),
            "goal_pose": np.array(GOAL_POSE),
            "pos_agent": np.array(physics.agent_position),
            "vel_agent": np.array(physics.agent_velocity),
        }
        return state, info

    def _running_physics(self) -> PushTPhysics:
        if self._physics is None:
            raise gymnasium.error.ResetNeeded("no episode was started; call reset() first")
        return self._physics


def _draw_state(seed: int) -> NDArray[np.float64]:
    """The start the demonstrations drew from `seed`: agent x, y, block x, y, angle."""
    random = np.random.RandomState(seed)  # newer generators draw other starts
    agent = random.randint(50, 450), random.randint(50, 450)
    block = random.randint(100, 400), random.randint(100, 400), random.randn() * 2 * np.pi - np.pi
    return np.array([*agent, *block], dtype=np.float64)


def _checked_legacy(options: Mapping[str, Any], default: bool) -> bool:
    legacy = options.get("legacy", default)
    if not isinstance(legacy, bool | np.bool_):
        raise ValueError(f'options["legacy"] is {legacy!r}; expected True or False')
    return bool(legacy)


def _checked_state(state: ArrayLike) -> NDArray[np.float64]:
    """`state` as float64, if the environment can take it."""
    values = np.array(state, dtype=np.float64)
    if values.shape != (5,):
        raise ValueError(
            f'options["state"] has shape {values.shape}; expected (5,): agent x, y, block x, y, block angle'
        )
    if not np.isfinite(values).all():
        raise ValueError(f'options["state"] is {values}; expected finite numbers')
    positions = values[:4]
    if (positions < STATE_LOW[:4]).any() or (positions > STATE_HIGH[:4]).any():
        raise ValueError(
            f'options["state"] is {values}; expected agent x, y in [0, {WINDOW_SIZE}] '
            f"and block x, y in [{BLOCK_LOW:g}, {BLOCK_HIGH:g}] pixels"
        )
    return values

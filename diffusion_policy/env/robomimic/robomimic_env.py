"""robomimic's tasks as a gymnasium environment."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import ArrayLike, NDArray

from diffusion_policy.common.arm_actions import AXIS_ANGLE_SIZE, ROTATION_6D_SIZE, to_axis_angle
from diffusion_policy.env.robomimic.cameras import Cameras
from diffusion_policy.env.robomimic.robomimic_file import default_env_args, read_env_args, read_first_state
from diffusion_policy.env.robomimic.simulation import Simulation

IMAGE_SUFFIX = "_image"  # of the key of a camera's images
OPTIONS = ("state", "model", "demonstrations")


class RobomimicEnv(gymnasium.Env):
    """Lift, PickPlaceCan, NutAssemblySquare, TwoArmTransport or ToolHang, at 20 Hz, as robomimic recorded them.

    Observation: a dict with the keys of `shape_meta`, float32: values by robomimic's names (`object`,
    `robot0_eef_pos` (m), `robot0_eef_quat` (x, y, z, w, of the hand), `robot0_gripper_qpos`, ...) and images
    `<camera>_image` (3, H, W) in [0, 1], the right way up. They belong to the state reached, as those of the files;
    `object` is in the order of robosuite before 1.5 (`RobomimicDataset` brings newer files into it).

    Action, for each arm: the change of position (3) and rotation (3), scaled to [-1, 1], and the gripper (1; -1
    opens, 1 closes). Values outside are clipped. With `abs_action` the pose to go to: position (3, m), rotation of
    the grip site (6, the first two rows of its matrix, made orthonormal) and the gripper.

    Reward: 1 where the task is done, else 0; the episode terminates then. It is never truncated here, and may be
    stepped after its end.

    Info: `is_success`, and `state`, the flat MuJoCo state. While the attribute `draws_images` is false, observed
    images are black: for steps that nobody looks at.

    What is drawn once with the model, the size of Lift's cube (4 to 4.4 cm), is the same in all episodes.

    Args:
        env_name: the task, by robosuite's name; other tasks of robosuite than robomimic's work too.
        shape_meta: as of the dataset: `obs`, whose keys of type `rgb` are images, and `action`.
        abs_action: whether actions are poses.
        env_args: an HDF5 file of robomimic's, recorded in an environment like which this is to be; None takes that
            of the published human demonstrations; of other tasks, one Panda.
        render_camera: camera of `render`.
        render_size: height and width of `render`'s images, in pixels.
        fast_rendering: draw without shadows and multisampling, which is faster on a CPU; images then differ from
            recorded ones.
        render_mode: "rgb_array"; None means the same.

    Raises:
        FileNotFoundError: `env_args` is not there.
        ImportError: robosuite is not installed; says how to.
        ValueError: an argument is not as above, or `shape_meta` names what the task does not have.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012, gymnasium declares it so

    def __init__(
        self,
        env_name: str,
        shape_meta: Mapping[str, Any],
        abs_action: bool = False,
        env_args: str | PathLike[str] | None = None,
        render_camera: str = "agentview",
        render_size: int = 128,
        fast_rendering: bool = False,
        render_mode: str | None = "rgb_array",
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f'render_mode is {render_mode!r}; robomimic\'s tasks draw "rgb_array" only')
        if render_size < 1:
            raise ValueError(f"render_size is {render_size}; expected a positive number of pixels")
        self.env_args = _env_args(env_name, env_args)
        self.abs_action = abs_action
        self.render_camera = render_camera
        self.render_size = render_size
        self.render_mode = render_mode
        self.draws_images = True
        self._fast_rendering = fast_rendering
        self._shapes = {key: tuple(meta["shape"]) for key, meta in shape_meta["obs"].items()}
        self._cameras: Cameras | None = None
        self._simulation = Simulation(self.env_args, absolute=abs_action)
        self._has_own_model = True
        self._running = False
        self._check_keys()
        self.observation_space = Dict({key: self._space(key) for key in self._shapes})
        self.action_space = self._action_space(tuple(shape_meta["action"]["shape"]))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
        """Start an episode.

        Without a seed, one is drawn from the environment's generator: episodes differ, and their sequence follows
        from the last seed given. Options:

        - `state`: the flat MuJoCo state (time, positions, velocities) to start from.
        - `model`: beside `state`, the MuJoCo model as XML, as recorded with robosuite 1.5.
        - `demonstrations`: an HDF5 file of robomimic's; the episode starts as its demonstration number `seed` did.

        Raises:
            FileNotFoundError: `demonstrations` is not there.
            ValueError: an option is unknown or its value cannot be used.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := set(options) - set(OPTIONS):
            raise ValueError(f"options has unknown keys {sorted(unknown)}; allowed are {', '.join(OPTIONS)}")
        state = options.get("state")
        if options.get("demonstrations") is not None:
            if seed is None or state is not None:
                raise ValueError(
                    'options["demonstrations"] needs a seed, the number of a demonstration, and no state'
                )
            state = read_first_state(options["demonstrations"], seed)
        self._use_model(options.get("model"), state)
        if state is None:
            self._simulation.reset(int(self.np_random.integers(2**32)) if seed is None else seed)
        else:
            self._simulation.restore(state)
        self._running = True
        return self._observe(), self._info()

    def step(
        self, action: ArrayLike
    ) -> tuple[dict[str, NDArray[np.float32]], float, bool, bool, dict[str, Any]]:
        """Apply an action for one control period, 0.05 s.

        Raises:
            ValueError: the action has another shape, or is not finite.
        """
        if not self._running:
            raise gymnasium.error.ResetNeeded("no episode was started; call reset() first")
        reward = self._simulation.step(self._checked(action))
        info = self._info()
        return self._observe(), reward, info["is_success"], False, info

    def render(self) -> NDArray[np.uint8]:
        """What `render_camera` sees, (render_size, render_size, 3) uint8."""
        return self._image(self.render_camera, self.render_size, self.render_size)

    def close(self) -> None:
        """Free the simulation and what draws it."""
        self._close_cameras()
        self._simulation.close()

    @property
    def model_xml(self) -> str:
        """The MuJoCo model as XML, for the option `model` of `reset`."""
        return self._simulation.model_xml

    def _observe(self) -> dict[str, NDArray[np.float32]]:
        values = self._simulation.observe()
        return {key: self._value(key, values) for key in self._shapes}

    def _value(self, key: str, values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float32]:
        if not key.endswith(IMAGE_SUFFIX):
            return values[key].astype(np.float32)
        if not self.draws_images:
            return np.zeros(self._shapes[key], np.float32)
        _, height, width = self._shapes[key]
        image = self._image(key.removesuffix(IMAGE_SUFFIX), height, width)
        return np.divide(image.transpose(2, 0, 1), 255, dtype=np.float32)  # (3, H, W)

    def _info(self) -> dict[str, Any]:
        return {"is_success": self._simulation.is_success, "state": self._simulation.state}

    def _image(self, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        if self._cameras is None:
            self._cameras = Cameras(self._simulation.model, self._simulation.data, self._fast_rendering)
        return self._cameras.render(camera, height, width)

    def _close_cameras(self) -> None:
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None

    def _use_model(self, xml: str | None, state: ArrayLike | None) -> None:
        """Take a model, or the task's own again."""
        if xml is not None and state is None:
            raise ValueError('options["model"] needs options["state"], a state of that model')
        if xml is None and self._has_own_model:
            return
        self._close_cameras()  # they hold the model
        if xml is None:
            self._simulation.close()
            self._simulation = Simulation(self.env_args, absolute=self.abs_action)
            self._has_own_model = True
        else:
            self._has_own_model = False  # also if it cannot be loaded: then the next episode needs a new one
            self._simulation.load_model(xml)

    def _checked(self, action: ArrayLike) -> NDArray[np.float64]:
        """The action as robosuite takes it, (7 n_arms,)."""
        values = np.asarray(action, dtype=np.float64)
        if values.shape != self.action_space.shape:
            raise ValueError(f"action has shape {values.shape}; expected {self.action_space.shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"action is {values}; expected finite numbers (does the policy diverge?)")
        return to_axis_angle(values) if self.abs_action else values

    def _check_keys(self) -> None:
        """Every key of `shape_meta` is a camera or a value of this task, of its size."""
        known = self._simulation.observe()
        cameras = {self._simulation.model.camera(i).name for i in range(self._simulation.model.ncam)}
        if self.render_camera not in cameras:
            raise ValueError(f"render_camera is {self.render_camera!r}; expected one of {sorted(cameras)}")
        for key, shape in self._shapes.items():
            camera = key.removesuffix(IMAGE_SUFFIX)
            if camera != key and (camera not in cameras or len(shape) != 3 or shape[0] != 3):
                raise ValueError(
                    f"shape_meta: '{key}' {shape} must be the camera's name and '{IMAGE_SUFFIX}', (3, H, W); "
                    f"{self.env_args['env_name']} has the cameras {sorted(cameras)}"
                )
            if camera == key and (key not in known or known[key].shape != shape):
                sizes = {name: value.shape for name, value in known.items()}
                raise ValueError(
                    f"shape_meta: '{key}' {shape} is none of what {self.env_args['env_name']} has: {sizes}"
                )

    def _space(self, key: str) -> Box:
        low, high = (0.0, 1.0) if key.endswith(IMAGE_SUFFIX) else (-np.inf, np.inf)
        return Box(low, high, self._shapes[key], np.float32)

    def _action_space(self, shape: tuple[int, ...]) -> Box:
        size = ROTATION_6D_SIZE if self.abs_action else AXIS_ANGLE_SIZE
        expected = (size * self._simulation.n_arms,)
        if shape != expected:
            raise ValueError(
                f"shape_meta: the action of {self.env_args['env_name']} with abs_action={self.abs_action} "
                f"has shape {expected}, got {shape}"
            )
        bound = np.inf if self.abs_action else 1.0
        return Box(-bound, bound, expected, np.float32)


def _env_args(env_name: str, path: str | PathLike[str] | None) -> dict[str, Any]:
    if path is None:
        return default_env_args(env_name)
    env_args = read_env_args(path)
    if env_args.get("env_name") != env_name:
        raise ValueError(
            f"env_name is {env_name!r}, but {path} was recorded in {env_args.get('env_name')!r}; choose its file"
        )
    return env_args

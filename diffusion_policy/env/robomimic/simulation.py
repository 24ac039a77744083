"""A robosuite environment as its state, its observations and its controllers."""

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffusion_policy.common.rotation_transformer import RotationTransformer
from diffusion_policy.env.robomimic.controller_configs import composite_configs
from diffusion_policy.env.robomimic.robosuite_package import import_robosuite

ARM = "right"  # what robosuite calls the arm of a robot that has one
ARM_ACTION_SIZE = 7  # position or its change, rotation or its change as axis-angle, gripper
MODEL_SEED = 0  # of what is drawn once, with the model: the size of Lift's cube, between 4 and 4.4 cm
# What a file says of how images were drawn and episodes ended, and what we say ourselves.
OURS: dict[str, Any] = {
    "has_renderer": False,
    "has_offscreen_renderer": False,
    "renderer": "mujoco",
    "use_camera_obs": False,
    "use_object_obs": True,
    "reward_shaping": False,
    "ignore_done": True,
    "hard_reset": False,
    "seed": MODEL_SEED,
}
SEEN_FROM_HAND = "_to_robot0_eef_"
FLAGS = ("frame_is_assembled", "tool_on_frame", "payload_in_target_bin", "trash_in_trash_bin")

_TO_AXIS_ANGLE = RotationTransformer("matrix", "axis_angle")
NOT_OF_PHYSICS = ("camera_", "render_", "horizon", "renderer_config")


class Simulation:
    """A task of robosuite, robomimic's among them.

    Args:
        env_args: as in robomimic's files: `env_name`, and `env_kwargs` with what shapes the simulation.
        absolute: whether `step` takes poses; else changes of the pose, scaled to [-1, 1].

    Raises:
        ImportError: robosuite is not installed; says how to.
        ValueError: robosuite has no such environment, or a controller of `env_args` is not one of robomimic's; see
            `composite_configs`.
    """

    def __init__(self, env_args: Mapping[str, Any], absolute: bool) -> None:
        robosuite = import_robosuite()
        task = _task(robosuite, env_args["env_name"])
        self._env = task(**_robosuite_arguments(task, env_args, absolute))
        self._env._observables = {name: self._env._observables[name] for name in _published_order(self._env)}
        self.n_arms = len(self._env.robots)
        self._absolute = absolute
        self._xml = self._env.model.get_xml()

    def reset(self, seed: int) -> None:
        """Start an episode that is a function of the seed."""
        # In place: what places objects holds the generator too.
        self._env.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        self._env.reset()

    def restore(self, state: ArrayLike, episode_start: ArrayLike | None = None) -> None:
        """Start in a flat MuJoCo state: time, positions, velocities.

        Args:
            state: (1 + nq + nv,).
            episode_start: the state in which the episode began, whose arm joints the controllers lean to; None is
                `state` itself.

        Raises:
            ValueError: `state` has another length, or is not finite.
        """
        self.reset(MODEL_SEED)  # also forgets how far the gripper's command had come
        self._set_state(state if episode_start is None else episode_start)
        for robot in self._env.robots:
            joints = self._env.sim.data.qpos[robot._ref_arm_joint_pos_indexes]
            robot.part_controllers[ARM].update_initial_joints(joints)
        if episode_start is not None:
            self._set_state(state)
            for robot in self._env.robots:
                robot.part_controllers[ARM].update(force=True)

    def load_model(self, xml: str) -> None:
        """Replace the MuJoCo model, as recorded with robosuite 1.5; call `reset` or `restore` next.

        Raises:
            ValueError: it is no model, or not one of this task in robosuite 1.5.
        """
        self._env.hard_reset = True  # else ToolHang's sensors would go on reading the old simulation
        try:
            self._env.reset_from_xml_string(xml)
            self._xml = xml
        except Exception as error:  # robosuite and MuJoCo raise whatever comes first
            raise ValueError(
                f"the model cannot be used ({error}); robosuite renamed its parts in 1.5, so older ones cannot: "
                'leave the option "model" out to use the model of the task'
            ) from error
        finally:
            self._env.hard_reset = OURS["hard_reset"]

    def step(self, action: ArrayLike) -> float:
        """Apply an action, (7 n_arms,), for one control period; returns robosuite's reward, 1 on success, else 0."""
        _, reward, _, _ = self._env.step(np.asarray(action, dtype=np.float64))
        return float(reward)

    def observe(self) -> dict[str, NDArray[np.float64]]:
        """All values robosuite knows of the present state, by robomimic's names: `object` for `object-state`.

        They belong to the present state, as those of robomimic's files do, and `object` has their order. What
        robosuite's own `step` returns is one physics step, 2 ms, older.
        """
        self._env.sim.forward()
        values = self._env._get_observations(force_update=True)
        return {
            "object" if key == "object-state" else key: np.atleast_1d(value) for key, value in values.items()
        }

    def poses_from_changes(self, state: ArrayLike, action: ArrayLike) -> NDArray[np.float64]:
        """The poses at which the controllers would aim in a state, if told these changes of the pose.

        Afterwards the simulation is in that state; call `reset` or `restore` before `step`.

        Args:
            state: flat MuJoCo state, as of `restore`.
            action: (7 n_arms,) changes, as `step` takes them where `absolute` is false.

        Returns:
            (7 n_arms,) position (m) and axis-angle (rad) of the grip site, in the frame of the controllers, and the
            gripper's part unchanged: as `step` takes them where `absolute` is true.
        """
        assert not self._absolute, "controllers that take poses know nothing of changes"
        self._set_state(state)
        targets = []
        arm_actions = np.asarray(action, dtype=np.float64).reshape(self.n_arms, ARM_ACTION_SIZE)
        for robot, arm_action in zip(self._env.robots, arm_actions, strict=True):
            controller = robot.part_controllers[ARM]
            controller.update(force=True)
            controller.set_goal(arm_action[:6])
            targets += [controller.goal_pos, _TO_AXIS_ANGLE.forward(controller.goal_ori), arm_action[6:]]
        return np.concatenate(targets)

    @property
    def is_success(self) -> bool:
        """Whether robosuite holds the task to be done."""
        return bool(self._env._check_success())

    @property
    def state(self) -> NDArray[np.float64]:
        """The flat MuJoCo state, (1 + nq + nv,): time, positions, velocities."""
        return np.asarray(self._env.sim.get_state().flatten())

    @property
    def model_xml(self) -> str:
        """The MuJoCo model as XML, with paths of this machine."""
        return str(self._xml)

    @property
    def model(self) -> Any:
        """The `mujoco.MjModel`; another one after `load_model`."""
        return self._env.sim.model._model

    @property
    def data(self) -> Any:
        """The `mujoco.MjData` of `model`."""
        return self._env.sim.data._data

    def close(self) -> None:
        """Free the simulation."""
        self._env.close()

    def _set_state(self, state: ArrayLike) -> None:
        values = np.asarray(state, dtype=np.float64)
        expected = (1 + self.model.nq + self.model.nv,)
        if values.shape != expected or not np.isfinite(values).all():
            raise ValueError(
                f"state has shape {values.shape}; expected {expected} finite numbers: time, {self.model.nq} "
                f"positions, {self.model.nv} velocities of {type(self._env).__name__}"
            )
        self._env.sim.set_state_from_flattened(values)
        self._env.sim.forward()


def _task(robosuite: ModuleType, env_name: str) -> type:
    tasks = robosuite.environments.base.REGISTERED_ENVS
    if env_name not in tasks:
        raise ValueError(f"env_name is {env_name!r}; expected one of {', '.join(sorted(tasks))}")
    return tasks[env_name]


def _published_order(env: Any) -> list[str]:
    """Names of what is observed, in the order of robosuite before 1.5, with which robomimic's files were made.

    An object's pose seen from the hand comes after its pose, which it is computed from (1.5 computes it first, from
    the pose of the observation before), and flags come last.
    """
    names = list(env._observables)
    relative = [name for name in names if SEEN_FROM_HAND in name]
    for name in relative:
        names.remove(name)
    for name in reversed(relative):
        names.insert(names.index(name.partition(SEEN_FROM_HAND)[0] + "_quat") + 1, name)
    return [*(name for name in names if name not in FLAGS), *(name for name in FLAGS if name in names)]


def _robosuite_arguments(task: type, env_args: Mapping[str, Any], absolute: bool) -> dict[str, Any]:
    """What of `env_args` robosuite 1.5 takes and does not concern drawing, with its controllers translated."""
    known = {name for cls in task.__mro__[:-1] for name in inspect.signature(cls).parameters}
    kwargs = dict(env_args.get("env_kwargs", {}))
    robots = kwargs.get("robots", "Panda")
    n_arms = 1 if isinstance(robots, str) else len(robots)
    taken = {name: kwargs[name] for name in known & set(kwargs) if not name.startswith(NOT_OF_PHYSICS)}
    controllers = composite_configs(kwargs.get("controller_configs"), n_arms, absolute)
    return {**taken, **OURS, "robots": robots, "controller_configs": controllers}

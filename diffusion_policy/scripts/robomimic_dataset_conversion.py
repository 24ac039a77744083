"""Rewrite the recorded changes of the pose in a robomimic file, relative actions, as poses, absolute ones.

`python -m diffusion_policy.scripts.robomimic_dataset_conversion -i low_dim.hdf5 -o low_dim_abs.hdf5 [--eval]`

At every recorded state the controllers are told the recorded change of pose; the pose at which they then aim is the
absolute action: position (m) and axis-angle (rad) of the grip site, and the gripper's part as it was. All else in the
file stays as it is. `--eval` executes both kinds of action from every recorded state, as the original's script does,
and says how far from the next recorded state they lead.
"""

import argparse
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from diffusion_policy.common.arm_actions import are_poses
from diffusion_policy.common.optional_package import optional_package
from diffusion_policy.common.user_errors import report_user_errors
from diffusion_policy.dataset.episode_arrays import by_number
from diffusion_policy.dataset.new_path import new_path
from diffusion_policy.env.robomimic.robomimic_file import read_env_args
from diffusion_policy.env.robomimic.simulation import ARM_ACTION_SIZE, Simulation

logger = logging.getLogger(__name__)

FIRST_COMPARED = 1  # the original leaves each episode's first step out


@dataclass(frozen=True)
class PoseError:
    """The largest distance between hands in two lists of states: metres, and radians of the turn between them."""

    position_m: float
    rotation_rad: float

    def __str__(self) -> str:
        return f"{1000 * self.position_m:.6f} mm, {self.rotation_rad:.8f} rad"


@dataclass(frozen=True)
class Replay:
    """How far one step from every recorded state leads from the next recorded one.

    Args:
        n_steps: Number of steps compared.
        relative: Of the recorded actions.
        absolute: Of what they became.
        between: Of these two from each other.
    """

    n_steps: int
    relative: PoseError
    absolute: PoseError
    between: PoseError

    def __str__(self) -> str:
        return (
            f"largest error of the hand after one step, over {self.n_steps} steps\n"
            f"  changes of the pose, from what was recorded: {self.relative}\n"
            f"  poses, from what was recorded: {self.absolute}\n"
            f"  poses from changes: {self.between}"
        )


def convert(source: str | PathLike[str], destination: str | PathLike[str]) -> None:
    """Write `source` with absolute actions to `destination`, which appears when it is complete.

    Raises:
        FileExistsError: something is at `destination`.
        FileNotFoundError: nothing is at `source`.
        ImportError: robosuite or h5py is not installed.
        ValueError: `source` holds no states, or its actions are absolute already.
    """
    source, destination = Path(source).expanduser(), Path(destination).expanduser()
    simulation = Simulation(read_env_args(source), absolute=False)
    with new_path(destination) as temporary:
        shutil.copyfile(source, temporary)
        with _demonstrations(temporary, "r+") as demonstrations:
            for demonstration in tqdm(demonstrations, desc="demonstrations", unit="demo"):
                states, actions = _recorded(source, demonstration, simulation.n_arms)
                demonstration["actions"][...] = absolute_actions(simulation, states, actions)
    simulation.close()


def absolute_actions(
    simulation: Simulation, states: NDArray[np.float64], actions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The poses (N, 7 n_arms) aimed at in states (N, S) on relative actions (N, 7 n_arms)."""
    return np.array(
        [simulation.poses_from_changes(*step) for step in zip(states, actions, strict=True)], dtype=np.float64
    )


def evaluate(source: str | PathLike[str], converted: str | PathLike[str]) -> Replay:
    """Execute the actions of both files from every recorded state but the last of each demonstration."""
    env_args = read_env_args(source)
    relative, absolute = (Simulation(env_args, absolute=is_absolute) for is_absolute in (False, True))
    poses = []
    with _demonstrations(source, "r") as demos, _demonstrations(converted, "r") as converted_demos:
        for demo, converted_demo in tqdm(list(zip(demos, converted_demos, strict=True)), desc="replays"):
            states = demo["states"][()]
            recorded = np.array([_hands_at(relative, state) for state in states[1:]])
            by_change = hands_reached(relative, states, demo["actions"][()])
            by_pose = hands_reached(absolute, states, converted_demo["actions"][()])
            poses.append(np.stack([recorded, by_change, by_pose])[:, FIRST_COMPARED:])
    relative.close()
    absolute.close()
    recorded, by_change, by_pose = np.concatenate(poses, axis=1)  # (steps, n_arms, 7)
    pairs = [(by_change, recorded), (by_pose, recorded), (by_pose, by_change)]
    return Replay(len(recorded), *(pose_error(*pair) for pair in pairs))


def hands_reached(
    simulation: Simulation, states: NDArray[np.float64], actions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Poses of the hands (N - 1, n_arms, 7) after one step from each state (N, S) but the last."""
    poses = []
    for state, action in zip(states[:-1], actions[:-1], strict=True):
        simulation.restore(state, episode_start=states[0])
        simulation.step(action)
        poses.append(_hands(simulation))
    return np.array(poses)


def pose_error(poses: NDArray[np.float64], others: NDArray[np.float64]) -> PoseError:
    """The largest distance between poses (..., 7): position, and quaternion x, y, z, w."""
    distances = np.linalg.norm(poses[..., :3] - others[..., :3], axis=-1)
    # The angle from the chord between quaternions, of which q and -q are one rotation: exact near 0.
    chords = [np.linalg.norm(poses[..., 3:] - sign * others[..., 3:], axis=-1) for sign in (1, -1)]
    angles = 4 * np.arcsin(np.clip(np.minimum(*chords) / 2, 0, 1))
    return PoseError(float(distances.max()), float(angles.max()))


def _hands_at(simulation: Simulation, state: NDArray[np.float64]) -> NDArray[np.float64]:
    simulation.restore(state)
    return _hands(simulation)


def _hands(simulation: Simulation) -> NDArray[np.float64]:
    values = simulation.observe()
    hands = [[values[f"robot{i}_eef_pos"], values[f"robot{i}_eef_quat"]] for i in range(simulation.n_arms)]
    return np.array([np.concatenate(hand) for hand in hands])


@contextmanager
def _demonstrations(path: str | PathLike[str], mode: str) -> Iterator[list[Any]]:
    """The groups of the demonstrations, in the order of their numbers."""
    with optional_package("h5py").File(path, mode) as file:
        names = [name for name in file["data"] if name.startswith("demo_")]
        if not names:
            raise ValueError(f"{path}: no demonstrations: expected groups data/demo_0, data/demo_1, ...")
        yield [file["data"][name] for name in sorted(names, key=by_number)]


def _recorded(path: Path, demonstration: Any, n_arms: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if "states" not in demonstration or "actions" not in demonstration:
        raise ValueError(
            f"{path}: {demonstration.name} lacks 'states' or 'actions'; choose a file that has them"
        )
    states = np.asarray(demonstration["states"], dtype=np.float64)
    actions = np.asarray(demonstration["actions"], dtype=np.float64)
    if actions.shape != (len(states), n_arms * ARM_ACTION_SIZE):
        raise ValueError(
            f"{path}: {demonstration.name}/actions has shape {actions.shape}; expected "
            f"({len(states)}, {n_arms * ARM_ACTION_SIZE})"
        )
    if are_poses(actions):
        raise ValueError(
            f"{path}: most actions of {demonstration.name} leave [-1, 1]; they are poses already"
        )
    return states, actions


def main() -> None:
    """Command line; see the module."""
    parser = argparse.ArgumentParser(
        description="Rewrite recorded changes of the pose (relative actions) of a robomimic file as poses (absolute)."
    )
    parser.add_argument(
        "-i", "--input", required=True, help="HDF5 file whose actions are changes of the pose"
    )
    parser.add_argument("-o", "--output", required=True, help="HDF5 file to write")
    parser.add_argument("--eval", action="store_true", help="execute both and say how far they are apart")
    options = parser.parse_args()

    def run() -> None:
        convert(options.input, options.output)
        logger.info("wrote %s", options.output)
        if options.eval:
            logger.info("%s", evaluate(options.input, options.output))

    report_user_errors(run)


if __name__ == "__main__":
    main()

"""Relative actions of robomimic files as absolute ones."""

import json
import logging
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffusion_policy.env.robomimic.robomimic_file import default_env_args
from diffusion_policy.env.robomimic.simulation import Simulation
from diffusion_policy.scripts.robomimic_dataset_conversion import (
    convert,
    evaluate,
    hands_reached,
    main,
    pose_error,
)

pytestmark = pytest.mark.sim
N_ARMS = {"Lift": 1, "TwoArmTransport": 2}


def recorded(path: Path, env_name: str, n_steps: int = 8) -> Path:
    """Two demonstrations of random actions, and something beside them."""
    pytest.importorskip("robosuite")
    env_args = default_env_args(env_name)
    simulation = Simulation(env_args, absolute=False)
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps(env_args)
        file["mask/train"] = np.array([b"demo_0"])
        for number in range(2):
            simulation.reset(number)
            actions = random.uniform(-1, 1, (n_steps, 7 * N_ARMS[env_name]))
            states = []
            for action in actions:
                states.append(simulation.state)
                simulation.step(action)
            file[f"data/demo_{number}/actions"] = actions
            file[f"data/demo_{number}/states"] = np.array(states)
    return path


@pytest.mark.parametrize("env_name", N_ARMS)
def test_absolute_actions_reach_the_same_states(tmp_path, env_name):
    source, converted = recorded(tmp_path / "a.hdf5", env_name), tmp_path / "a_abs.hdf5"
    convert(source, converted)
    replay = evaluate(source, converted)
    assert replay.n_steps == 2 * 6  # without the first step and the last state
    assert replay.between.position_m < 1e-9
    assert replay.between.rotation_rad < 1e-7
    # One step from a state forgets how far the gripper's command had come, so that is not exact.
    assert replay.relative.position_m < 2e-3
    assert "poses from changes: 0.0000" in str(replay)


def test_all_else_stays(tmp_path):
    source, converted = recorded(tmp_path / "a.hdf5", "Lift"), tmp_path / "a_abs.hdf5"
    before = source.read_bytes()
    convert(source, converted)
    assert source.read_bytes() == before
    with h5py.File(source) as old, h5py.File(converted) as new:
        assert dict(old["data"].attrs) == dict(new["data"].attrs)
        assert old["mask/train"][()].tolist() == new["mask/train"][()].tolist()
        for name in ("data/demo_0", "data/demo_1"):
            np.testing.assert_array_equal(old[name]["states"], new[name]["states"])
            np.testing.assert_array_equal(old[name]["actions"][:, 6], new[name]["actions"][:, 6])
            assert (np.abs(new[name]["actions"][:, 2] - 1) < 0.3).all()  # metres above the floor


def test_the_rotation_is_that_of_the_grip_site(shared_data):
    """Actions of zero aim at the present pose; the observed quaternion is the hand's, turned by 90 degrees."""
    pytest.importorskip("robosuite")
    simulation = Simulation(default_env_args("Lift"), absolute=False)
    with h5py.File(shared_data / "robomimic/lift_human_low_dim/low_dim.hdf5") as file:
        state = file["data/demo_0/states"][30]
    pose = simulation.poses_from_changes(state, np.zeros(7))
    values = simulation.observe()
    np.testing.assert_allclose(pose[:3], values["robot0_eef_pos"], atol=1e-12)
    aimed = Rotation.from_rotvec(pose[3:6])
    assert (aimed * Rotation.from_quat(values["robot0_eef_quat_site"]).inv()).magnitude() < 1e-6
    offset = (aimed.inv() * Rotation.from_quat(values["robot0_eef_quat"])).as_rotvec()
    np.testing.assert_allclose(np.abs(offset), [0, 0, np.pi / 2], atol=1e-6)


def test_human_demonstrations(shared_data):
    """Some steps of one; the guide says what all give."""
    pytest.importorskip("robosuite")
    env_args = default_env_args("Lift")
    relative, absolute = Simulation(env_args, False), Simulation(env_args, True)
    with h5py.File(shared_data / "robomimic/lift_human_low_dim/low_dim.hdf5") as file:
        states, actions = (file[f"data/demo_0/{name}"][:15] for name in ("states", "actions"))
    poses = np.array([relative.poses_from_changes(*step) for step in zip(states, actions, strict=True)])
    error = pose_error(hands_reached(absolute, states, poses), hands_reached(relative, states, actions))
    assert error.position_m < 1e-9
    assert error.rotation_rad < 1e-7


def test_what_is_absolute_already_is_refused(tmp_path):
    source, converted = recorded(tmp_path / "a.hdf5", "Lift", n_steps=3), tmp_path / "a_abs.hdf5"
    convert(source, converted)
    with pytest.raises(ValueError, match="poses already"):
        convert(converted, tmp_path / "twice.hdf5")
    with pytest.raises(FileExistsError, match="exists already"):
        convert(source, converted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hdf5", "a_abs.hdf5"]


def test_the_command(tmp_path, monkeypatch, caplog):
    source, converted = recorded(tmp_path / "a.hdf5", "Lift", n_steps=3), tmp_path / "b.hdf5"
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys, "argv", ["conversion", "-i", str(source), "-o", str(converted), "--eval"])
    main()
    assert converted.is_file()
    assert "over 2 steps" in caplog.text
    monkeypatch.setattr(sys, "argv", ["conversion", "-i", "no", "-o", str(tmp_path / "c.hdf5")])
    with pytest.raises(SystemExit, match="error: there is no file no"):
        main()


def test_pose_error():
    turn = Rotation.from_rotvec([0.1, 0, 0]).as_quat()
    pose, other = np.array([[0, 0, 0, 0, 0, 0, 1.0]]), np.array([[0.3, 0.4, 0, *turn]])
    error = pose_error(pose, other)
    assert (error.position_m, error.rotation_rad) == pytest.approx((0.5, 0.1))
    assert pose_error(pose, -pose).rotation_rad == 0

"""Controllers of old and new robomimic files become those of robosuite 1.5."""

import pytest

from diffusion_policy.env.robomimic.controller_configs import OSC_POSE, composite_configs

OLD = {"type": "OSC_POSE", "kp": 100, "damping": 2, "damping_limits": [1, 5], "control_delta": True}
NEW_ARM = {
    "type": "OSC_POSE",
    "kp": 100,
    "damping_ratio": 2,
    "input_type": "delta",
    "gripper": {"type": "GRIP"},
}
NEW = {"type": "BASIC", "body_parts": {"right": NEW_ARM}}


def arms(configs, n_arms=1, absolute=False):
    composites = composite_configs(configs, n_arms, absolute)
    assert all(config["type"] == "BASIC" for config in composites)
    return [config["body_parts"]["right"] for config in composites]


def test_old_names_and_frame():
    (arm,) = arms(OLD)
    assert arm["damping_ratio"] == 2
    assert arm["damping_ratio_limits"] == [1, 5]
    assert (arm["kp"], arm["input_type"], arm["input_ref_frame"]) == (100, "delta", "world")
    assert arm["gripper"] == {"type": "GRIP"}
    assert not {"damping", "damping_limits", "control_delta"} & set(arm)


@pytest.mark.parametrize("config", [NEW, {"type": "BASIC", "body_parts": {"arms": {"right": NEW_ARM}}}])
def test_new_ones_keep_their_frame(config):
    (arm,) = arms(config)
    assert (arm["damping_ratio"], arm["input_ref_frame"]) == (2, "base")
    config = {"body_parts": {"right": {**NEW_ARM, "input_ref_frame": "world"}}}
    assert arms(config)[0]["input_ref_frame"] == "world"


@pytest.mark.parametrize("config", [None, OLD, NEW])
def test_poses(config):
    assert [arm["input_type"] for arm in arms(config, absolute=True)] == ["absolute"]


def test_two_arms():
    assert arms(OLD, 2) == arms([OLD, OLD], 2)
    assert arms(None, 2) == [OSC_POSE, OSC_POSE]
    with pytest.raises(ValueError, match="1 entries; expected one for each of 2 robots"):
        arms([OLD], 2)


def test_arguments_are_not_changed():
    before = {**OLD}
    arms(OLD, absolute=True)[0]["kp"] = 1
    assert before == OLD


@pytest.mark.parametrize(
    "config",
    [{**OLD, "control_delta": False}, {"body_parts": {"right": {**NEW_ARM, "input_type": "absolute"}}}],
)
def test_recorded_poses_are_not_taken_for_changes(config):
    with pytest.raises(ValueError, match="abs_action=True"):
        arms(config)
    assert arms(config, absolute=True)[0]["input_type"] == "absolute"


@pytest.mark.parametrize(
    "config",
    [{"type": "JOINT_VELOCITY"}, {**OLD, "impedance_mode": "variable"}, {"body_parts": {"left": NEW_ARM}}],
)
def test_other_controllers(config):
    with pytest.raises(ValueError, match="OSC_POSE with impedance_mode 'fixed'"):
        arms(config)

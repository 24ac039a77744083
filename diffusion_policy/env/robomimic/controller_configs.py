"""The arm controllers that robomimic's files name, as robosuite 1.5 wants them.

robosuite 1.0 to 1.4 described one controller per arm, flat. Since 1.5 a robot has a composite controller whose body
parts have one each, and some words are others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

# The operational-space controller of all of robomimic's human demonstrations: 5 cm and 0.5 rad per unit of action.
OSC_POSE: dict[str, Any] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping_ratio": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_ratio_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "input_type": "delta",
    "input_ref_frame": "world",
    "interpolation": None,
    "ramp_ratio": 0.2,
    "gripper": {"type": "GRIP"},
}
RENAMED = {"damping": "damping_ratio", "damping_limits": "damping_ratio_limits"}  # before 1.4 -> since
FRAME_BEFORE_1_5, FRAME_SINCE_1_5 = "world", "base"  # of targets, where a file does not say


def composite_configs(configs: Any, n_arms: int, absolute: bool) -> list[dict[str, Any]]:
    """Controllers for robosuite 1.5, one for each single-armed robot.

    Args:
        configs: `controller_configs` of a file's `env_kwargs`: a flat or a composite one for all robots, or a list
            with one for each; None is the controller of robomimic's human demonstrations.
        n_arms: Number of robots.
        absolute: Whether actions are to be poses, as position and axis-angle of the grip site in the frame of the
            controller; else they are changes of the pose, scaled to [-1, 1].

    Raises:
        ValueError: other controllers than OSC_POSE with fixed gains, or not one for each robot; or the file's
            actions are poses, and poses are not asked for.
    """
    each = list(configs) if isinstance(configs, Sequence) else [configs] * n_arms
    if len(each) != n_arms:
        raise ValueError(
            f"controller_configs has {len(each)} entries; expected one for each of {n_arms} robots"
        )
    return [_composite(OSC_POSE if config is None else config, absolute) for config in each]


def _composite(config: Mapping[str, Any], absolute: bool) -> dict[str, Any]:
    arm = _arm(config)
    if not absolute and arm["input_type"] == "absolute":
        raise ValueError("the file's env_args say that its actions are poses; choose abs_action=True")
    arm["input_type"] = "absolute" if absolute else "delta"
    return {"type": "BASIC", "body_parts": {"right": arm}}  # the one arm of a single-armed robot


def _arm(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arm's part of a composite controller, from a composite or a flat one."""
    if "body_parts" in config:
        parts = {**config["body_parts"], **config["body_parts"].get("arms", {})}
        arm, frame = dict(parts.get("right", {})), FRAME_SINCE_1_5
    else:
        arm, frame = {RENAMED.get(name, name): value for name, value in config.items()}, FRAME_BEFORE_1_5
    if arm.get("type") != "OSC_POSE" or arm.get("impedance_mode", "fixed") != "fixed":
        raise ValueError(
            f"controller_configs holds {dict(config)}; robomimic's tasks know OSC_POSE with impedance_mode 'fixed'"
        )
    is_delta = arm.pop("control_delta", arm.get("input_type", "delta") == "delta")
    return {
        **OSC_POSE,
        "input_ref_frame": frame,
        **arm,
        "input_type": "delta" if is_delta else "absolute",
    }

"""Whether a task's demonstrations and its environment speak of the same things."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.env_runner.episode_env import Observation

log = logging.getLogger(__name__)

Bounds = tuple[NDArray[Any], NDArray[Any]]  # least and greatest value of every number of an action
ROUNDING = 1e-4  # of the bounds' distance


def check_observation(observation: Observation, shape_meta: Mapping[str, Any]) -> None:
    """See that an environment shows what the policy is to see.

    Args:
        observation: `{key: (To, ...)}` of the environment.
        shape_meta: of the task.

    Raises:
        ValueError: a key is missing, or has another shape.
    """
    for key, meta in shape_meta["obs"].items():
        expected = tuple(meta["shape"])
        if key not in observation:
            raise ValueError(
                f"the environment's observation has no '{key}', which shape_meta names; it has {list(observation)}. "
                f"Mend the environment, or task.shape_meta"
            )
        shape = observation[key].shape[1:]
        if shape != expected:
            raise ValueError(
                f"the environment's observation '{key}' has shape {shape}, but shape_meta says {expected}; mend the "
                f"environment, or task.shape_meta"
            )


def check_actions(bounds: Bounds, recorded: Bounds) -> None:
    """See that an environment takes actions of the recorded size; warn where they lie outside its action space.

    Args:
        bounds: of the environment's action space, (Da,) each.
        recorded: of all demonstrations.

    Raises:
        ValueError: the sizes differ.
    """
    (low, high), (least, greatest) = bounds, recorded
    if low.shape != least.shape:
        raise ValueError(
            f"the environment takes actions of shape {low.shape}, but the recorded ones have {least.shape}; mend the "
            f"environment, or the action of task.shape_meta"
        )
    tolerance = ROUNDING * np.where(np.isfinite(high - low), high - low, 1)
    outside = np.flatnonzero((least < low - tolerance) | (greatest > high + tolerance))
    if len(outside):
        i = int(outside[0])
        log.warning(
            "recorded actions lie outside the environment's action space in %d of %d dimensions: dimension %d is "
            "recorded in [%g, %g], and the space is [%g, %g]. Are units or the kind of action (position, velocity) "
            "the same?",
            *(len(outside), len(low), i, least[i], greatest[i], low[i], high[i]),
        )

"""Checks of what a policy is given to act on."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def checked_obs(
    obs: Mapping[str, Tensor], shape_meta: Mapping[str, Any], n_obs_steps: int
) -> dict[str, Tensor]:
    """Check the observations that a policy was given and take what it reads of them.

    Args:
        obs: `{key: (B, >=To, *shape)}`; keys that `shape_meta` does not name are left out.
        shape_meta: names and shapes, as in `BasePolicy`.
        n_obs_steps: To.

    Returns:
        `{key: (B, To, *shape)}`, the first To steps, in the order of `shape_meta`.

    Raises:
        ValueError: a key is missing, has another shape, too few steps or another number of rows than the key
            before, or holds NaN or infinity; names the key.
    """
    checked: dict[str, Tensor] = {}
    for key, meta in shape_meta["obs"].items():
        if key not in obs:
            raise ValueError(f"obs has no {key!r}: got {list(obs)}, needs {list(shape_meta['obs'])}")
        values, shape = torch.as_tensor(obs[key]), tuple(meta["shape"])
        if values.ndim != 2 + len(shape) or values.shape[2:] != shape or values.shape[1] < n_obs_steps:
            wanted = ", ".join(["B", f">={n_obs_steps} steps", *map(str, shape)])
            raise ValueError(
                f"obs[{key!r}] must have shape ({wanted}), got {tuple(values.shape)}: observe as in the task that "
                "the policy was trained on"
            )
        checked[key] = values[:, :n_obs_steps]
        n_rows = len(next(iter(checked.values())))
        if len(values) != n_rows:
            raise ValueError(f"obs[{key!r}] has {len(values)} rows, but {next(iter(checked))!r} has {n_rows}")
        if not torch.isfinite(checked[key].sum()):  # the sum alone tells, and costs one pass
            raise ValueError(
                f"obs[{key!r}] holds NaN or infinity: check the sensor, and do not act on this observation"
            )
    return checked

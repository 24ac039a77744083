"""Checks of what a policy is given to act on."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

BRIGHTEST = 1.001  # 1, and what rounding adds


def checked_obs(
    obs: Mapping[str, Tensor], shape_meta: Mapping[str, Any], n_obs_steps: int
) -> dict[str, Tensor]:
    """Check the observations that a policy was given and take what it reads of them.

    Args:
        obs: `{key: (B, >=To, *shape)}`; keys that `shape_meta` does not name are left out. Images may also be
            uint8, and then channels may come last.
        shape_meta: names and shapes, as in `BasePolicy`.
        n_obs_steps: To.

    Returns:
        `{key: (B, To, *shape)}`, the first To steps, in the order of `shape_meta`; images are float32 in [0, 1].

    Raises:
        ValueError: a key is missing, has another shape, too few steps or another number of rows than the key
            before, or holds NaN or infinity; names the key.
    """
    checked: dict[str, Tensor] = {}
    for key, meta in shape_meta["obs"].items():
        if key not in obs:
            raise ValueError(f"obs has no {key!r}: got {list(obs)}, needs {list(shape_meta['obs'])}")
        values, shape = torch.as_tensor(obs[key]), tuple(meta["shape"])
        if meta.get("type", "low_dim") == "rgb":
            values = float_images(key, values, shape)
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


def float_images(key: str, images: Tensor, shape: Sequence[int]) -> Tensor:
    """Images (..., C, H, W) as float32 in [0, 1], of `shape` (C, H, W); uint8 ones may be (..., H, W, C).

    Raises:
        ValueError: they are floats above 1, as colours of 0 to 255 are.
    """
    if images.dtype == torch.uint8:
        if tuple(images.shape[-3:]) == (*shape[1:], shape[0]) != tuple(shape):
            images = images.movedim(-1, -3)
        return images.to(torch.float32) / 255
    if images.numel() and images.max() > BRIGHTEST:
        raise ValueError(
            f"obs[{key!r}] must have colours in [0, 1], got up to {images.max():g}: give uint8, or divide by 255"
        )
    return images

"""Where episodes in the kitchen start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.common.kitchen import N_POSITIONS, N_VELOCITIES

FILES = {"all_init_qpos.npy": N_POSITIONS, "all_init_qvel.npy": N_VELOCITIES}


class Start(NamedTuple):
    """Positions (30,) and velocities (29,) of robot and objects."""

    qpos: NDArray[np.float64]
    qvel: NDArray[np.float64]


# The original's: the arm before the kitchen, all closed and off, as its demonstrations begin.
# fmt: off
START = Start(
    qpos=np.array([
        1.48388023e-01, -1.76848573e00, 1.84390296e00, -2.47685760e00, 2.60252026e-01, 7.12533105e-01,
        1.59515394e00, 4.79267505e-02, 3.71350919e-02, -2.66279850e-04, -5.18043486e-05, 3.12877220e-05,
        -4.51199853e-05, -3.90842156e-06, -4.22629655e-05, 6.28065475e-05, 4.04984708e-05, 4.62730939e-04,
        -2.26906415e-04, -4.65501369e-04, -6.44129196e-03, -1.77048263e-03, 1.08009684e-03, -2.69397440e-01,
        3.50383255e-01, 1.61944683e00, 1.00618764e00, 4.06395120e-03, -6.62095997e-03, -2.68278933e-04,
    ]),
    qvel=np.zeros(N_VELOCITIES),
)
# fmt: on


def checked_state(options: Mapping[str, Any]) -> Start:
    """The state that the options of `reset` give.

    Raises:
        ValueError: there are other options, no `qpos`, or values that cannot be used.
    """
    if unknown := set(options) - {"qpos", "qvel"}:
        raise ValueError(f"options has unknown keys {sorted(unknown)}; allowed are 'qpos' and 'qvel'")
    if "qpos" not in options:
        raise ValueError("options has 'qvel' but no 'qpos'; give both, or 'qpos' alone to start at rest")
    qvel = options.get("qvel", np.zeros(N_VELOCITIES))
    return Start(_checked("qpos", options["qpos"], N_POSITIONS), _checked("qvel", qvel, N_VELOCITIES))


def read_starts(folder: Path) -> list[Start]:
    """The starts that come with the original's demonstrations.

    Args:
        folder: with `all_init_qpos.npy` (E, 30) and `all_init_qvel.npy` (E, 29).

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: they hold something else.
    """
    qpos, qvel = (_read(folder.expanduser() / name, width) for name, width in FILES.items())
    if len(qpos) != len(qvel) or len(qpos) == 0:
        raise ValueError(
            f"{folder}: {' and '.join(FILES)} have {len(qpos)} and {len(qvel)} rows; expected as many"
        )
    return [Start(*pair) for pair in zip(qpos, qvel, strict=True)]


def _read(path: Path, width: int) -> NDArray[np.float64]:
    if not path.is_file():
        raise FileNotFoundError(f"starts: no {path}; give the folder that holds {' and '.join(FILES)}")
    rows = np.load(path, allow_pickle=False).astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] != width or not np.isfinite(rows).all():
        raise ValueError(
            f"{path} must hold finite numbers (E, {width}), got shape {rows.shape}; fetch it again"
        )
    return rows


def _checked(name: str, value: Any, length: int) -> NDArray[np.float64]:
    values = np.array(value, dtype=np.float64)
    if values.shape != (length,):
        raise ValueError(f'options["{name}"] has shape {values.shape}; expected ({length},)')
    if not np.isfinite(values).all():
        raise ValueError(f'options["{name}"] is {values}; expected finite numbers')
    return values

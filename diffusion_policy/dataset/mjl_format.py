"""Logs of teleoperation in MuJoCo HAPTIX (`.mjl`), as Relay Policy Learning published them for the kitchen.

Little-endian: seven int32 (nq, nv, nu, nmocap, nsensordata, nuserdata, length of the name), the name, then records of
`1 + nq + nv + nu + 7 nmocap + nsensordata + nuserdata` float32, one per 2 ms of the simulation: time, positions,
velocities, controls, positions and quaternions of mocap bodies, sensors, user data.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

N_HEADER = 7
_FLOAT, _INT = np.dtype("<f4"), np.dtype("<i4")
LONGEST_NAME = 1000  # and most numbers of a kind: what is more is no log


class MjlLog(NamedTuple):
    """What a log says of the steps kept, (L, ...) float32."""

    time: NDArray[np.float32]  # (L,) s
    qpos: NDArray[np.float32]  # (L, nq)
    qvel: NDArray[np.float32]  # (L, nv)
    ctrl: NDArray[np.float32]  # (L, nu)


def read_mjl(path: Path, every: int) -> MjlLog:
    """Read one log.

    Args:
        path: The file.
        every: Keep the first of so many steps.

    Raises:
        ValueError: it is cut off, or no such log.
    """
    content = path.read_bytes()
    if len(content) < N_HEADER * _INT.itemsize:
        raise ValueError(f"{path} has {len(content)} bytes, less than the header of a log; fetch it again")
    header = np.frombuffer(content, _INT, N_HEADER)
    nq, nv, nu, n_mocap, n_sensors, n_user, name_length = (int(size) for size in header)
    if min(header) < 0 or max(header) > LONGEST_NAME or min(nq, nv, nu) == 0:
        raise ValueError(f"{path} is no .mjl log: it begins with the sizes {header.tolist()}; fetch it again")
    width = 1 + nq + nv + nu + 7 * n_mocap + n_sensors + n_user
    body = content[header.nbytes + name_length :]
    if not body or len(body) % (width * _FLOAT.itemsize):
        raise ValueError(
            f"{path} is cut off or damaged: {len(body)} bytes follow its header, no multiple of the "
            f"{width * _FLOAT.itemsize} that a step takes; fetch it again"
        )
    steps = np.frombuffer(body, _FLOAT).reshape(-1, width)[::every]
    ends = np.cumsum([1, nq, nv, nu])
    time, qpos, qvel, ctrl, _ = np.split(steps, ends, axis=1)
    return MjlLog(time[:, 0], qpos, qvel, ctrl)

"""What the Franka Kitchen and demonstrations of it agree on: the order of joints, their noise and their limits."""

import numpy as np
from numpy.typing import NDArray

N_JOINTS = 9  # of the robot: seven of the arm (rad), two of the fingers (m)
N_ARM_JOINTS = 7
N_POSITIONS = 30  # N_JOINTS, then 21 of knobs, burners, switch, cabinets, microwave and kettle
N_VELOCITIES = 29  # the kettle turns by a quaternion
STEP_S = 0.08  # 12.5 Hz

UNIT_SPEED = 2.0  # rad/s (fingers: m/s) of an action of 1
MOST_SPEED = 10.0  # of absolute actions
JOINT_LOW = np.array([-2.9, -1.8, -2.9, -3.1, -2.9, 0, -2.9, 0, 0])
JOINT_HIGH = np.array([2.9, 1.8, 2.9, 0, 2.9, 3.8, 2.9, 0.04, 0.04])

# Of readings, rad or m; what belongs to what is the original's assignment, by the number of the position.
NOISE_AMPLITUDE = np.repeat(
    [0.1, 0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [N_JOINTS, 2, 6, 3, 3, 3, 3, 1]
)


def noisy(positions: NDArray, ratio: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Positions (..., 30) as they are read: with uniform noise of `ratio` times their amplitudes."""
    noise = generator.uniform(-1.0, 1.0, positions.shape)
    return positions + ratio * NOISE_AMPLITUDE * noise


def velocities(actions: NDArray) -> NDArray[np.float64]:
    """Joint velocities (..., 9) in rad/s (fingers: m/s) of velocity actions (..., 9) in [-1, 1]."""
    return UNIT_SPEED * np.clip(actions, -1.0, 1.0)


def targets(joints: NDArray, velocities: NDArray) -> NDArray[np.float64]:
    """Joint positions to go to within a step, (..., 9).

    Args:
        joints: where they were last read to be, (..., 9).
        velocities: (..., 9) in rad/s (fingers: m/s), limited to 10.
    """
    moved = joints + STEP_S * np.clip(velocities, -MOST_SPEED, MOST_SPEED)
    return np.clip(moved, JOINT_LOW, JOINT_HIGH)

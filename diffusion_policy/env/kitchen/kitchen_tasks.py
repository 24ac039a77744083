"""The seven tasks of the kitchen, and when one is done."""

import numpy as np
from numpy.typing import NDArray

DISTANCE = 0.3  # closer than this to its goal a task is done

# Task -> the positions that matter, and where they should be (rad or m).
TASKS: dict[str, tuple[slice, NDArray[np.float64]]] = {
    "bottom burner": (slice(11, 13), np.array([-0.88, -0.01])),
    "top burner": (slice(15, 17), np.array([-0.92, -0.01])),
    "light switch": (slice(17, 19), np.array([-0.69, -0.05])),
    "slide cabinet": (slice(19, 20), np.array([0.37])),
    "hinge cabinet": (slice(20, 22), np.array([0.0, 1.45])),
    "microwave": (slice(22, 23), np.array([-0.75])),
    "kettle": (slice(23, 30), np.array([-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06])),
}


def distances(positions: NDArray) -> dict[str, float]:
    """How far each task is from its goal in positions (30,): Euclidean, of rad and m alike."""
    return {task: float(np.linalg.norm(positions[rows] - goal)) for task, (rows, goal) in TASKS.items()}


def done_tasks(positions: NDArray) -> set[str]:
    """The tasks that are done in positions (30,)."""
    return {task for task, distance in distances(positions).items() if distance < DISTANCE}

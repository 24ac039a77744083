"""When tasks are done."""

import numpy as np
import pytest

from diffusion_policy.env.kitchen.kitchen_starts import START
from diffusion_policy.env.kitchen.kitchen_tasks import TASKS, distances, done_tasks

# The published environment's index sets and goals.
INDICES = {
    "bottom burner": [11, 12],
    "top burner": [15, 16],
    "light switch": [17, 18],
    "slide cabinet": [19],
    "hinge cabinet": [20, 21],
    "microwave": [22],
    "kettle": [23, 24, 25, 26, 27, 28, 29],
}
GOALS = {
    "bottom burner": [-0.88, -0.01],
    "top burner": [-0.92, -0.01],
    "light switch": [-0.69, -0.05],
    "slide cabinet": [0.37],
    "hinge cabinet": [0.0, 1.45],
    "microwave": [-0.75],
    "kettle": [-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06],
}


def with_done(*tasks: str, distance: float = 0.0) -> np.ndarray:
    """The start with some tasks at a distance from their goals, along all of their positions."""
    positions = START.qpos.copy()
    for task in tasks:
        positions[INDICES[task]] = np.array(GOALS[task]) + distance / np.sqrt(len(GOALS[task]))
    return positions


def test_the_tasks():
    assert list(TASKS) == list(GOALS)


def test_at_the_start_none_is_done():
    assert done_tasks(START.qpos) == set()


@pytest.mark.parametrize("task", GOALS)
def test_a_task_is_done_closer_than_its_bound(task):
    assert done_tasks(with_done(task, distance=0.2999)) == {task}
    assert done_tasks(with_done(task, distance=0.3001)) == set()
    assert distances(with_done(task, distance=0.25))[task] == pytest.approx(0.25)


def test_all_may_be_done():
    assert done_tasks(with_done(*GOALS)) == set(GOALS)

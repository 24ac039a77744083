"""Demonstrations with a law that a tiny network learns in seconds, and faults planted into them.

A pusher circles a block, told where to go a tenth of a second ahead; its position follows the action with a lag of
its own, as Push-T's does. In the layout of the human Push-T demonstrations.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.workspace.train_workspace import train
from tests.tiny_run import tiny_config

Episode = dict[str, NDArray[np.float32]]
Fault = Callable[[list[Episode]], list[Episode]]

TRAINING = (
    "model.down_dims=[32,64]",
    "model.kernel_size=3",
    "model.diffusion_step_embed_dim=32",
    "sampler.steps=8",
    "dataloader.batch_size=64",
    "dataloader.batches_per_epoch=150",
    "training.num_epochs=2",
    "training.lr_warmup_steps=10",
    "optimizer.lr=2e-3",
    "ema.power=0.6",
    "training.sample_every=null",
)


def episodes(n_episodes: int = 20, length: int = 60) -> list[Episode]:
    """Healthy demonstrations."""
    random = np.random.default_rng(0)
    return [_episode(random, length) for _ in range(n_episodes)]


def _episode(random: np.random.Generator, length: int) -> Episode:
    block = random.uniform(180, 330, 2)
    drift = random.normal(0, 0.4, 2)
    agent = block + 120 * _direction(random.uniform(0, 2 * np.pi))
    wobble = np.zeros(2)
    states, actions = [], []
    for _ in range(length):
        wobble = 0.7 * wobble + random.normal(0, 3, 2)
        angle = np.arctan2(*(agent - block)[::-1]) + 0.25
        action = block + 110 * _direction(angle) + wobble
        states.append(np.concatenate([agent, block, [0]]))
        actions.append(action)
        agent = agent + 0.6 * (action - agent)
        block = block + drift
    state = np.array(states)
    corners = np.linspace(-30, 30, 18).reshape(9, 2)
    keypoint = state[:, None, 2:4] + corners  # (length, 9, 2)
    arrays = {"state": state, "keypoint": keypoint, "action": np.array(actions)}
    return {key: values.astype(np.float32) for key, values in arrays.items()}


def _direction(angle: float) -> NDArray[np.float64]:
    return np.array([np.cos(angle), np.sin(angle)])


def observations_shuffled(healthy: list[Episode]) -> list[Episode]:
    """The observations of each episode's steps in random order; the actions in place."""
    random = np.random.default_rng(1)
    faulty = []
    for episode in healthy:
        order = random.permutation(len(episode["action"]))
        faulty.append({**episode, "state": episode["state"][order], "keypoint": episode["keypoint"][order]})
    return faulty


def action_one_step_late(healthy: list[Episode]) -> list[Episode]:
    """At each step the action of the step before."""
    return [{**e, "action": np.concatenate([e["action"][:1], e["action"][:-1]])} for e in healthy]


def with_pauses(healthy: list[Episode]) -> list[Episode]:
    """Each episode waits as long as it moves before it begins, told to stay where it is."""
    faulty = []
    for episode in healthy:
        pause = {key: np.repeat(values[:1], len(values), axis=0) for key, values in episode.items()}
        pause["action"] = pause["state"][:, :2]
        faulty.append({key: np.concatenate([pause[key], episode[key]]) for key in episode})
    return faulty


def write(path: Path, content: list[Episode]) -> Path:
    """Store episodes as the human Push-T demonstrations are."""
    buffer = ReplayBuffer.create_empty_numpy()
    for episode in content:
        buffer.add_episode(episode)
    buffer.save_to_path(path)
    return path


def train_on(folder: Path, fault: Fault | None = None, *overrides: str) -> Path:
    """Train a tiny policy on (faulty) demonstrations for seconds; the data lie in `folder / data.zarr`."""
    content = episodes() if fault is None else fault(episodes())
    data = write(folder / "data.zarr", content)
    train(tiny_config(data, *TRAINING, *overrides), str(folder / "run"))
    return folder / "run"

"""Invented demonstrations without a fault: a point that follows targets."""

import numpy as np

from diffusion_policy.common.content_hash import content_hash
from diffusion_policy.common.replay_buffer import ReplayBuffer

FPS = 10.0


def reaching_episode(random: np.random.Generator, length: int = 60) -> dict[str, np.ndarray]:
    """`state` (L, 3) goes half of the way to `action` (L, 3) in every step; `camera` (L, 16, 16, 3) shows it."""
    position = random.uniform(-5, 5, 3)
    target = position + random.uniform(-0.1, 0.1, 3)
    states, actions = [], []
    for _ in range(length):
        target = target + random.normal(0, 0.05, 3)
        states.append(position)
        actions.append(target)
        position = position + 0.5 * (target - position)
    state = np.array(states, np.float32)
    pixels = np.linspace(0, 1, 16)[:, None, None] + state[:, None, None, :]  # (L, 16, 1, 3)
    wave = 127.5 + 127 * np.sin(3 * pixels)
    camera = np.broadcast_to(wave, (length, 16, 16, 3)).astype(np.uint8)
    return {"state": state, "action": np.array(actions, np.float32), "camera": camera}


def reaching_episodes(n_episodes: int = 8, length: int = 60, **more: np.ndarray) -> ReplayBuffer:
    """Episodes of a point that follows targets, and `more` arrays over all steps."""
    random = np.random.default_rng(3)
    episodes = [reaching_episode(random, length) for _ in range(n_episodes)]
    arrays = {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
    return buffer_of(arrays | more, [length] * n_episodes)


def buffer_of(arrays: dict[str, np.ndarray], lengths: list[int]) -> ReplayBuffer:
    """A buffer of arrays over all steps, at 10 Hz."""
    buffer = ReplayBuffer.create_empty_numpy()
    for end, length in zip(np.cumsum(lengths), lengths, strict=True):
        buffer.add_episode({key: array[end - length : end] for key, array in arrays.items()})
    buffer.update_meta({"fps": FPS})
    return buffer


def hash_of(buffer: ReplayBuffer) -> str:
    return content_hash(buffer.data, buffer.episode_ends)

"""A training run of seconds: invented Push-T episodes, a tiny network, few epochs; also a script.

`python -m tests.tiny_run DATA OUTPUT [override ...]` trains; under `torchrun` with several processes.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from diffusion_policy.common.replay_buffer import ReplayBuffer

OVERRIDES = (
    "horizon=8",
    "n_action_steps=4",
    "model.down_dims=[16,32]",
    "model.kernel_size=5",
    "model.diffusion_step_embed_dim=16",
    "sampler.steps=2",
    "dataloader.batch_size=16",
    "dataloader.batches_per_epoch=null",
    "task.dataset.val_ratio=0.2",
    "task.env_runner.max_steps=8",
    "training.device=cpu",
    "training.n_threads=1",
    "training.num_epochs=4",
    "training.lr_warmup_steps=3",
    "training.checkpoint_every=1",
    "training.rollout_every=null",
    "training.n_rollouts=2",
)


def write_episodes(path: Path, n_episodes: int = 5, length: int = 20, images: bool = False) -> Path:
    """Write random walks in the layout of the human Push-T demonstrations, `images` of noise if asked for."""
    random = np.random.default_rng(0)
    buffer = ReplayBuffer.create_empty_numpy()
    for _ in range(n_episodes):
        walk = 256 + np.cumsum(random.normal(0, 8, (length, 2)), axis=0)
        state = np.concatenate([walk, random.uniform(100, 400, (length, 3))], axis=1)
        keypoint = random.uniform(50, 450, (length, 9, 2))
        episode = {"state": state, "keypoint": keypoint, "action": walk + random.normal(0, 4, (length, 2))}
        arrays = {key: value.astype(np.float32) for key, value in episode.items()}
        if images:
            arrays["img"] = random.integers(0, 256, (length, 96, 96, 3), np.uint8)
        buffer.add_episode(arrays)
    buffer.save_to_path(path)
    return path


def tiny_config(data: Path, *overrides: str) -> dict[str, Any]:
    """The resolved configuration of `python train.py` with tiny sizes and `overrides`."""
    with initialize_config_module("diffusion_policy.config", version_base="1.3"):
        config = compose("train", [f"task.dataset.path={data}", *OVERRIDES, *overrides])
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


if __name__ == "__main__":
    from diffusion_policy.workspace.train_workspace import train

    train(tiny_config(Path(sys.argv[1]), *sys.argv[3:]), sys.argv[2])

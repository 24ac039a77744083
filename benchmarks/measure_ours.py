"""Measures of this implementation; `bench.py` runs them, each in a process of its own."""

import copy
from functools import cache
from typing import Any

import measuring
import numpy as np
import torch
from hydra import compose, initialize_config_module
from measuring import Network, Sampler, Work
from omegaconf import OmegaConf

from diffusion_policy.common.epoch_batches import EpochBatches
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.env.pusht.pusht_keypoints_env import PushTKeypointsEnv
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy

DDIM = Sampler("ddim", 16)


class Ours:
    """What the training loop and the rollouts call, with the data at `data`."""

    def __init__(self, data: str) -> None:
        self.data = data

    def windows(self, network: Network, obs_steps: int, batch_size: int) -> Work:
        dataset = self.dataset(network)
        batches = EpochBatches(len(dataset), batch_size, seed=0)

        def epoch() -> None:
            for rows in batches.epoch(0):
                dataset.batch(rows, obs_steps)

        return Work(epoch, amount=len(dataset))

    def env_steps(self, actions: np.ndarray) -> Work:
        env = PushTKeypointsEnv(legacy=True)

        def episode() -> None:
            env.reset(seed=0)
            for action in actions:
                env.step(action)

        return Work(episode, amount=len(actions))

    def training(self, network: Network) -> Work:
        policy = self.policy(network, DDIM)
        config = self.config(network, DDIM)
        optimizer = instantiate(config["optimizer"])(policy.param_groups())
        average = instantiate(config["ema"], model=copy.deepcopy(policy))
        batch = self.dataset(network).batch(np.arange(network.batch_size), policy.n_train_obs_steps)

        def step() -> None:
            loss, _ = policy(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            average.step(policy)
            loss.item()

        return Work(step)

    def prediction(self, network: Network, sampler: Sampler, batch_size: int) -> Work:
        policy = self.policy(network, sampler).eval()
        obs = self.dataset(network).batch(np.arange(batch_size), measuring.N_OBS_STEPS)["obs"]

        def predict() -> None:
            with torch.inference_mode():
                policy.predict_action(obs)

        return Work(predict)

    @cache  # noqa: B019  one object per process
    def dataset(self, network: Network) -> SequenceDataset:
        return instantiate(self.config(network, DDIM)["task"]["dataset"])

    def policy(self, network: Network, sampler: Sampler) -> DiffusionPolicy:
        policy = instantiate(self.config(network, sampler)["policy"])
        policy.fit(self.dataset(network))
        return policy

    def config(self, network: Network, sampler: Sampler) -> dict[str, Any]:
        overrides = [
            f"task.dataset.path={self.data}",
            "recipe=small",
            f"horizon={network.horizon}",
            f"model.down_dims={list(network.down_dims)}",
            f"model.kernel_size={network.kernel_size}",
            f"model.diffusion_step_embed_dim={network.step_embed_dim}",
            f"sampler={sampler.name}",
            f"sampler.steps={sampler.steps}",
        ]
        with initialize_config_module("diffusion_policy.config", version_base="1.3"):
            return OmegaConf.to_container(compose("train", overrides), resolve=True)  # type: ignore[return-value]


if __name__ == "__main__":
    chosen = measuring.options(__doc__.splitlines()[0])
    measuring.report(Ours(chosen.data), chosen)

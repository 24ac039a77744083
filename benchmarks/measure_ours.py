"""Measures of this implementation; `bench.py` runs them, each in a process of its own."""

from functools import cache
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch
from hydra import compose, initialize_config_module
from measuring import Network, seconds_each
from omegaconf import OmegaConf

from diffusion_policy.common.epoch_batches import EpochBatches
from diffusion_policy.common.instantiate import instantiate

OPTIONS = measuring.options(__doc__.splitlines()[0])


def config(network: Network, sampler: str, steps: int) -> dict[str, Any]:
    overrides = [
        f"task.dataset.path={Path(OPTIONS.data).resolve()}",
        "recipe=small",
        f"horizon={network.horizon}",
        f"model.down_dims={list(network.down_dims)}",
        f"model.kernel_size={network.kernel_size}",
        f"model.diffusion_step_embed_dim={network.step_embed_dim}",
        f"sampler={sampler}",
        f"sampler.steps={steps}",
    ]
    with initialize_config_module("diffusion_policy.config", version_base="1.3"):
        return OmegaConf.to_container(compose("train", overrides), resolve=True)  # type: ignore[return-value]


@cache
def dataset(network: Network) -> Any:
    return instantiate(config(network, "ddim", 16)["task"]["dataset"])


def policy(network: Network, sampler: str = "ddim", steps: int = 16) -> Any:
    built = instantiate(config(network, sampler, steps)["policy"])
    built.fit(dataset(network))
    return built


def windows_per_second() -> float:
    data = dataset(measuring.PAPER)
    batches = EpochBatches(len(data), batch_size=measuring.LOADING_BATCH, seed=0)

    def epoch() -> None:
        for rows in batches.epoch(0):
            data.batch(rows, measuring.N_OBS_STEPS)

    return len(data) / seconds_each(epoch, n=3)


def env_steps_per_second() -> float:
    from diffusion_policy.env.pusht.pusht_keypoints_env import PushTKeypointsEnv

    env = PushTKeypointsEnv(legacy=True)
    actions = measuring.wandering_actions(300)

    def episode() -> None:
        env.reset(seed=0)
        for action in actions:
            env.step(action)

    return len(actions) / seconds_each(episode, n=10)


def training_step(network: Network, n: int) -> float:
    from diffusion_policy.model.diffusion.ema_model import EMAModel

    trained, averaged = policy(network), policy(network)
    settings = {**config(network, "ddim", 16)["optimizer"]}
    optimizer = instantiate(settings)(trained.param_groups())
    average = EMAModel(
        averaged, update_after_step=0, inv_gamma=1.0, power=0.75, min_value=0.0, max_value=0.9999
    )
    rows = np.arange(network.batch_size)

    def step() -> None:
        loss, _ = trained(dataset(network).batch(rows, trained.n_train_obs_steps))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        average.step(trained)
        loss.item()

    return seconds_each(step, n)


def prediction(network: Network, batch: int, sampler: str, steps: int, n: int) -> float:
    sampled = policy(network, sampler, steps).eval()
    obs = {"obs": dataset(network).batch(np.arange(batch), measuring.N_OBS_STEPS)["obs"]["obs"]}

    def predict() -> None:
        with torch.inference_mode():
            sampled.predict_action(obs)

    return seconds_each(predict, n)


MEASURES: dict[str, measuring.Measure] = {
    "windows": windows_per_second,
    "env_steps": env_steps_per_second,
    "train_small": lambda: training_step(measuring.SMALL, n=20),
    "train_paper": lambda: training_step(measuring.PAPER, n=3),
    "predict_small_1": lambda: prediction(measuring.SMALL, 1, "ddim", 16, n=10),
    "predict_small_56": lambda: prediction(measuring.SMALL, 56, "ddim", 16, n=5),
    "predict_paper_1": lambda: prediction(measuring.PAPER, 1, "ddpm", 100, n=2),
    "predict_paper_56": lambda: prediction(measuring.PAPER, 56, "ddim", 16, n=1),
}

if __name__ == "__main__":
    torch.set_num_threads(OPTIONS.threads)
    measuring.run(MEASURES, OPTIONS.measure)

"""Measures of this implementation; `bench.py` runs them, each in a process of its own."""

import atexit
import copy
import shutil
import tempfile
from functools import cache
from itertools import count, islice
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch
from hydra import compose, initialize_config_module
from measuring import Network, Sampler, Work
from omegaconf import OmegaConf

from diffusion_policy.common.epoch_batches import EpochBatches
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.compat.weight_names import map_state_dict
from diffusion_policy.dataset.pusht_image_dataset import PushTImageDataset
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.env.pusht.pusht_keypoints_env import PushTKeypointsEnv
from diffusion_policy.model.vision.crop_randomizer import CropRandomizer
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy

DDIM = Sampler("ddim", 16)
SHAPE_META = {
    "obs": {
        "image": {"shape": [3, measuring.IMAGE_SIDE, measuring.IMAGE_SIDE], "type": "rgb"},
        "agent_pos": {"shape": [2]},
    },
    "action": {"shape": [2]},
}
STREAMED_EPISODES = 40


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

    def images(self, horizon: int, obs_steps: int, batch_size: int, streamed: bool) -> Work:
        path = as_jpeg(self.data) if streamed else self.data
        dataset = PushTImageDataset(
            path,
            SHAPE_META,
            horizon=horizon,
            n_obs_steps=measuring.N_OBS_STEPS,
            n_action_steps=measuring.N_ACTION_STEPS,
            image_storage="disk" if streamed else "memory",
        )
        crop = CropRandomizer((measuring.CROP_SIDE, measuring.CROP_SIDE))
        batches = EpochBatches(len(dataset), batch_size, seed=0)
        epochs = (rows for epoch in count() for rows in batches.epoch(epoch))
        loaded = dataset.batches(epochs, obs_steps)

        def load() -> None:
            for batch in islice(loaded, measuring.IMAGE_BATCHES_A_CALL):
                crop(batch["obs"]["image"])

        return Work(load, amount=measuring.IMAGE_BATCHES_A_CALL * batch_size)

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

    def compare_prediction(self, path: Path) -> str:
        """Predict as the original did, with its weights and noise; how far apart, in normalised units."""
        record = torch.load(path, weights_only=True)
        parts = []
        for (name, steps), theirs in record["action_pred"].items():
            policy = self.policy(measuring.Sizes().paper, Sampler(name, steps)).eval()
            policy.load_state_dict(map_state_dict(record["state_dict"]))
            torch.manual_seed(1)
            with torch.inference_mode():
                ours = policy.predict_action({"obs": record["obs"]})["action_pred"]
            normalize = policy.normalizer["action"].normalize
            largest = (normalize(ours) - normalize(theirs)).abs().max().item()
            parts.append(f"{largest:.1e} ({name.upper()} {steps})")
        return ", ".join(parts)

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


def as_jpeg(source: str) -> Path:
    """The first episodes at `source`, their images as JPEG 2000, in a folder that goes with the process."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    demonstrations, kept = ReplayBuffer.create_from_path(source), ReplayBuffer.create_empty_numpy()
    for index in range(min(STREAMED_EPISODES, demonstrations.n_episodes)):
        rows = demonstrations.get_episode_slice(index)
        episode = {key: demonstrations[key][rows] for key in ("img", "state", "action")}
        kept.add_episode(episode | {"img": episode["img"].astype(np.uint8)})
    kept.save_to_path(folder / "jpeg.zarr", compressors={"img": "jpeg2k"})
    return folder / "jpeg.zarr"


if __name__ == "__main__":
    chosen = measuring.options(__doc__.splitlines()[0])
    if chosen.measure == "compare_prediction":
        print(Ours(chosen.data).compare_prediction(chosen.scratch / measuring.RECORD))
    else:
        measuring.report(Ours(chosen.data), chosen)

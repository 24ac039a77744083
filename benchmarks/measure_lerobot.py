"""Measures of LeRobot, run by `bench.py` with a Python in which it is installed.

Its data are the same demonstrations, written once by its own `LeRobotDataset` as a table without video:
`observation.state` (2: the agent), `observation.environment_state` (18: the keypoints) and `action` (2). Its policy
is its `DiffusionPolicy` on these two observations, with the sizes that the other sides have.
"""

import logging
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import measuring
import numpy as np
import torch
from lerobot.configs.train import TrainPipelineConfig
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.diffusion.processor_diffusion import make_diffusion_pre_post_processors
from measuring import Network, Sampler, Work
from torch.utils.data import DataLoader

NAME, FPS = "benchmark/pusht_keypoints", 10
STATE, KEYPOINTS, ACTION = "observation.state", "observation.environment_state", "action"
WIDTHS = {STATE: 2, KEYPOINTS: measuring.OBS_DIM - 2, ACTION: measuring.ACTION_DIM}
BATCHES_A_CALL = 4
DDIM = Sampler("ddim", 16)


class LeRobot:
    """Its loader, its policy and, where gym-pusht is installed, its environment; its data lie in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def windows(self, network: Network, obs_steps: int, batch_size: int) -> Work:
        """Its loader with as many workers as its training takes by default."""
        loader = DataLoader(
            self.dataset(network, obs_steps),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=TrainPipelineConfig.num_workers,
            persistent_workers=True,
        )
        batches = (batch for _ in cycle([0]) for batch in loader)

        def load() -> None:
            for _ in islice(batches, BATCHES_A_CALL):
                pass

        return Work(load, amount=BATCHES_A_CALL * batch_size)

    def images(self, horizon: int, obs_steps: int, batch_size: int, streamed: bool) -> None:
        """Its images are PNG files or videos, another measure."""

    def env_steps(self, actions: np.ndarray) -> Work | None:
        try:
            import gym_pusht  # noqa: F401  registers the environment
        except ImportError:
            return None
        import gymnasium

        env = gymnasium.make(
            "gym_pusht/PushT-v0", obs_type="environment_state_agent_pos", disable_env_checker=True
        )

        def episode() -> None:
            env.reset(seed=0)
            for action in actions:
                env.step(action)

        return Work(episode, amount=len(actions))

    def training(self, network: Network) -> Work:
        """Its step has no average of the weights by default, and clips the gradient."""
        policy, preprocess, _ = self.policy(network, DDIM)
        settings = policy.config.get_optimizer_preset()
        optimizer = settings.build(policy.get_optim_params())
        batch = self.batch(network, network.batch_size)
        policy.train()

        def step() -> None:
            loss, _ = policy.forward(preprocess(batch))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.grad_clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            loss.item()

        return Work(step)

    def prediction(self, network: Network, sampler: Sampler, batch_size: int) -> Work:
        policy, preprocess, postprocess = self.policy(network, sampler)
        batch = self.batch(network, batch_size)
        obs = {key: batch[key] for key in (STATE, KEYPOINTS)}
        policy.eval()

        def predict() -> None:
            with torch.no_grad():
                normalised = preprocess(obs)
                postprocess(policy.diffusion.generate_actions({key: normalised[key] for key in obs}))

        return Work(predict)

    def batch(self, network: Network, size: int) -> dict[str, Any]:
        return next(iter(DataLoader(self.dataset(network), batch_size=size)))

    @cache  # noqa: B019  one object per process
    def dataset(self, network: Network, obs_steps: int = measuring.N_OBS_STEPS) -> LeRobotDataset:
        """Windows that begin To - 1 steps before a frame: `obs_steps` observations and T actions."""
        times = [(1 - measuring.N_OBS_STEPS + i) / FPS for i in range(network.horizon)]
        observed = times[:obs_steps]
        return LeRobotDataset(
            NAME, self.root, delta_timestamps={STATE: observed, KEYPOINTS: observed, ACTION: times}
        )

    def policy(self, network: Network, sampler: Sampler) -> tuple[DiffusionPolicy, Any, Any]:
        """The policy, what normalises its input and what brings its output back to pixels."""
        types = {STATE: FeatureType.STATE, KEYPOINTS: FeatureType.ENV, ACTION: FeatureType.ACTION}
        features = {key: PolicyFeature(kind, (WIDTHS[key],)) for key, kind in types.items()}
        config = DiffusionConfig(
            n_obs_steps=measuring.N_OBS_STEPS,
            horizon=16,
            n_action_steps=measuring.N_ACTION_STEPS,
            input_features={key: features[key] for key in (STATE, KEYPOINTS)},
            output_features={ACTION: features[ACTION]},
            normalization_mapping={kind.value: NormalizationMode.MIN_MAX for kind in types.values()},
            down_dims=network.down_dims,
            kernel_size=network.kernel_size,
            diffusion_step_embed_dim=network.step_embed_dim,
            noise_scheduler_type=sampler.name.upper(),
            num_inference_steps=sampler.steps,
            device="cpu",
        )
        config.horizon = network.horizon  # its check asks for multiples of 8, its U-Net for multiples of 4
        processors = make_diffusion_pre_post_processors(config, self.dataset(network).meta.stats)
        return DiffusionPolicy(config), *processors


def write_data(source: str, root: Path) -> None:
    """Write the Push-T demonstrations at `source` in LeRobot's format."""
    import zarr

    group = zarr.open_group(source, mode="r")
    keypoints = group["data/keypoint"][:].reshape(-1, WIDTHS[KEYPOINTS])
    arrays = {STATE: group["data/state"][:, :2], KEYPOINTS: keypoints, ACTION: group["data/action"][:]}
    arrays = {key: values.astype(np.float32) for key, values in arrays.items()}
    features = {key: {"dtype": "float32", "shape": (n,), "names": None} for key, n in WIDTHS.items()}
    written = LeRobotDataset.create(NAME, FPS, features, root, use_videos=False)
    ends = set(group["meta/episode_ends"][:].tolist())
    for step in range(max(ends)):
        written.add_frame({key: values[step] for key, values in arrays.items()} | {"task": "push the T"})
        if step + 1 in ends:
            written.save_episode()
    written.finalize()


if __name__ == "__main__":
    chosen = measuring.options(__doc__.splitlines()[0])
    logging.getLogger().setLevel(logging.ERROR)
    if chosen.measure == "write_data":
        write_data(chosen.data, chosen.scratch / "lerobot")
    else:
        measuring.report(LeRobot(chosen.scratch / "lerobot"), chosen)

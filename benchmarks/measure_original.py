"""Measures of the original implementation, run by `bench.py` with a Python that has its requirements."""

import copy
import importlib.util
import sys
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import measuring
import numpy as np
from measuring import Network, Sampler, Work
from train_original import replace_what_cannot_run

DDPM = Sampler("ddpm", 100)
IMAGE_WORKERS = 4  # train_diffusion_unet_image_workspace.yaml
TO_DDIM = [
    "policy.noise_scheduler._target_=diffusers.schedulers.scheduling_ddim.DDIMScheduler",
    "~policy.noise_scheduler.variance_type",
]


class Original:
    """What its training loop and its rollouts call, as its configuration for Push-T keypoints has it.

    Args:
        checkout: of real-stanford/diffusion_policy.
        data: pusht_cchi_v7_replay.zarr.
        prepare: module to import first, which may mend what today's packages lack.
    """

    def __init__(self, checkout: Path, data: Path, prepare: str | None) -> None:
        self.config_dir = str(checkout.resolve() / "diffusion_policy" / "config")
        self.data = data
        sys.path.insert(0, str(checkout.resolve()))
        if prepare:
            importlib.import_module(prepare)
        from omegaconf import OmegaConf

        OmegaConf.register_new_resolver("eval", eval, replace=True)
        replace_what_cannot_run()

    def windows(self, network: Network, obs_steps: int, batch_size: int) -> Work:
        """Its own loader with its one worker, here not started anew for every epoch; it always loads T steps."""
        from torch.utils.data import DataLoader

        dataset = self.dataset(network)
        loader = DataLoader(dataset, batch_size, shuffle=True, num_workers=1, persistent_workers=True)

        def epoch() -> None:
            for _ in loader:
                pass

        return Work(epoch, amount=len(dataset))

    def images(self, horizon: int, obs_steps: int, batch_size: int, streamed: bool) -> Work | None:
        """Its own loader with the workers of its image configuration; it loads T steps, of which it crops To."""
        if streamed:
            return None  # it streams other data sets only
        from torch.utils.data import DataLoader

        stand_in_for_torchvision()
        from diffusion_policy.dataset.pusht_image_dataset import PushTImageDataset
        from diffusion_policy.model.vision.crop_randomizer import CropRandomizer

        before, after = measuring.N_OBS_STEPS - 1, measuring.N_ACTION_STEPS - 1
        dataset = PushTImageDataset(str(self.data), horizon, pad_before=before, pad_after=after)
        shape = (3, measuring.IMAGE_SIDE, measuring.IMAGE_SIDE)
        crop = CropRandomizer(shape, measuring.CROP_SIDE, measuring.CROP_SIDE)
        loader = DataLoader(
            dataset, batch_size, shuffle=True, num_workers=IMAGE_WORKERS, persistent_workers=True
        )
        batches = (batch for _ in cycle([0]) for batch in loader)

        def load() -> None:
            for batch in islice(batches, measuring.IMAGE_BATCHES_A_CALL):
                crop.forward_in(batch["obs"]["image"][:, :obs_steps].flatten(0, 1))

        return Work(load, amount=measuring.IMAGE_BATCHES_A_CALL * batch_size)

    def env_steps(self, actions: np.ndarray) -> Work:
        collision_handlers_of_pymunk_7()
        from diffusion_policy.env.pusht.pusht_keypoints_env import PushTKeypointsEnv

        env = PushTKeypointsEnv(legacy=True, **PushTKeypointsEnv.genenerate_keypoint_manager_params())
        env.seed(0)

        def episode() -> None:
            env.reset()
            for action in actions:
                env.step(action)

        return Work(episode, amount=len(actions))

    def training(self, network: Network) -> Work:
        import hydra
        import torch

        policy = self.policy(network, DDPM)
        config = self.config(network, DDPM)
        settings = {key: value for key, value in config.optimizer.items() if key != "_target_"}
        optimizer = torch.optim.AdamW(policy.parameters(), **settings)
        average = hydra.utils.instantiate(config.ema, model=copy.deepcopy(policy))
        batch = self.batch(network, network.batch_size)

        def step() -> None:
            loss = policy.compute_loss(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            average.step(policy)
            loss.item()

        return Work(step)

    def prediction(self, network: Network, sampler: Sampler, batch_size: int) -> Work:
        import torch

        policy = self.policy(network, sampler).eval()
        obs = {"obs": self.batch(network, batch_size)["obs"][:, : measuring.N_OBS_STEPS]}

        def predict() -> None:
            with torch.no_grad():
                policy.predict_action(obs)

        return Work(predict)

    def write_prediction(self, path: Path) -> None:
        """Record what the paper's network, as initialised, predicts from one observation with given noise."""
        import torch

        sizes = measuring.Sizes()
        obs = self.batch(sizes.paper, 1)["obs"][:, : measuring.N_OBS_STEPS]
        record: dict[str, Any] = {"obs": obs, "action_pred": {}}
        for sampler in (sizes.all_steps, sizes.eight_steps):
            torch.manual_seed(0)
            policy = self.policy(sizes.paper, sampler).eval()
            torch.manual_seed(1)
            with torch.no_grad():
                record["action_pred"][sampler.name, sampler.steps] = policy.predict_action({"obs": obs})[
                    "action_pred"
                ]
        torch.save(record | {"state_dict": policy.state_dict()}, path)

    def batch(self, network: Network, size: int) -> dict[str, Any]:
        from torch.utils.data import DataLoader

        return next(iter(DataLoader(self.dataset(network), batch_size=size)))

    @cache  # noqa: B019  one object per process
    def dataset(self, network: Network) -> Any:
        import hydra

        return hydra.utils.instantiate(self.config(network, DDPM).task.dataset)

    def policy(self, network: Network, sampler: Sampler) -> Any:
        import hydra

        policy = hydra.utils.instantiate(self.config(network, sampler).policy)
        policy.set_normalizer(self.dataset(network).get_normalizer())
        return policy

    def config(self, network: Network, sampler: Sampler) -> Any:
        import hydra
        from omegaconf import OmegaConf

        overrides = [
            f"task.dataset.zarr_path={self.data.resolve()}",
            "task.dataset.max_train_episodes=null",
            f"horizon={network.horizon}",
            f"policy.model.down_dims={list(network.down_dims)}",
            f"policy.model.kernel_size={network.kernel_size}",
            f"policy.model.diffusion_step_embed_dim={network.step_embed_dim}",
            f"policy.num_inference_steps={sampler.steps}",
            *(TO_DDIM if sampler.name == "ddim" else []),
        ]
        with hydra.initialize_config_dir(self.config_dir, version_base=None):
            config = hydra.compose("train_diffusion_unet_lowdim_workspace", overrides)
        OmegaConf.resolve(config)
        return config


def stand_in_for_torchvision() -> None:
    """Its crops import torchvision, where it is absent in vain: only those of evaluation call it."""
    if importlib.util.find_spec("torchvision") is None:
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
            sys.modules[name] = ModuleType(name)
        sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
        sys.modules["torchvision.transforms"].functional = sys.modules[name]  # type: ignore[attr-defined]


def collision_handlers_of_pymunk_7() -> None:
    """`Space.add_collision_handler` was replaced by `on_collision`; its callback only counts contacts."""
    import pymunk

    if hasattr(pymunk.Space, "add_collision_handler"):
        return

    class Handler(SimpleNamespace):
        def __setattr__(self, name: str, callback: Any) -> None:
            self.space.on_collision(None, None, **{name: callback})

    def add(space: Any, *_: int) -> Handler:
        handler = Handler.__new__(Handler)
        handler.__dict__["space"] = space
        return handler

    pymunk.Space.add_collision_handler = add


if __name__ == "__main__":
    chosen = measuring.options(__doc__.splitlines()[0])
    original = Original(chosen.original, Path(chosen.data), chosen.prepare)
    if chosen.measure == "write_prediction":
        original.write_prediction(chosen.scratch / measuring.RECORD)
    else:
        measuring.report(original, chosen)

"""Measures of the original implementation, run by `bench.py` with a Python that has its requirements."""

import importlib
import sys
from functools import cache
from types import SimpleNamespace
from typing import Any

import measuring
from measuring import Network, seconds_each
from train_original import replace_what_cannot_run

OPTIONS = measuring.options(__doc__.splitlines()[0])
sys.path.insert(0, str(OPTIONS.original.resolve()))
if OPTIONS.prepare:
    importlib.import_module(OPTIONS.prepare)

import hydra  # noqa: E402  after the preparation, like all that follows
import torch  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

OmegaConf.register_new_resolver("eval", eval, replace=True)
replace_what_cannot_run()

DDIM = [
    "policy.noise_scheduler._target_=diffusers.schedulers.scheduling_ddim.DDIMScheduler",
    "~policy.noise_scheduler.variance_type",
]


@cache
def config(network: Network, sampler: str, steps: int) -> Any:
    overrides = [
        f"task.dataset.zarr_path={OPTIONS.data.resolve()}",
        "task.dataset.max_train_episodes=null",
        f"horizon={network.horizon}",
        f"policy.model.down_dims={list(network.down_dims)}",
        f"policy.model.kernel_size={network.kernel_size}",
        f"policy.model.diffusion_step_embed_dim={network.step_embed_dim}",
        f"policy.num_inference_steps={steps}",
        *(DDIM if sampler == "ddim" else []),
    ]
    directory = str(OPTIONS.original.resolve() / "diffusion_policy" / "config")
    with hydra.initialize_config_dir(directory, version_base=None):
        composed = hydra.compose("train_diffusion_unet_lowdim_workspace", overrides)
    OmegaConf.resolve(composed)
    return composed


@cache
def dataset(network: Network) -> Any:
    return hydra.utils.instantiate(config(network, "ddpm", 100).task.dataset)


def policy(network: Network, sampler: str = "ddpm", steps: int = 100) -> Any:
    built = hydra.utils.instantiate(config(network, sampler, steps).policy)
    built.set_normalizer(dataset(network).get_normalizer())
    return built


def batch(network: Network, size: int) -> dict[str, torch.Tensor]:
    return next(iter(DataLoader(dataset(network), batch_size=size)))


def windows_per_second() -> float:
    """Its own loader: one worker, as its configuration has it."""
    data = dataset(measuring.PAPER)
    loader = DataLoader(data, measuring.LOADING_BATCH, shuffle=True, num_workers=1, persistent_workers=True)

    def epoch() -> None:
        for _ in loader:
            pass

    return len(data) / seconds_each(epoch, n=3)


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


def env_steps_per_second() -> float:
    collision_handlers_of_pymunk_7()
    from diffusion_policy.env.pusht.pusht_keypoints_env import PushTKeypointsEnv

    env = PushTKeypointsEnv(legacy=True, **PushTKeypointsEnv.genenerate_keypoint_manager_params())
    env.seed(0)
    actions = measuring.wandering_actions(300)

    def episode() -> None:
        env.reset()
        for action in actions:
            env.step(action)

    return len(actions) / seconds_each(episode, n=3)


def training_step(network: Network, n: int) -> float:
    from diffusion_policy.model.diffusion.ema_model import EMAModel

    trained, averaged = policy(network), policy(network)
    settings = {k: v for k, v in config(network, "ddpm", 100).optimizer.items() if k != "_target_"}
    optimizer = torch.optim.AdamW(trained.parameters(), **settings)
    average = EMAModel(averaged, power=0.75, max_value=0.9999)
    loaded = batch(network, network.batch_size)

    def step() -> None:
        loss = trained.compute_loss(loaded)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        average.step(trained)
        loss.item()

    return seconds_each(step, n)


def prediction(network: Network, size: int, sampler: str, steps: int, n: int) -> float:
    sampled = policy(network, sampler, steps).eval()
    obs = {"obs": batch(network, size)["obs"][:, : measuring.N_OBS_STEPS]}

    def predict() -> None:
        with torch.no_grad():
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

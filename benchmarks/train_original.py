"""Train the original implementation on Push-T keypoints, to be scored beside ours.

    python benchmarks/train_original.py --original CHECKOUT --data ZARR --output state.pt [KEY=VALUE ...]
    python benchmarks/original_as_checkpoint.py state.pt RUN recipe=small ...      # then eval.py -c RUN

CHECKOUT is a checkout of real-stanford/diffusion_policy whose requirements are installed; `--prepare MODULE` imports
a module first, which may mend what today's packages lack. KEY=VALUE are overrides in the original's words. Its own
workspace trains; only the reading of the data (its calls are zarr 2's) and rollouts (none) are replaced. Saves the
state dict of its averaged policy.
"""

import argparse
import importlib
import sys
import types
from pathlib import Path
from typing import Any

OVERRIDES = [
    "task.env_runner._target_=no_rollouts.NoRollouts",
    "checkpoint.topk.k=0",
    "training.device=cpu",
    "training.val_every=1000000",
    "training.sample_every=1000000",
    "logging.mode=disabled",
    *[
        f"{loader}.{key}"
        for loader in ("dataloader", "val_dataloader")
        for key in ("num_workers=0", "pin_memory=False")
    ],
]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", type=Path, required=True, help="checkout of the original")
    parser.add_argument("--data", type=Path, required=True, help="pusht_cchi_v7_replay.zarr")
    parser.add_argument("--output", type=Path, required=True, help="file for the averaged weights")
    parser.add_argument("--prepare", help="module to import first")
    parser.add_argument("overrides", nargs="*", help="of the original's configuration")
    return parser.parse_args()


def replace_what_cannot_run() -> None:
    """Read the data with today's zarr, and roll out nothing."""
    import zarr
    from diffusion_policy.env_runner.base_lowdim_runner import BaseLowdimRunner

    from diffusion_policy.common.replay_buffer import ReplayBuffer

    def copy_from_path(cls: Any, zarr_path: str, keys: list[str], **_: Any) -> Any:
        group = zarr.open_group(zarr_path, mode="r")
        data = {key: group[f"data/{key}"][:] for key in keys}
        return cls(root={"data": data, "meta": {"episode_ends": group["meta/episode_ends"][:]}})

    class NoRollouts(BaseLowdimRunner):  # type: ignore[misc, valid-type]
        def __init__(self, output_dir: str, **_: Any):
            super().__init__(output_dir)

        def run(self, policy: Any) -> dict[str, float]:
            return {}

    ReplayBuffer.copy_from_path = classmethod(copy_from_path)
    module = types.ModuleType("no_rollouts")
    module.NoRollouts = NoRollouts  # type: ignore[attr-defined]
    sys.modules["no_rollouts"] = module


def main() -> None:
    options = parse_arguments()
    sys.path.insert(0, str(options.original.resolve()))
    if options.prepare:
        importlib.import_module(options.prepare)
    import hydra
    import torch
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("eval", eval, replace=True)
    replace_what_cannot_run()
    config_dir = str(options.original.resolve() / "diffusion_policy" / "config")
    overrides = [f"task.dataset.zarr_path={options.data.resolve()}", *OVERRIDES, *options.overrides]
    with hydra.initialize_config_dir(config_dir, version_base=None):
        config = hydra.compose("train_diffusion_unet_lowdim_workspace", overrides)
    OmegaConf.resolve(config)
    run_dir = options.output.resolve().with_suffix(".run")
    run_dir.mkdir(parents=True, exist_ok=True)
    workspace = hydra.utils.get_class(config._target_)(config, output_dir=str(run_dir))
    workspace.run()
    torch.save(workspace.ema_model.state_dict(), options.output)


if __name__ == "__main__":
    main()

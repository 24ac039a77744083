"""Turn weights that `train_original.py` saved into a run of ours, for `eval.py`.

    python benchmarks/original_as_checkpoint.py STATE RUN [override ...]

The overrides compose the configuration of an equal policy of ours; weights are renamed by `compat/original.py`.
"""

import sys
from pathlib import Path

import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from diffusion_policy.common.checkpoint import CheckpointStore
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.compat.original import map_state_dict


def main() -> None:
    state, run, *overrides = sys.argv[1:]
    with initialize_config_module("diffusion_policy.config", version_base="1.3"):
        config = OmegaConf.to_container(compose("train", overrides), resolve=True)
    weights = map_state_dict(torch.load(state, weights_only=True))
    instantiate(config["policy"]).load_state_dict(weights)  # fails here if the policies are not equal
    store = CheckpointStore(Path(run) / "checkpoints", "rollout/score")
    store.save(config["training"]["num_epochs"], config, weights, {}, {})


if __name__ == "__main__":
    main()

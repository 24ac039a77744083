"""Which sampler a checkpoint's policy acts with: its own, one of `config/sampler`, or what was tuned for it."""

from importlib import resources
from typing import Any

import yaml

from diffusion_policy.common.checkpoint import Checkpoint
from diffusion_policy.common.plain_data import read_yaml

TUNED = "tuned"
TUNED_FILE = "sampler.yaml"  # beside the weights; `diffusion-policy tune-sampler` writes it


def sampler_names() -> list[str]:
    """Names of the samplers in `config/sampler`."""
    files = resources.files("diffusion_policy.config").joinpath("sampler").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def named_sampler(name: str) -> dict[str, Any]:
    """The configuration of a sampler of `config/sampler`.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in sampler_names():
        raise ValueError(f"sampler must be one of {', '.join(sampler_names())} or {TUNED}, got {name!r}")
    folder = resources.files("diffusion_policy.config").joinpath("sampler")
    return yaml.safe_load(folder.joinpath(f"{name}.yaml").read_text())


def chosen_sampler(checkpoint: Checkpoint, name: str | None, steps: int | None) -> dict[str, Any] | None:
    """The configuration of the sampler to use in place of the checkpoint's own; None where that stays.

    Args:
        checkpoint: of the policy.
        name: of a file of `config/sampler`, or `tuned`; None is the checkpoint's own sampler.
        steps: in place of its number of steps.

    Raises:
        ValueError: there is no sampler of this name; or the policy has none, or none that takes steps.
        FileNotFoundError: `tuned`, and nothing was tuned.
    """
    if name is None and steps is None:
        return None
    policy = checkpoint.config().get("policy")
    own = policy.get("sampler") if isinstance(policy, dict) else None
    if not isinstance(own, dict):
        raise ValueError(f"{checkpoint.path}: its policy has no sampler; leave out sampler and steps")
    chosen = own if name is None else _tuned(checkpoint) if name == TUNED else named_sampler(name)
    if steps is None:
        return chosen
    if "steps" not in chosen:
        raise ValueError(
            f"steps={steps}: {chosen.get('_target_')} of {checkpoint.path} has no steps to choose; leave steps out "
            f"or choose a sampler that has"
        )
    return {**chosen, "steps": steps}


def _tuned(checkpoint: Checkpoint) -> dict[str, Any]:
    path = checkpoint.path / TUNED_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: no sampler was tuned for this checkpoint; run `diffusion-policy tune-sampler "
            f"{checkpoint.path}`"
        )
    return read_yaml(path)

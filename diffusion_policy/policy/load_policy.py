"""A trained policy from its checkpoint, without Hydra or the training code."""

import logging
from collections.abc import Sequence
from pathlib import Path

from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.common.device import resolve_device
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.policy.base_policy import BasePolicy
from diffusion_policy.policy.sampler_choice import chosen_sampler

log = logging.getLogger(__name__)


def load_policy(
    path: Path | str,
    device: str = "auto",
    *,
    sampler: str | None = None,
    steps: int | None = None,
    overrides: Sequence[str] = (),
    trusted_targets: Sequence[str] = (),
) -> BasePolicy:
    """Load a policy in eval mode.

    Args:
        path: a checkpoint's folder, or a run's folder (then its latest checkpoint).
        device: auto, cpu, cuda, cuda:1 or mps.
        sampler: with which to act: the name of a file of `config/sampler`, such as `dpm_solver`; or `tuned`, the
            choice of `diffusion-policy tune-sampler`. None is the checkpoint's own.
        steps: of the sampler, in place of its own number.
        overrides: changes of the checkpoint's configuration, such as `policy.sampler.steps=8`.
        trusted_targets: full names outside this package that the configuration may build.

    Raises:
        FileNotFoundError: there is no checkpoint at `path`, or no sampler was tuned for it.
        ValueError: the configuration or the weights are damaged, do not fit each other or are not trusted; or the
            sampler does not fit the policy, or has more steps than it was trained with.
    """
    checkpoint = find_checkpoint(path)
    config = checkpoint.config(overrides, chosen_sampler(checkpoint, sampler, steps))
    if "policy" not in config:
        raise ValueError(f"{checkpoint.path}: its config.yaml has no 'policy'; is it another program's?")
    if sampler == "consistency" and not config["policy"].get("distillation"):
        log.warning("%s was not distilled: consistency sampling of it gives poor actions", checkpoint.path)
    policy = instantiate(config["policy"], trusted_targets)
    if not isinstance(policy, BasePolicy):
        raise ValueError(
            f"{checkpoint.path}: 'policy' in its config.yaml builds no policy but a {type(policy).__name__}; take "
            f"another checkpoint"
        )
    try:
        policy.load_state_dict(checkpoint.weights())
    except RuntimeError as error:
        raise ValueError(
            f"{checkpoint.path}: its weights do not fit its configuration; leave out overrides that change sizes, or "
            f"take another checkpoint. {error}"
        ) from error
    return policy.to(resolve_device(device)).eval()

"""Roll a checkpoint's policy out on fixed seeds and keep what is needed to compare it: `eval.py`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.common.evaluation_seeds import TEST_SEEDS
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.common.provenance import provenance
from diffusion_policy.env_runner.report import RolloutResult
from diffusion_policy.policy.load_policy import load_policy


def evaluate(
    path: Path | str,
    output_dir: Path | str,
    *,
    seeds: Sequence[int] = TEST_SEEDS,
    device: str = "auto",
    n_videos: int = 0,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    trusted_targets: Sequence[str] = (),
) -> RolloutResult:
    """Score a checkpoint and write `eval_log.json`, `episodes.json` and videos below `media/`.

    Args:
        path: a checkpoint's folder, or a run's folder (then its latest checkpoint).
        output_dir: where to write; created if need be.
        seeds: of the environment, one per episode.
        device: of the policy.
        n_videos: record the first that many episodes.
        overwrite: replace an earlier evaluation in `output_dir`.
        overrides: changes of the checkpoint's configuration, such as `policy.sampler.steps=8`.
        trusted_targets: full names outside this package that the configuration may build.

    Raises:
        FileExistsError: when `output_dir` holds an evaluation and `overwrite` is false.
        ValueError: an override would have no effect on the evaluation.
    """
    output_dir = Path(output_dir)
    log_path = output_dir / "eval_log.json"
    if log_path.exists() and not overwrite:
        raise FileExistsError(f"{log_path} exists: choose another --output_dir, or add --overwrite")
    output_dir.mkdir(parents=True, exist_ok=True)

    _check_overrides(overrides)
    checkpoint = find_checkpoint(path)
    policy = load_policy(checkpoint.path, device, overrides=overrides, trusted_targets=trusted_targets)
    runner_config = checkpoint.config(overrides)["task"]["env_runner"]
    runner = instantiate(runner_config, trusted_targets, seeds=list(seeds), n_videos=n_videos)
    result = runner.run(policy, output_dir)

    atomic_write_text(output_dir / "episodes.json", result.to_json())
    log: dict[str, Any] = {
        "checkpoint": str(checkpoint.path),
        "overrides": list(overrides),
        "n_seeds": len(seeds),
        "first_seed": seeds[0],
        "metrics": {name: estimate._asdict() for name, estimate in result.metrics().items()},
        "wall_time_s": result.wall_time_s,
        "n_envs": runner.n_envs,
        "env_runner": runner_config,
        "provenance": provenance(policy.device),
    }
    atomic_write_text(log_path, json.dumps(log, indent=2))
    return result


def _check_overrides(overrides: Sequence[str]) -> None:
    """A checkpoint's configuration is resolved: only these two parts of it are built here."""
    without_effect = [o for o in overrides if not o.startswith(("policy.", "task.env_runner."))]
    if without_effect:
        raise ValueError(
            f"overrides {without_effect} would have no effect: an evaluation reads policy.* and task.env_runner.*, "
            f"as in policy.sampler.steps=8 or task.env_runner.n_envs=20"
        )

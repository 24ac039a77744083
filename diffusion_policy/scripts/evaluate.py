"""Roll a checkpoint's policy out on fixed seeds and keep what is needed to compare it: `eval.py`."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from diffusion_policy.common.atomic_write import atomic_write_text, make_writable
from diffusion_policy.common.checkpoint import Checkpoint, find_checkpoint
from diffusion_policy.common.evaluation_seeds import TEST_SEEDS
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.common.provenance import provenance
from diffusion_policy.env_runner.report import RolloutResult
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.policy.sampler_choice import chosen_sampler
from diffusion_policy.scripts.controls import roll_out_controls
from diffusion_policy.scripts.evaluation_files import (
    CONFIG,
    CONTROLS,
    DIAGNOSIS,
    EPISODES,
    EVAL_LOG,
    MEDIA,
    RECORDED_AGAIN,
    REPORT,
)


def evaluate(
    path: Path | str,
    output_dir: Path | str,
    *,
    seeds: Sequence[int] = TEST_SEEDS,
    device: str = "auto",
    n_videos: int = 0,
    overwrite: bool = False,
    sampler: str | None = None,
    steps: int | None = None,
    overrides: Sequence[str] = (),
    trusted_targets: Sequence[str] = (),
    controls: Sequence[str] = (),
) -> RolloutResult:
    """Score a checkpoint and write `eval_log.json`, `episodes.json`, `config.yaml` and videos below `media/`.

    Args:
        path: a checkpoint's folder, or a run's folder (then its latest checkpoint).
        output_dir: where to write; created if need be.
        seeds: of the environment, one per episode.
        device: of the policy.
        n_videos: record the first that many episodes.
        overwrite: replace an earlier evaluation in `output_dir`.
        sampler: with which the policy acts, as in `load_policy`.
        steps: of the sampler.
        overrides: changes of the checkpoint's configuration, such as `task.env_runner.n_envs=20`.
        trusted_targets: full names outside this package that the configuration may build.
        controls: names of controls to roll out on the same seeds, see `scripts/controls.py`; their episodes go to
            `controls/<name>.json`.

    Raises:
        FileExistsError: when `output_dir` holds an evaluation and `overwrite` is false.
        OSError: nothing can be written to `output_dir`; said before anything is rolled out.
        ValueError: an override would have no effect on the evaluation, or the task has no simulator.
    """
    checkpoint = find_checkpoint(path)
    check_has_simulator(checkpoint)
    output_dir = Path(output_dir)
    is_replacing = _check_free(output_dir / EVAL_LOG, overwrite)
    _check_overrides(overrides)
    config = checkpoint.config(overrides, chosen_sampler(checkpoint, sampler, steps))
    policy = load_policy(
        checkpoint.path,
        device,
        sampler=sampler,
        steps=steps,
        overrides=overrides,
        trusted_targets=trusted_targets,
    )
    runner_config = config["task"]["env_runner"]
    dataset = instantiate(config["task"]["dataset"], trusted_targets) if controls else None  # fails early
    runner = instantiate(runner_config, trusted_targets, seeds=list(seeds), n_videos=n_videos)
    make_writable(output_dir)
    result = runner.run(policy, output_dir)

    if is_replacing:
        _remove_earlier(output_dir, result)
    chosen = {"sampler": sampler, "steps": steps, "overrides": list(overrides), "env_runner": runner_config}
    how = {"n_envs": runner.n_envs, "provenance": provenance(policy.device)}
    eval_log = {"checkpoint": str(checkpoint.path), **chosen, **_summary(result), **how}
    _write(output_dir, config, result, eval_log)

    if dataset is not None:
        control_runner = instantiate(runner_config, trusted_targets, seeds=list(seeds))
        roll_out_controls(controls, policy, dataset, control_runner, output_dir)
    return result


def _check_free(log_path: Path, overwrite: bool) -> bool:
    """Whether an evaluation is there already, which may be replaced."""
    if log_path.exists() and not overwrite:
        raise FileExistsError(f"{log_path} exists: choose another --output_dir, or add --overwrite")
    return log_path.exists()


def _write(output_dir: Path, config: dict[str, Any], result: RolloutResult, eval_log: dict[str, Any]) -> None:
    """Write an evaluation; `eval_log.json` comes last, so that where it is all is there."""
    atomic_write_text(output_dir / CONFIG, yaml.safe_dump(config, sort_keys=False))
    atomic_write_text(output_dir / EPISODES, result.to_json())
    atomic_write_text(output_dir / EVAL_LOG, json.dumps(eval_log, indent=2))


def _summary(result: RolloutResult) -> dict[str, Any]:
    """What `eval_log.json` says of the rollout itself."""
    return {
        "n_seeds": len(result.episodes),
        "first_seed": result.episodes[0].seed,
        "metrics": {name: estimate._asdict() for name, estimate in result.metrics().items()},
        "wall_time_s": result.wall_time_s,
    }


def _remove_earlier(output_dir: Path, result: RolloutResult) -> None:
    """Remove what an evaluation that is replaced left and this one may not write again."""
    for name in (RECORDED_AGAIN, DIAGNOSIS, REPORT):
        (output_dir / name).unlink(missing_ok=True)
    shutil.rmtree(output_dir / CONTROLS, ignore_errors=True)
    recorded = {output_dir / episode.video for episode in result.episodes if episode.video is not None}
    for video in set((output_dir / MEDIA).glob("*.mp4")) - recorded:
        video.unlink()


def check_has_simulator(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that cannot be rolled out.

    Raises:
        ValueError: its task has no simulator.
    """
    task = checkpoint.config().get("task")
    if not isinstance(task, dict) or "env_runner" not in task:
        raise ValueError(
            f"{checkpoint.path}: its config.yaml has no task.env_runner; is it another program's?"
        )
    if task["env_runner"] is None:
        raise ValueError(
            f"{checkpoint.path}: its task has no simulator (task.env_runner is null), so there is nothing to roll "
            f"out. How well it fits held-out episodes is val_loss in {checkpoint.path / 'metrics.json'}; to run it "
            f"on a robot take diffusion_policy.load_policy({str(checkpoint.path)!r})"
        )
    if not isinstance(task["env_runner"], dict) or "_target_" not in task["env_runner"]:
        raise ValueError(
            f"{checkpoint.path}: task.env_runner in its config.yaml has no _target_; take another checkpoint"
        )


def _check_overrides(overrides: Sequence[str]) -> None:
    """A checkpoint's configuration is resolved: only these two parts of it are built here."""
    without_effect = [o for o in overrides if not o.startswith(("policy.", "task.env_runner."))]
    if without_effect:
        raise ValueError(
            f"overrides {without_effect} would have no effect: an evaluation reads policy.* and task.env_runner.*, "
            f"as in policy.sampler.steps=8 or task.env_runner.n_envs=20"
        )

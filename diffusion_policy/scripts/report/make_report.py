"""Make a report and what it shows: diagnose the checkpoint, record videos, write the page.

diffusion-policy report FOLDER
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.env_runner.report import RolloutResult
from diffusion_policy.policy.base_policy import BasePolicy
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.scripts.best_effort import best_effort
from diffusion_policy.scripts.diagnosis.diagnose import diagnose
from diffusion_policy.scripts.evaluation_files import DIAGNOSIS, EPISODES, EVAL_LOG, RECORDED_AGAIN
from diffusion_policy.scripts.report.episodes import extremes, read_episodes
from diffusion_policy.scripts.report.evaluation_report import read_log, write_evaluation_report
from diffusion_policy.scripts.report.training_report import LOG as TRAINING_LOG
from diffusion_policy.scripts.report.training_report import write_training_report
from diffusion_policy.workspace.train_workspace import LAST_ROLLOUT

log = logging.getLogger(__name__)


def make_report(folder: Path | str, trusted_targets: Sequence[str] = (), device: str = "auto") -> Path:
    """Diagnose and write the report of a training run or of an evaluation, whichever `folder` holds.

    Where the diagnosis cannot be made, because the demonstrations are not there, say, the log says why; the report
    is written without it, or with the one that is there.

    Args:
        folder: of a run (`train.py`) or an evaluation (`eval.py`).
        trusted_targets: full names outside this package that the configuration may build.
        device: of the policy.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: `folder` holds neither.
    """
    folder = Path(folder)
    if (folder / EVAL_LOG).is_file():
        record = read_log(folder)
        _diagnose_into(
            folder,
            record["checkpoint"],
            trusted_targets,
            device,
            overrides=_of_policy(record["overrides"]),
            sampler=record.get("sampler"),
            steps=record.get("steps"),
        )
        return write_evaluation_report(folder)
    if not (folder / TRAINING_LOG).is_file():
        raise FileNotFoundError(
            f"nothing to report in {folder}: there is neither {EVAL_LOG} nor {TRAINING_LOG}; give the folder that "
            "eval.py or train.py wrote"
        )
    _diagnose_into(folder, folder, trusted_targets, device)
    return write_training_report(folder)


def report_with_videos(folder: Path | str, trusted_targets: Sequence[str] = (), device: str = "auto") -> None:
    """Make the report of a run or an evaluation that just ended, with videos of the best, median and worst episode.

    Of a run there are videos only where it kept its last rollout's episodes.
    """
    folder = Path(folder)
    log.info("making the report: the policy is asked about recorded episodes")
    record = _record_evaluation if (folder / EVAL_LOG).is_file() else _record_run
    best_effort("videos", lambda: record(folder, trusted_targets, device))
    log.info("report: %s", make_report(folder, trusted_targets, device))


def _record_run(folder: Path, trusted_targets: Sequence[str], device: str) -> None:
    result = read_episodes(folder / LAST_ROLLOUT)
    if result is None:
        return
    checkpoint = find_checkpoint(folder)
    policy = load_policy(checkpoint.path, device, trusted_targets=trusted_targets)
    record_extremes(result, policy, checkpoint.config()["task"]["env_runner"], folder, trusted_targets)


def _record_evaluation(folder: Path, trusted_targets: Sequence[str], device: str) -> None:
    record = read_log(folder)
    policy = load_policy(
        record["checkpoint"],
        device,
        sampler=record.get("sampler"),
        steps=record.get("steps"),
        overrides=record["overrides"],
        trusted_targets=trusted_targets,
    )
    result = RolloutResult.read(folder / EPISODES)
    record_extremes(result, policy, record["env_runner"], folder, trusted_targets)


def record_extremes(
    result: RolloutResult,
    policy: BasePolicy,
    runner_config: Mapping[str, Any],
    output_dir: Path,
    trusted_targets: Sequence[str] = (),
) -> None:
    """Roll the best, median and worst episode out again with video, but for those recorded already.

    The scores of these rollouts go to `recorded_again.json`: the last bits of a prediction depend on the size of
    the batch, so an episode may go otherwise when it runs again.
    """
    missing = list(dict.fromkeys(e.seed for e in extremes(result).values() if e.video is None))
    if not missing:
        return
    log.info("filming the best, median and worst episode")
    runner = instantiate(runner_config, trusted_targets, seeds=missing, n_videos=len(missing))
    recorded = runner.run(policy, output_dir)
    atomic_write_text(output_dir / RECORDED_AGAIN, recorded.to_json())


def _diagnose_into(
    folder: Path,
    checkpoint: Path | str,
    trusted_targets: Sequence[str],
    device: str,
    overrides: Sequence[str] = (),
    sampler: str | None = None,
    steps: int | None = None,
) -> None:
    def act() -> None:
        diagnosis = diagnose(checkpoint, overrides, trusted_targets, device, sampler, steps)
        atomic_write_text(folder / DIAGNOSIS, diagnosis.to_json())

    best_effort("diagnosis", act)


def _of_policy(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if override.startswith("policy.")]

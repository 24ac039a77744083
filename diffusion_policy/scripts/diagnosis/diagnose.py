"""Why does a robot do badly though the loss is low? Questions to data and policy, answered without the robot.

Thresholds separate faults from habits on the human Push-T demonstrations; `tests/scripts/test_diagnose.py` plants
faults and checks that they are named.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.policy.base_policy import BasePolicy
from diffusion_policy.policy.control_policies import ControlPolicy
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.scripts.diagnosis.check import Check, Diagnosis
from diffusion_policy.scripts.diagnosis.chunks import Chunks, predict
from diffusion_policy.scripts.diagnosis.data_checks import check_idle, check_normalizer, check_padding
from diffusion_policy.scripts.diagnosis.order_checks import check_alignment, check_continuity
from diffusion_policy.scripts.diagnosis.policy_checks import (
    action_scale,
    check_copying,
    check_motion,
    check_open_loop,
    check_seams,
    check_sensitivity,
    check_timing,
)
from diffusion_policy.scripts.diagnosis.recordings import Recordings

log = logging.getLogger(__name__)


def diagnose(
    checkpoint_path: Path | str,
    overrides: Sequence[str] = (),
    trusted_targets: Sequence[str] = (),
    device: str = "auto",
    sampler: str | None = None,
    steps: int | None = None,
) -> Diagnosis:
    """Check the data that a checkpoint was trained on, and what it predicts on held-out episodes.

    The same checkpoint, data and machine give the same figures.

    Args:
        checkpoint_path: a checkpoint's folder, or a run's folder (then its latest checkpoint).
        overrides: changes of the checkpoint's configuration, such as `task.dataset.path=...`.
        trusted_targets: full names outside this package that the configuration may build.
        device: of the policy.
        sampler: with which the policy acts, as in `load_policy`.
        steps: of the sampler.

    Raises:
        FileNotFoundError: no checkpoint, or its data are not there.
        ValueError: the checkpoint is a control, which has no faults to find; or its data are too short.
    """
    checkpoint = find_checkpoint(checkpoint_path)
    config = checkpoint.config(overrides)
    policy = load_policy(
        checkpoint.path,
        device,
        sampler=sampler,
        steps=steps,
        overrides=overrides,
        trusted_targets=trusted_targets,
    )
    if isinstance(policy, ControlPolicy):
        raise ValueError(
            f"{checkpoint.path} holds the control {type(policy).__name__}: there is nothing to diagnose"
        )
    dataset: SequenceDataset = instantiate(config["task"]["dataset"], trusted_targets)
    recordings = Recordings.of(dataset, config["task"]["shape_meta"])
    checks = (
        *_data_checks(dataset, config["task"]["dataset"], recordings, policy),
        *_policy_checks(recordings, policy),
    )
    return Diagnosis(str(checkpoint.path), str(recordings), checks)


def _data_checks(
    dataset: SequenceDataset, config: Mapping[str, Any], recordings: Recordings, policy: BasePolicy
) -> tuple[Check, ...]:
    return (
        check_continuity(recordings),
        check_alignment(recordings),
        check_idle(recordings),
        check_padding(dataset, config),
        check_normalizer(recordings, policy),
    )


def _policy_checks(recordings: Recordings, policy: BasePolicy) -> tuple[Check, ...]:
    chunks = Chunks.of(recordings, policy)
    predicted = predict(policy, chunks.obs)  # (N, Ta, Da)
    scale = action_scale(recordings)
    return (
        check_open_loop(predicted, chunks, recordings, scale),
        check_copying(predicted, chunks, recordings, scale),
        check_motion(predicted, chunks, scale),
        check_seams(predicted, chunks, scale),
        check_timing(predicted, chunks, scale),
        check_sensitivity(policy, predicted, chunks, scale),
    )

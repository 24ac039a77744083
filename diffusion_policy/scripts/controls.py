"""Controls beside an evaluated policy: what its score is worth."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.env_runner.env_runner import EnvRunner
from diffusion_policy.env_runner.report import RolloutResult
from diffusion_policy.policy.base_policy import BasePolicy, Demonstrations
from diffusion_policy.policy.control_policies import (
    ControlPolicy,
    NearestNeighborPolicy,
    RandomPolicy,
    ZeroPolicy,
)
from diffusion_policy.policy.nearest_feature_policy import NearestFeaturePolicy
from diffusion_policy.scripts.comparison.methods import difference_table, method_of
from diffusion_policy.scripts.evaluation_files import CONTROLS as CONTROLS_FOLDER

log = logging.getLogger(__name__)


def _alike(control: Callable[..., ControlPolicy]) -> Callable[[BasePolicy], ControlPolicy]:
    """How to make a control with a policy's shapes and time line."""
    return lambda policy: control(
        policy.shape_meta, policy.horizon, policy.n_obs_steps, policy.n_action_steps
    )


# Those that need no training and run on any seed.
CONTROLS: dict[str, Callable[[BasePolicy], ControlPolicy]] = {
    "zero": _alike(ZeroPolicy),
    "random": _alike(RandomPolicy),
    "nearest_neighbor": _alike(NearestNeighborPolicy),
    "nearest_feature": NearestFeaturePolicy,
}


def parse_controls(text: str) -> list[str]:
    """Read `zero,random`, or `all`.

    Raises:
        ValueError: names an unknown control and lists the known ones.
    """
    names = list(CONTROLS) if text == "all" else text.split(",")
    unknown = [name for name in names if name not in CONTROLS]
    if unknown:
        raise ValueError(f"controls must be all, or some of {','.join(CONTROLS)}; got {','.join(unknown)!r}")
    return names


def roll_out_controls(
    names: Sequence[str], policy: BasePolicy, dataset: Demonstrations, runner: EnvRunner, output_dir: Path
) -> None:
    """Fit controls to the demonstrations, roll them out, and write `controls/<name>.json` each.

    Args:
        names: of `CONTROLS`. A control that the task does not allow is left out, with a line in the log.
        policy: whose shapes, time line and device the controls take, one of them also its encoder.
        dataset: the demonstrations that `policy` was trained on.
        runner: with the seeds of the policy's evaluation, and without videos.
        output_dir: of the evaluation.
    """
    for name in names:
        try:
            control = CONTROLS[name](policy)
        except ValueError as error:
            log.info("control %s is left out: %s", name, error)
            continue
        control.fit(dataset)
        log.info("control %s", name)
        result = runner.run(control.to(policy.device))
        atomic_write_text(output_dir / CONTROLS_FOLDER / f"{name}.json", result.to_json())


def read_controls(output_dir: Path) -> dict[str, RolloutResult]:
    """The controls that were rolled out beside an evaluation, by name."""
    paths = sorted((output_dir / CONTROLS_FOLDER).glob("*.json"))
    return {path.stem.replace("_", " "): RolloutResult.read(path) for path in paths}


def controls_table(result: RolloutResult, output_dir: Path) -> str:
    """An evaluation beside the controls in its folder, and how much it is above them, as Markdown."""
    methods = [method_of("this policy", [result])]
    methods += [method_of(name, [control]) for name, control in read_controls(output_dir).items()]
    return difference_table(methods).markdown()

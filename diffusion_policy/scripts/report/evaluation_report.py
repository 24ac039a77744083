"""The report of an evaluation: scores beside controls, every episode, videos, and what may be wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusion_policy.common.evaluation_seeds import SELECTION_SEEDS, TEST_SEEDS
from diffusion_policy.common.plain_data import read_json, read_yaml
from diffusion_policy.common.statistics import Estimate, paired_bootstrap_interval
from diffusion_policy.env_runner.report import RolloutResult
from diffusion_policy.scripts.controls import read_controls
from diffusion_policy.scripts.evaluation_files import CONFIG, EPISODES, EVAL_LOG
from diffusion_policy.scripts.report.episodes import add_episodes
from diffusion_policy.scripts.report.page import (
    Figure,
    Grid,
    Page,
    add_diagnosis,
    command_of,
    config_text,
    provenance_grid,
    write_page,
)


def write_evaluation_report(eval_dir: Path | str) -> Path:
    """Write `report.html` of an evaluation from the files that it left in its folder.

    Args:
        eval_dir: the folder that `eval.py` wrote to.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: there is no evaluation in `eval_dir`.
    """
    folder = Path(eval_dir)
    for name in (EVAL_LOG, EPISODES):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: {folder} is not the folder of an evaluation; make one with eval.py"
            )
    log = read_log(folder)
    result = RolloutResult.read(folder / EPISODES)
    config = read_yaml(folder / CONFIG) if (folder / CONFIG).is_file() else None
    page = Page("Evaluation", folder.resolve().name, _summary(log, config, result))
    _add_scores(page, folder, result)
    add_episodes(page, folder, result)
    add_diagnosis(page, folder, log["checkpoint"])
    page.config, page.provenance = config_text(config), provenance_grid(log["provenance"])
    if config is None:
        page.missing.append("No configuration: config.yaml is missing; the checkpoint has it.")
    page.commands = command_of(log["provenance"])
    return write_page(page, folder)


def read_log(folder: Path) -> dict[str, Any]:
    """What an evaluation says of itself.

    Raises:
        ValueError: its log is damaged.
    """
    log = read_json(folder / EVAL_LOG)
    absent = [name for name in ("checkpoint", "overrides", "provenance") if name not in log]
    if absent:
        raise ValueError(
            f"{folder / EVAL_LOG} does not say {', '.join(absent)}; evaluate the checkpoint again"
        )
    return log


def _summary(log: Mapping[str, Any], config: Mapping[str, Any] | None, result: RolloutResult) -> str:
    task = "" if config is None else f" on {config['task']['name']}"
    chosen = [f"{name} {log[name]}" for name in ("sampler", "steps") if log.get(name) is not None]
    changed = [*chosen, *log["overrides"]]
    changes = f", changed by {' '.join(changed)}" if changed else ""
    return (
        f"Checkpoint {log['checkpoint']}{task}{changes}: {len(result.episodes)} episodes in "
        f"{result.wall_time_s:.0f} s ({result.steps_per_second:.0f} steps per second)"
    )


def _add_scores(page: Page, folder: Path, result: RolloutResult) -> None:
    metrics = result.metrics()
    labels = {"score": "score", "success": "success", "steps_to_success": "steps to success"}
    for name, estimate in metrics.items():
        label = labels.get(name, name.replace("_", " "))
        value = f"{estimate.value:.0%}" if name == "success" else _value(estimate)
        page.figures.append(Figure(label, value, f"{_bounds(estimate)}, n\u00a0=\u00a0{estimate.n}"))
    if result.episodes[0].success is not None and "steps_to_success" not in metrics:
        page.figures.append(Figure("steps to success", "none", "no episode succeeded"))
    controls = read_controls(folder)
    page.scores = _score_table(result, controls, page.notes)
    page.notes += [
        f"Intervals are at 95 %: bootstrap for means, Wilson's for the success rate. {_seeds(result)}"
    ]
    if not controls:
        page.missing.append(
            "No controls: a score means little alone. eval.py --controls all rolls out on the same seeds what it is "
            "worth to do nothing, to move at random and to look up the nearest demonstration."
        )


def _score_table(result: RolloutResult, controls: Mapping[str, RolloutResult], notes: list[str]) -> Grid:
    rows = [("this policy", *_score_cells(result), "")]
    seeds = [episode.seed for episode in result.episodes]
    for name, control in controls.items():
        if [episode.seed for episode in control.episodes] != seeds:
            notes.append(f"The control {name} ran on other seeds and is left out.")
            continue
        above = paired_bootstrap_interval(_scores(result), _scores(control))
        rows.append((name, *_score_cells(control), f"{above.value:+.3f} {_bounds(above, '+')}"))
    return Grid(("", "score", "success", "steps to success", "this policy's score above it"), rows)


def _score_cells(result: RolloutResult) -> tuple[str, str, str]:
    metrics = result.metrics()
    cells = []
    for name in ("score", "success", "steps_to_success"):
        estimate = metrics.get(name)
        cells.append("" if estimate is None else f"{_value(estimate)} {_bounds(estimate)}")
    return cells[0], cells[1], cells[2]


def _scores(result: RolloutResult) -> list[float]:
    return [episode.score for episode in result.episodes]


def _value(estimate: Estimate) -> str:
    return f"{estimate.value:.3f}" if abs(estimate.value) < 10 else f"{estimate.value:.0f}"


def _bounds(estimate: Estimate, sign: str = "") -> str:
    decimals = 3 if abs(estimate.value) < 10 else 0
    return f"[{estimate.low:{sign}.{decimals}f}, {estimate.high:{sign}.{decimals}f}]"


def _seeds(result: RolloutResult) -> str:
    seeds = {episode.seed for episode in result.episodes}
    text = f"Seeds {min(seeds)} to {max(seeds)}"
    if seeds <= set(TEST_SEEDS):
        return f"{text} are test seeds: nothing was chosen on them."
    if seeds & set(SELECTION_SEEDS):
        return f"{text} helped to choose checkpoints: do not report this score, evaluate on the test seeds."
    return f"{text} are neither the test nor the selection seeds."

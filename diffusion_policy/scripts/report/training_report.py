"""The report of a training run: learning curves, checkpoints, and what may be wrong."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.checkpoint import Checkpoint, CheckpointStore, find_checkpoint
from diffusion_policy.common.json_logger import read_json_log
from diffusion_policy.common.plain_data import read_json, read_yaml
from diffusion_policy.scripts.evaluation_files import CONFIG
from diffusion_policy.scripts.report.charts import Line, line_chart, number
from diffusion_policy.scripts.report.episodes import add_episodes, read_episodes
from diffusion_policy.scripts.report.page import (
    Chart,
    Figure,
    Grid,
    Page,
    add_diagnosis,
    command_of,
    config_text,
    provenance_grid,
    write_page,
)
from diffusion_policy.workspace.train_workspace import LAST_ROLLOUT

LOG = "logs.json.txt"
SCORE = "rollout/score"
Record = dict[str, int | float]


def write_training_report(run_dir: Path | str) -> Path:
    """Write `report.html` of a run from its log, checkpoints, `run.json` and `diagnosis.json`.

    Args:
        run_dir: the run's folder, as `train.py` writes it.

    Returns:
        The path of the report.

    Raises:
        FileNotFoundError: there is no log or no checkpoint in `run_dir`.
    """
    folder = Path(run_dir)
    if not (folder / LOG).is_file():
        raise FileNotFoundError(f"{folder / LOG} is missing: {folder} is not the folder of a training run")
    records, latest = read_json_log(folder / LOG), find_checkpoint(folder)
    run = folder / "run.json"
    config, provenance = _config(folder, latest), read_json(run) if run.is_file() else None
    page = Page("Training", folder.resolve().name, _summary(config, records))
    _add_scores(page, records, config)
    _add_curves(page, records)
    page.tables["Checkpoints"] = _checkpoints(folder, config)
    episodes = read_episodes(folder / LAST_ROLLOUT)
    if episodes is not None:
        add_episodes(page, folder, episodes)
    else:
        page.missing.append(
            "No episodes and videos: this run kept none. An evaluation (see Commands) lists every score and shows "
            "the best, median and worst episode."
        )
    add_diagnosis(page, folder, str(latest.path))
    page.config, page.provenance = config_text(config), provenance_grid(provenance)
    if provenance is None:
        page.missing.append("No versions and command: run.json is missing.")
    page.commands = [*command_of(provenance), *_next_command(folder, config)]
    return write_page(page, folder)


def _next_command(folder: Path, config: Mapping[str, Any]) -> list[str]:
    """How to score the run, where there is a simulator."""
    if config["task"]["env_runner"] is None:
        return []
    trusted = "".join(f" --trust-target {name}" for name in config["trusted_targets"])
    return [f"python eval.py --checkpoint {folder} --output_dir {folder}-eval --controls all{trusted}"]


def _config(folder: Path, latest: Checkpoint) -> dict[str, Any]:
    path = folder / CONFIG
    return read_yaml(path) if path.is_file() else latest.config()


def _summary(config: Mapping[str, Any], records: list[Record]) -> str:
    policy = str(config["policy"]["_target_"]).rpartition(".")[2]
    last = records[-1] if records else {}
    steps, minutes = last.get("global_step", 0), last.get("elapsed_s", 0.0) / 60
    epochs, planned = int(last.get("epoch", -1)) + 1, config["training"]["num_epochs"]
    return (
        f"{policy} on {config['task']['name']}, seed {config['training']['seed']}: {steps} optimizer steps in "
        f"{minutes:.1f} minutes, {epochs} of {planned} epochs"
    )


def _add_scores(page: Page, records: list[Record], config: Mapping[str, Any]) -> None:
    rollouts = [record for record in records if SCORE in record]
    if not rollouts:
        page.missing.append(
            "No score: this training did not roll out (training.rollout_every is null, or the task has no "
            "simulator). The errors on held-out episodes and the diagnosis are what there is."
        )
        _add_losses(page, records)
        return
    last, n = rollouts[-1], int(config["training"]["n_rollouts"])
    page.figures.append(
        Figure("score", f"{last[SCORE]:.3f}", f"{_interval(last, 'score')}, n\u00a0=\u00a0{n}")
    )
    if "rollout/success" in last:
        success = f"{last['rollout/success']:.0%}"
        page.figures.append(Figure("success", success, f"{_interval(last, 'success')}, n\u00a0=\u00a0{n}"))
    if "rollout/steps_to_success" in last:
        steps = f"{last['rollout/steps_to_success']:.0f}"
        page.figures.append(Figure("steps to success", steps, _interval(last, "steps_to_success")))
    best = max(rollouts, key=lambda record: record[SCORE])
    note = f"after {best['global_step']} steps; being the best of {len(rollouts)}, it flatters"
    page.figures.append(Figure("best score", f"{best[SCORE]:.3f}", note))
    page.notes += [
        f"Scores are of {n} selection seeds, after {last['global_step']} steps, with 95 % intervals. "
        "These seeds help to choose; the number to report comes from the test seeds (see Commands).",
        "Controls do not run during training, and a score means little without them: eval.py --controls all puts "
        "them beside it.",
    ]


def _add_losses(page: Page, records: list[Record]) -> None:
    for key, label in (
        ("train_loss", "training loss, mean of the last epoch"),
        ("val_loss", "held-out loss"),
    ):
        values = [record[key] for record in records if key in record]
        if values:
            page.figures.append(Figure(label, number(values[-1]), "last"))


def _interval(record: Record, name: str) -> str:
    low, high = record[f"rollout/{name}_low"], record[f"rollout/{name}_high"]
    decimals = 3 if abs(record[f"rollout/{name}"]) < 10 else 0
    return f"[{low:.{decimals}f}, {high:.{decimals}f}]"


def _add_curves(page: Page, records: list[Record]) -> None:
    rollouts = [line for name in ("score", "success") if (line := _curve(records, f"rollout/{name}", name))]
    if rollouts:
        svg = line_chart(rollouts, "optimizer steps", "on selection seeds", y_range=(0, 1))
        page.charts.append(Chart("Score and success", svg, "Bands are 95 % intervals over episodes."))
    losses = [line for name in ("train_loss", "val_loss") if (line := _curve(records, name, name))]
    if losses:
        svg = line_chart(losses, "optimizer steps", "loss", log_y=True)
        page.charts.append(
            Chart("Loss", svg, "Where steps are many, the band spans the middle 80 % of them.")
        )
    else:
        page.missing.append("No loss curve: nothing was learned by gradient.")
    others = {
        "train_action_mse_error": ("Error of sampled actions", "squared, in the action's units"),
        "lr": ("Learning rate", "learning rate"),
        "grad_norm": ("Gradient", "norm"),
    }
    for name, (title, label) in others.items():
        line = _curve(records, f"train_{name}" if name == "grad_norm" else name, name)
        if line is not None:
            page.charts.append(Chart(title, line_chart([line], "optimizer steps", label)))


def _curve(records: list[Record], key: str, name: str) -> Line | None:
    """A quantity against optimizer steps, where it is finite; with its interval where it has one."""
    rows = [record for record in records if key in record and np.isfinite(record[key])]
    if key == "train_loss":  # the last record of an epoch holds its mean
        of_epoch_end = {id(before) for before, row in pairwise(rows) if before["epoch"] != row["epoch"]}
        steps = [row for row in rows[:-1] if id(row) not in of_epoch_end]
        rows = steps or rows
    if not rows:
        return None

    def column(column_key: str) -> np.ndarray:
        return np.array([float(row[column_key]) for row in rows])

    has_band = all(f"{key}_low" in row and f"{key}_high" in row for row in rows)
    band = (column(f"{key}_low"), column(f"{key}_high")) if has_band else (None, None)
    return Line(name, column("global_step"), column(key), *band)


def _checkpoints(folder: Path, config: Mapping[str, Any]) -> Grid:
    """The checkpoints kept, best first, with the metric that ranks them."""
    store = CheckpointStore(folder / "checkpoints", **config["checkpoint"])
    latest, key = store.latest(), store.monitor_key
    ranked = [checkpoint.path for checkpoint in store.best()]
    if latest is not None and latest.path not in ranked:
        ranked.append(latest.path)
    rows = []
    for path in ranked:
        metrics = Checkpoint(path).metrics()
        marks = "latest" if latest is not None and path == latest.path else ""
        rows.append((path.name, _text(metrics.get(key)), _text(metrics.get("val_loss")), marks))
    return Grid(("checkpoint", key, "val_loss", ""), rows)


def _text(value: float | None) -> str:
    return "" if value is None else number(value)

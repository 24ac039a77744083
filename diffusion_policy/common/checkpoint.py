"""Checkpoints: an immutable folder each, the best k and the latest of a run.

    checkpoints/
      latest                      one line: the name of the newest checkpoint
      epoch=0050-score=0.912/
        config.yaml               resolved, plain data
        model.safetensors         what a user deploys: the averaged weights where there is an average
        metrics.json
        training_state.pt         only in the newest one: what resuming needs; loads with weights_only=True

A checkpoint is written under a temporary name and renamed, then `latest` is replaced, then older ones are pruned:
a process that is killed at any instant leaves a readable latest checkpoint.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffusion_policy.common.atomic_write import (
    atomic_directory,
    atomic_write_text,
    remove_directory,
    remove_temporaries,
)
from diffusion_policy.common.plain_data import read_json, read_yaml

CONFIG, WEIGHTS, METRICS, TRAINING_STATE = (
    "config.yaml",
    "model.safetensors",
    "metrics.json",
    "training_state.pt",
)

_NAME_PREFIX = "epoch="


@dataclass
class Checkpoint:
    """One checkpoint folder; its parts are read when asked for."""

    path: Path

    def config(
        self, overrides: Sequence[str] = (), sampler: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The resolved configuration of the run, plain data.

        Args:
            overrides: changes of it, such as `policy.sampler.steps=8`.
            sampler: what stands in the place of `policy.sampler`; overrides change it.

        Raises:
            ValueError: when the configuration is damaged, an override has no value, or it names something that
                the configuration does not have.
        """
        without_value = [override for override in overrides if "=" not in override]
        if without_value:
            raise ValueError(f"overrides must be NAME=VALUE, got {without_value}")
        saved = read_yaml(self._existing(CONFIG))
        if sampler is not None:
            saved["policy"]["sampler"] = dict(sampler)
        try:
            config = OmegaConf.create(saved)
            OmegaConf.set_struct(config, True)
            merged = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{self.path / CONFIG} with overrides {list(overrides)}: {reason}; change only what it has"
            ) from error
        return OmegaConf.to_container(merged)  # type: ignore[return-value]

    def metrics(self) -> dict[str, float]:
        """What was known about these weights when they were saved."""
        return read_json(self._existing(METRICS))

    def weights(self) -> dict[str, Tensor]:
        """The policy's state dict, on the CPU."""
        path = self._existing(WEIGHTS)
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); take another checkpoint of the run") from error

    def training_state(self) -> dict[str, Any]:
        """What resuming needs besides the weights; only the latest checkpoint has it.

        Raises:
            ValueError: it is damaged, or would run code.
        """
        path = self._existing(TRAINING_STATE)
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever torch raises; its text advises to load the file unsafely
            raise ValueError(
                f"{path} cannot be read ({type(error).__name__}), so this run cannot be resumed. Its weights can be "
                f"used; to train, begin again in another hydra.run.dir"
            ) from error

    def _existing(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: {self.path} is not a (whole) checkpoint; take another one of the run"
            )
        return path


def find_checkpoint(path: Path | str) -> Checkpoint:
    """Find a checkpoint from its own folder, its run's folder or the run's `checkpoints` (then the latest)."""
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}: there is no such path")
    if path.name == "latest" and path.is_file():
        path = path.parent
    if (path / CONFIG).is_file() and any((path / name).is_file() for name in (WEIGHTS, METRICS)):
        return Checkpoint(path)
    for folder in (path, path / "checkpoints"):
        latest = _latest(folder)
        if latest is not None:
            return latest
    raise FileNotFoundError(
        f"no checkpoint at {path}: give a checkpoint's folder (with {CONFIG}), or a run's folder whose "
        f"checkpoints/latest names one"
    )


def _latest(folder: Path) -> Checkpoint | None:
    """The checkpoint that `folder / "latest"` names; None where there is no such file."""
    pointer = folder / "latest"
    if not pointer.is_file():
        return None
    checkpoint = Checkpoint(folder / pointer.read_text(errors="replace").strip())
    if not (checkpoint.path / CONFIG).is_file():
        there = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        raise FileNotFoundError(
            f"{pointer} names {checkpoint.path.name!r}, which is no checkpoint; write the name of one into it (there "
            f"are {there}), or begin another run"
        )
    return checkpoint


class CheckpointStore:
    """The checkpoints of one run: the latest and the best `k`.

    Which are the best is read from their own metrics, so nothing is forgotten when a run resumes.

    Args:
        folder: where they are kept; created if need be.
        monitor_key: the metric that ranks them. A checkpoint without it is kept only while it is the latest.
        mode: whether the metric's `max` or `min` is best.
        k: how many of the best to keep.
    """

    def __init__(self, folder: Path | str, monitor_key: str, mode: Literal["max", "min"] = "max", k: int = 5):
        if mode not in ("max", "min"):
            raise ValueError(f"checkpoint mode must be 'max' or 'min', got {mode!r}")
        if not isinstance(k, int) or k < 0:
            raise ValueError(f"checkpoint k must be an integer of at least 0, got {k!r}")
        self.folder = Path(folder)
        self.monitor_key = monitor_key
        self.mode = mode
        self.k = k
        self.folder.mkdir(parents=True, exist_ok=True)

    def remove_leftovers(self) -> None:
        """Remove what a killed process left half written; no other process may be writing here."""
        remove_temporaries(self.folder)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint, or None before the first."""
        return _latest(self.folder)

    def best(self) -> list[Checkpoint]:
        """The best checkpoints, best first; of equal ones the earlier first. A metric that is NaN is none."""
        sign = -1 if self.mode == "max" else 1
        scored = [
            (sign * metrics[self.monitor_key], _epoch(path), Checkpoint(path))
            for path in self.folder.glob(f"{_NAME_PREFIX}*")
            if (path / METRICS).is_file()
            for metrics in [Checkpoint(path).metrics()]
            if not math.isnan(metrics.get(self.monitor_key, math.nan))
        ]
        return [checkpoint for _, _, checkpoint in sorted(scored, key=lambda row: row[:2])][: self.k]

    def save(
        self,
        epoch: int,
        config: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        metrics: Mapping[str, float],
        training_state: Mapping[str, Any],
    ) -> Checkpoint:
        """Write a checkpoint, make it the latest and prune the others.

        Raises:
            OSError: when it cannot be written (a full disk, say); the earlier checkpoints are untouched.
        """
        path = self._free_path(epoch, metrics)
        try:
            with atomic_directory(path) as temporary:
                (temporary / CONFIG).write_text(yaml.safe_dump(dict(config), sort_keys=False))
                save_file(
                    {name: t.detach().cpu().contiguous() for name, t in weights.items()}, temporary / WEIGHTS
                )
                (temporary / METRICS).write_text(json.dumps(dict(metrics), indent=2))
                torch.save(dict(training_state), temporary / TRAINING_STATE)
            atomic_write_text(self.folder / "latest", path.name)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise OSError(
                f"could not write checkpoint {path}: {error}. Earlier checkpoints are intact; make room and "
                f"repeat the command to continue from the latest"
            ) from error
        self._prune(keep=path)
        return Checkpoint(path)

    def _free_path(self, epoch: int, metrics: Mapping[str, float]) -> Path:
        """Where to write; what a process left there that was killed before it became the latest is removed."""
        path = self.folder / self._name(epoch, metrics)
        latest = self.latest()
        if latest is not None and latest.path == path:  # it has to stay until the new one is the latest
            path = path.with_name(f"{path.name}-again")
        if path.exists():
            remove_directory(path)
        return path

    def _name(self, epoch: int, metrics: Mapping[str, float]) -> str:
        value = metrics.get(self.monitor_key)
        label = self.monitor_key.rsplit("/", 1)[-1]
        return f"{_NAME_PREFIX}{epoch:04d}" + ("" if value is None else f"-{label}={value:.3f}")

    def _prune(self, keep: Path) -> None:
        kept = {checkpoint.path for checkpoint in self.best()} | {keep}
        for path in self.folder.glob(f"{_NAME_PREFIX}*"):  # other folders are the user's
            if path == keep:
                continue
            if path in kept:
                (path / TRAINING_STATE).unlink(missing_ok=True)
            else:
                remove_directory(path)


def _epoch(path: Path) -> int:
    return int(path.name.removeprefix(_NAME_PREFIX).partition("-")[0])

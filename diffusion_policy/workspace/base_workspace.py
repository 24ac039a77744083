"""Everything that a run must keep, and how it is saved and resumed."""

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.common.checkpoint import Checkpoint, CheckpointStore
from diffusion_policy.common.device import resolve_device
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.common.provenance import provenance
from diffusion_policy.common.random_seed import derived_seed
from diffusion_policy.model.diffusion.ema_model import EMAModel

# What is learned follows from these parts of the configuration, and from the data; also from the number of epochs,
# with which the learning-rate schedule ends unless it is constant.
_DEFINING = (
    *("policy", "optimizer", "ema", "dataloader"),
    *(f"training.{key}" for key in ("seed", "lr_scheduler", "lr_warmup_steps", "gradient_accumulate_every")),
    *(f"training.{key}" for key in ("max_grad_norm", "mixed_precision")),
    *(f"task.dataset.{key}" for key in ("seed", "val_ratio", "max_train_episodes")),
)


class BaseWorkspace:
    """State of a run: configuration, dataset, policy, its average, optimizer, learning rate and counters.

    Args:
        config: the resolved configuration, plain data (see `config/train.yaml`).
        output_dir: where the run writes; created if need be.
    """

    optimizer: Optimizer | None = None
    lr_scheduler: LRScheduler | None = None

    def __init__(self, config: Mapping[str, Any], output_dir: Path | str):
        self.config = dict(config)
        self.output_dir = Path(output_dir)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        training = self.config["training"]
        self.seed: int = training["seed"]
        self.device = resolve_device(training["device"])
        self.trusted_targets: list[str] = self.config["trusted_targets"]
        if not isinstance(self.trusted_targets, list):
            raise ValueError(
                f"trusted_targets must be a list, as [my_package.MyEncoder], got {self.trusted_targets!r}"
            )
        self.epoch = 0  # epochs finished
        self.global_step = 0  # optimizer steps made
        self.elapsed_s = 0.0  # wall time of the run, earlier processes included

        torch.manual_seed(derived_seed(self.seed))
        self.dataset = self.build(self.config["task"]["dataset"])
        self.data_hash: str = self.dataset.content_hash()
        self.policy = self.build(self.config["policy"])
        self.config["checkpoint"] = self._ranking()
        self.checkpoints = CheckpointStore(self.output_dir / "checkpoints", **self.config["checkpoint"])
        if self.checkpoints.latest() is None:  # else what was fitted is in the checkpoint
            self.policy.fit(self.dataset)
        self.policy.to(self.device)
        self.ema: EMAModel | None = None
        if self.config["ema"] is not None:
            self.ema = self.build(self.config["ema"], model=copy.deepcopy(self.policy))

    def _ranking(self) -> dict[str, Any]:
        """How checkpoints are ranked: by the score, or by the validation loss where no simulator gives one."""
        if self.config["checkpoint"]["monitor_key"] != "auto":
            return dict(self.config["checkpoint"])
        by_score = {"monitor_key": "rollout/score", "mode": "max"}
        by_loss = {"monitor_key": "val_loss", "mode": "min"}
        return self.config["checkpoint"] | (by_score if self.has_simulator else by_loss)

    @property
    def has_simulator(self) -> bool:
        """Whether the task says how to roll a policy out."""
        return self.config["task"]["env_runner"] is not None

    def build(self, config: Mapping[str, Any], **kwargs: Any) -> Any:
        """Build what a part of the configuration describes, if its targets are trusted."""
        return instantiate(config, self.trusted_targets, **kwargs)

    @property
    def eval_policy(self) -> Any:
        """The policy to evaluate and deploy: the average where there is one."""
        return self.policy if self.ema is None else self.ema.averaged_model

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing into the run folder meanwhile; a killed process holds nothing.

        Raises:
            FileExistsError: another process trains there.
        """
        lock = FileLock(self.output_dir / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise FileExistsError(
                f"another process is training in {self.output_dir}: wait for it, or choose another hydra.run.dir"
            ) from error
        try:
            self.checkpoints.remove_leftovers()
            yield
        finally:
            lock.release()

    def save_provenance(self) -> None:
        """Write `config.yaml` and `run.json`: what is needed to repeat this run."""
        config = yaml.safe_dump(self.config, sort_keys=False)
        atomic_write_text(self.output_dir / "config.yaml", config)
        record = provenance(self.device) | {
            "seed": self.seed,
            "data_hash": self.data_hash,
            "n_train_windows": len(self.dataset),
        }
        atomic_write_text(self.output_dir / "run.json", json.dumps(record, indent=2))

    def save_checkpoint(self, metrics: Mapping[str, float]) -> Checkpoint:
        """Save the run as it is now."""
        state = {
            "policy": self.policy.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "lr_scheduler": None if self.lr_scheduler is None else self.lr_scheduler.state_dict(),
            "ema_n_updates": 0 if self.ema is None else self.ema.n_updates,
            "epoch": self.epoch,
            "global_step": self.global_step,
            "elapsed_s": self.elapsed_s,
            "data_hash": self.data_hash,
        }
        weights = self.eval_policy.state_dict()
        return self.checkpoints.save(self.epoch, self.config, weights, metrics, state)

    def resume(self) -> bool:
        """Continue from the latest checkpoint, if there is one.

        Raises:
            ValueError: when that checkpoint's run had another configuration, where that changes what is learned.
        """
        checkpoint = self.checkpoints.latest()
        if checkpoint is None:
            return False
        state = checkpoint.training_state()
        self._check_same_run(checkpoint, state["data_hash"])
        self.policy.load_state_dict(state["policy"])
        if self.optimizer is not None and self.lr_scheduler is not None:
            self.optimizer.load_state_dict(state["optimizer"])
            self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        if self.ema is not None:
            self.ema.averaged_model.load_state_dict(checkpoint.weights())
            self.ema.n_updates = state["ema_n_updates"]
        self.epoch, self.global_step = state["epoch"], state["global_step"]
        self.elapsed_s = state["elapsed_s"]
        return True

    def _check_same_run(self, checkpoint: Checkpoint, data_hash: str) -> None:
        saved = checkpoint.config()
        names = list(_DEFINING)
        if self.config["training"]["lr_scheduler"] != "constant":
            names.append("training.num_epochs")
        differing = [
            leaf
            for name in names
            for leaf in _differing(_select(saved, name), _select(self.config, name), name)
        ]
        if data_hash != self.data_hash:
            differing.append("the data")
        if differing:
            raise ValueError(
                f"cannot resume from {checkpoint.path}: this run differs in {', '.join(differing)}. "
                f"Choose another hydra.run.dir, or the configuration saved there"
            )


def _differing(a: Any, b: Any, name: str) -> list[str]:
    """Dotted names of the leaves below `name` in which two parts of a configuration differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        keys = dict.fromkeys([*a, *b])
        return [leaf for key in keys for leaf in _differing(a.get(key), b.get(key), f"{name}.{key}")]
    return [] if a == b else [name]


def _select(config: Mapping[str, Any], name: str) -> Any:
    """The part of a configuration with a dotted name; None where it has none."""
    part: Any = config
    for key in name.split("."):
        part = part.get(key) if isinstance(part, Mapping) else None
    return part

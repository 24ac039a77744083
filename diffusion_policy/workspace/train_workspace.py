"""The training loop, one for every method."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from tqdm import tqdm

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.common.distributed import barrier, is_main_process, process_group, world_size
from diffusion_policy.common.epoch_batches import EpochBatches
from diffusion_policy.common.evaluation_seeds import SELECTION_SEEDS
from diffusion_policy.common.metric_logger import MetricLogger
from diffusion_policy.common.progress import seconds_between_draws
from diffusion_policy.common.random_seed import derived_generator, derived_seed
from diffusion_policy.model.common.lr_scheduler import get_scheduler
from diffusion_policy.workspace.base_workspace import BaseWorkspace

log = logging.getLogger(__name__)

LAST_ROLLOUT = "last_rollout.json"  # its episodes, in the run folder
VALIDATION_BATCH = 256
LOSSES = ("train_loss", "val_loss", "train_action_mse_error")

_TRAINING, _VALIDATION, _SAMPLING = 0, 1, 2  # names of random streams


class TrainWorkspace(BaseWorkspace):
    """Fit, then per epoch: train, and now and then validate, roll out on selection seeds and save.

    All random draws of optimizer step k come from a stream named by (seed, k), and the order of the data from one
    named by (seed, epoch); so neither rollouts and validation nor a restart change what is learned, and several
    processes learn what one does (but with batch norm, whose statistics are of a process's part).
    """

    def run(self) -> None:
        """Train up to `training.num_epochs`, from the latest checkpoint if the run has one."""
        with process_group(self.device):
            self._prepare()
            if not is_main_process():
                self._train(None)
                return
            with self.locked():
                self.save_provenance()
                log.info("run folder: %s", self.output_dir)
                with self._metric_logger() as logger:
                    self._train(logger)
            log.info("finished: %d optimizer steps in %.1f minutes; %s", *self._summary())

    def _summary(self) -> tuple[int, float, str]:
        """Optimizer steps, minutes, and what to do next."""
        trusted = "".join(f" --trust-target {name}" for name in self.trusted_targets)
        score = f"score it with\n  python eval.py -c {self.output_dir} -o {self.output_dir}-eval{trusted}"
        use = f'use it with\n  policy = diffusion_policy.load_policy("{self.output_dir}")'
        return self.global_step, self.elapsed_s / 60, score if self.has_simulator else use

    def _prepare(self) -> None:
        training = self.config["training"]
        self.dataset.to(self.device)
        self.batches = EpochBatches(len(self.dataset), seed=self.seed, **self.config["dataloader"])
        self.accumulate: int = training["gradient_accumulate_every"]
        self.steps_per_epoch = -(-len(self.batches) // self.accumulate)
        self.num_epochs: int = training["num_epochs"]
        groups = [group for group in self.policy.param_groups() if group["params"]]
        if groups:
            self.optimizer = self._built_optimizer(groups)
            self.lr_scheduler = get_scheduler(
                training["lr_scheduler"],
                self.optimizer,
                training["lr_warmup_steps"],
                self.num_epochs * self.steps_per_epoch,
            )
        else:
            self.num_epochs = 0  # nothing is learned by gradient: fitting was all
        if training["resume"]:
            if self.resume():
                log.info("resumed after %d of %d epochs", self.epoch, self.num_epochs)
        elif self.checkpoints.latest() is not None:
            raise FileExistsError(
                f"{self.output_dir} holds a run and training.resume is false: choose another hydra.run.dir"
            )
        if self.policy.has_frozen_encoder:
            self.dataset.cache_features(self.policy.encode)
        elif world_size() > 1 and any(isinstance(m, _BatchNorm) for m in self.policy.modules()):
            log.warning(
                "batch norm sees each process's part of a batch, so the result depends on their number: "
                "choose group norm"
            )
        self.model = DistributedDataParallel(self.policy) if world_size() > 1 and groups else self.policy
        self.runner = None
        if is_main_process() and self.has_simulator and training["rollout_every"] is not None:
            seeds = list(SELECTION_SEEDS[: training["n_rollouts"]])
            self.runner = self.build(self.config["task"]["env_runner"], seeds=seeds)
            self.runner.check(self.dataset, self.config["task"]["shape_meta"])
        if groups and self.checkpoints.monitor_key == "val_loss" and not self._validates():
            log.warning(
                "nothing ranks the checkpoints, so only the latest is kept: hold episodes out with "
                "task.dataset.val_ratio=0.1 and training.val_every=1"
            )

    def _built_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        build = self.build(self.config["optimizer"])
        try:
            return build(groups)
        except TypeError as error:
            raise ValueError(
                f"optimizer: {error}; compare {self.config['optimizer']} with what it takes"
            ) from error

    def _validates(self) -> bool:
        held_out = self.dataset.get_validation_dataset()
        return self.config["training"]["val_every"] is not None and len(held_out) > 0

    def _metric_logger(self) -> MetricLogger:
        services = self.config["logging"]
        return MetricLogger(
            self.output_dir, self.global_step, services["tensorboard"], services["wandb"], self.config
        )

    def _train(self, logger: MetricLogger | None) -> None:
        """Run the epochs that are left; only the main process has a logger."""
        started = time.monotonic() - self.elapsed_s
        n_steps = self.num_epochs * self.steps_per_epoch
        with tqdm(
            total=n_steps,
            initial=self.global_step,
            desc="train",
            unit="step",
            mininterval=seconds_between_draws(),
            disable=logger is None,
        ) as bar:
            while self.epoch < self.num_epochs:
                record = self._train_epoch(logger, bar, started)
                self.epoch += 1
                if logger is not None:
                    record |= self._evaluate(bar)
                    self.elapsed_s = time.monotonic() - started
                    logger.log(record | {"elapsed_s": self.elapsed_s})
                    if self._is_due("checkpoint_every"):
                        self.save_checkpoint(record)
                barrier()
        if self.num_epochs == 0 and logger is not None:
            record = {"epoch": 0, "global_step": 0}
            if self.runner is not None:
                record |= self._rollout()
            logger.log(record)
            self.save_checkpoint(record)

    def _train_epoch(self, logger: MetricLogger | None, bar: tqdm, started: float) -> dict[str, float]:
        """One pass over the data; returns the epoch's summary, which has its mean loss."""
        self.policy.train()
        record: dict[str, float] = {}
        losses: list[float] = []
        rows = self.batches.epoch(self.epoch)
        with closing(self.dataset.batches(rows, self.policy.n_train_obs_steps)) as batches:
            for first in range(0, len(rows), self.accumulate):
                metrics = self._optimizer_step(batches, min(self.accumulate, len(rows) - first))
                self.global_step += 1
                losses.append(metrics["loss"])
                record = {f"train_{name}": value for name, value in metrics.items()}
                record |= {"lr": self._learning_rate(), "epoch": self.epoch, "global_step": self.global_step}
                record |= {"elapsed_s": time.monotonic() - started}
                bar.update()
                bar.set_postfix(epoch=self.epoch, loss=f"{losses[-1]:.4f}", refresh=False)
                if logger is not None and len(losses) < self.steps_per_epoch:
                    logger.log(record)
        return record | {"train_loss": float(np.mean(losses))}

    def _optimizer_step(self, batches: Iterator[dict[str, Any]], n_micro_batches: int) -> dict[str, float]:
        """Average the gradient over the next micro-batches; move weights, learning rate and average."""
        assert self.optimizer is not None, "a policy without parameters has no steps"
        assert self.lr_scheduler is not None, "the optimizer comes with its schedule"
        torch.manual_seed(derived_seed(self.seed, _TRAINING, self.global_step))
        totals: dict[str, Tensor] = {}
        for i, batch in enumerate(islice(batches, n_micro_batches)):
            last = i == n_micro_batches - 1
            with nullcontext() if last or self.model is self.policy else self.model.no_sync():
                with self._autocast():
                    loss, metrics = self.model(batch)
                (loss / n_micro_batches).backward()
            for name, value in metrics.items():
                totals[name] = totals.get(name, torch.zeros_like(value)) + value / n_micro_batches
        if self.config["training"]["max_grad_norm"] is not None:
            totals["grad_norm"] = torch.nn.utils.clip_grad_norm_(
                self.policy.parameters(), self.config["training"]["max_grad_norm"]
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.lr_scheduler.step()
        if self.ema is not None:
            self.ema.step(self.policy)
        return self._checked({name: value.item() for name, value in totals.items()})

    def _checked(self, metrics: dict[str, float]) -> dict[str, float]:
        if not np.isfinite(metrics["loss"]):
            raise FloatingPointError(
                f"the loss is {metrics['loss']} at optimizer step {self.global_step}: lower optimizer.lr, set "
                f"training.max_grad_norm=1.0, or check the data for outliers. The last checkpoint is intact"
            )
        return metrics

    def _autocast(self) -> Any:
        dtype = self.config["training"]["mixed_precision"]
        if dtype is None:
            return nullcontext()
        if dtype != "bf16":
            raise ValueError(f"training.mixed_precision must be null or bf16, got {dtype!r}")
        return torch.autocast(self.device.type, torch.bfloat16)

    def _learning_rate(self) -> float:
        assert self.lr_scheduler is not None, "a policy without parameters has no learning rate"
        return float(self.lr_scheduler.get_last_lr()[0])

    # Evaluation: the averaged policy, in eval mode, on random streams of its own

    def _is_due(self, name: str) -> bool:
        """Whether something done every `training.<name>` epochs is due; null never, and always after the last."""
        every = self.config["training"][name]
        return every is not None and (self.epoch % every == 0 or self.epoch == self.num_epochs)

    def _evaluate(self, bar: tqdm) -> dict[str, float]:
        record: dict[str, float] = {}
        if self._is_due("val_every"):
            record |= self._validate()
        if self._is_due("sample_every"):
            record |= self._action_error()
        if self.runner is not None and self._is_due("rollout_every"):
            record |= self._rollout()
            bar.set_postfix(epoch=self.epoch, score=f"{record['rollout/score']:.3f}")
        return record

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Loss on the held-out episodes; nothing if there are none."""
        dataset = self.dataset.get_validation_dataset()
        if len(dataset) == 0:
            return {}
        losses = []
        with torch.random.fork_rng(devices=self._rng_devices()):
            torch.manual_seed(derived_seed(self.seed, _VALIDATION))
            rows = np.array_split(np.arange(len(dataset)), -(-len(dataset) // VALIDATION_BATCH))
            for batch in dataset.batches(rows, self.policy.n_train_obs_steps):
                loss, _ = self.eval_policy.eval().compute_loss(batch)
                losses.append((loss.item(), len(batch["action"])))
        values, weights = zip(*losses, strict=True)
        return {"val_loss": float(np.average(values, weights=weights))}

    @torch.no_grad()
    def _action_error(self) -> dict[str, float]:
        """Mean squared error of sampled actions on a fixed training batch, in the action's units squared."""
        rows = np.random.default_rng(derived_seed(self.seed, _SAMPLING)).permutation(len(self.dataset))[:64]
        batch = self.dataset.batch(rows, self.policy.n_obs_steps)
        generator = derived_generator(self.seed, _SAMPLING)
        predicted = self.eval_policy.eval().predict_action(batch["obs"], generator=generator)
        executed = self.eval_policy.executed_part(batch["action"])["action"]
        return {"train_action_mse_error": torch.mean((predicted["action"] - executed) ** 2).item()}

    def _rollout(self) -> dict[str, float]:
        """Score on the selection seeds, with intervals."""
        assert self.runner is not None, "rollouts are never due without a runner"
        result = self.runner.run(self.eval_policy)
        atomic_write_text(self.output_dir / LAST_ROLLOUT, result.to_json())
        record: dict[str, float] = {}
        for name, estimate in result.metrics().items():
            record[f"rollout/{name}"] = estimate.value
            record[f"rollout/{name}_low"], record[f"rollout/{name}_high"] = estimate.low, estimate.high
        monitored = self.checkpoints.monitor_key
        if monitored.startswith("rollout/") and monitored not in record:
            log.warning(
                "checkpoint.monitor_key %r was not measured, so this checkpoint cannot rank", monitored
            )
        return record

    def _rng_devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []


def _check_training(training: Mapping[str, Any]) -> None:
    """Name what cannot be meant before any time is spent."""
    counts = ("num_epochs", "lr_warmup_steps", "gradient_accumulate_every", "n_rollouts")
    optional = ("checkpoint_every", "val_every", "sample_every", "rollout_every", "n_threads")
    for name in ("seed", *counts, *optional):
        value = training[name]
        least = 0 if name in ("seed", "num_epochs", "lr_warmup_steps") else 1
        if not ((isinstance(value, int) and value >= least) or (value is None and name in optional)):
            allowed = "or null " if name in optional else ""
            raise ValueError(
                f"training.{name} must be an integer {allowed}of at least {least}, got {value!r}"
            )
    if not isinstance(training["resume"], bool):  # "no" is text in Hydra, and would count as true
        raise ValueError(f"training.resume must be true or false, got {training['resume']!r}")
    norm = training["max_grad_norm"]
    if norm is not None and not (
        isinstance(norm, int | float) and norm > 0
    ):  # less would turn gradients round
        raise ValueError(f"training.max_grad_norm must be null or a positive number, got {norm!r}")
    if training["n_rollouts"] > len(SELECTION_SEEDS):
        raise ValueError(
            f"training.n_rollouts must be at most {len(SELECTION_SEEDS)}, the number of selection seeds, "
            f"got {training['n_rollouts']}"
        )


def _check_monitor(checkpoint: Mapping[str, Any]) -> None:
    """A metric that is never logged, or ranked the wrong way round, would keep the wrong checkpoints."""
    key, mode = checkpoint["monitor_key"], checkpoint["mode"]
    if mode not in ("max", "min"):
        raise ValueError(f"checkpoint.mode must be max or min, got {mode!r}")
    if key == "auto":
        return
    if key not in LOSSES and not key.startswith("rollout/"):
        raise ValueError(
            f"checkpoint.monitor_key {key!r} is never logged: choose auto, rollout/score or another metric of "
            f"rollouts, or {', '.join(LOSSES)}"
        )
    if key in LOSSES and mode != "min":
        raise ValueError(f"less {key} is better: set checkpoint.mode=min, got {mode!r}")


def train(config: Mapping[str, Any], output_dir: str) -> None:
    """Run the training that `config` describes; see `config/train.yaml`."""
    _check_training(config["training"])
    _check_monitor(config["checkpoint"])
    n_threads = config["training"]["n_threads"]
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    TrainWorkspace(config, output_dir).run()

"""Where a run's numbers go: always a JSON log, and TensorBoard or Weights & Biases where asked for."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from diffusion_policy.common.json_logger import JsonLogger


class MetricLogger:
    """Write each record of numbers to `logs.json.txt` and to the chosen services.

    Args:
        output_dir: of the run.
        global_step: of the checkpoint from which the run goes on: records beyond it are cut, as they will be
            written again.
        tensorboard: also write TensorBoard events below `tensorboard/`.
        wandb: arguments of `wandb.init` to also log there, or None.
        config: of the run, shown by Weights & Biases.

    Raises:
        ImportError: when a service's package is missing; it names the extra to install.
    """

    def __init__(
        self,
        output_dir: Path,
        global_step: int = 0,
        tensorboard: bool = False,
        wandb: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ):
        self.tensorboard = _summary_writer(output_dir / "tensorboard", global_step) if tensorboard else None
        self.wandb_run = _wandb_run(output_dir, wandb, config) if wandb is not None else None
        self.json_logger = JsonLogger(output_dir / "logs.json.txt")
        self.json_logger.truncate_after(global_step)

    def __enter__(self) -> "MetricLogger":
        self.json_logger.__enter__()
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.json_logger.__exit__(exception_type, exception, traceback)
        if self.tensorboard is not None:
            self.tensorboard.close()
        if self.wandb_run is not None:
            self.wandb_run.finish(exit_code=0 if exception is None else 1)

    def log(self, record: Mapping[str, float]) -> None:
        """Write one record; `record["global_step"]` is the number of optimizer steps made."""
        self.json_logger.log(record)
        step = int(record["global_step"])
        if self.tensorboard is not None:
            for name, value in record.items():
                self.tensorboard.add_scalar(name, value, step)
        if self.wandb_run is not None:
            self.wandb_run.log(dict(record), step=step)


def _summary_writer(folder: Path, global_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError('TensorBoard is missing: pip install "diffusion_policy[tensorboard]"') from error
    return SummaryWriter(str(folder), purge_step=global_step + 1)  # hides what is beyond


def _wandb_run(output_dir: Path, arguments: Mapping[str, Any], config: Mapping[str, Any] | None) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ImportError('Weights & Biases is missing: pip install "diffusion_policy[wandb]"') from error
    return wandb.init(dir=str(output_dir), config=dict(config or {}), **arguments)

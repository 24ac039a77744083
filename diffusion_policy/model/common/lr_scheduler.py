"""Learning-rate schedules over optimizer steps."""

import math
from collections.abc import Callable
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

ScheduleName = Literal["cosine", "linear", "constant"]

_DECAY: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
}


def get_scheduler(
    name: ScheduleName, optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int
) -> LambdaLR:
    """Linear warm-up from 0 over `num_warmup_steps`, then decay to 0 at `num_training_steps` (or no decay).

    The learning rate of optimizer step `k` (from 0) is the optimizer's own rate times
    `k / num_warmup_steps` during the warm-up and `decay((k - warmup) / (training - warmup))` after it.
    """
    if name not in _DECAY:
        raise ValueError(f"lr_scheduler must be one of {sorted(_DECAY)}, got {name!r}")
    decay = _DECAY[name]

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / max(1, num_warmup_steps)
        progress = (step - num_warmup_steps) / max(1, num_training_steps - num_warmup_steps)
        return max(0.0, decay(min(progress, 1.0)))

    return LambdaLR(optimizer, factor)

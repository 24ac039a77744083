"""Exponential moving average of a policy's weights: what is evaluated and deployed."""

import torch
from torch import nn


class EMAModel:
    """Average of a model's weights with a decay that grows with the number of updates (Crowson's warm-up).

    `decay(n) = clip(1 - (1 + s / inv_gamma)^-power, min_value, max_value)` with `s = n - update_after_step - 1`,
    and 0 for `s <= 0`. Buffers, BatchNorm parameters and frozen parameters are copied.

    Args:
        model: the averaged copy; put into eval mode and out of reach of the optimizer.
        update_after_step: updates during which the average simply follows the model.
        inv_gamma, power: of the warm-up; power 2/3 reaches 0.999 after 31.6K steps, 3/4 after 10K.
        min_value, max_value: bounds of the decay.
    """

    def __init__(
        self,
        model: nn.Module,
        update_after_step: int = 0,
        inv_gamma: float = 1.0,
        power: float = 2 / 3,
        min_value: float = 0.0,
        max_value: float = 0.9999,
    ):
        self.averaged_model = model.eval().requires_grad_(False)
        self.update_after_step = update_after_step
        self.inv_gamma = inv_gamma
        self.power = power
        self.min_value = min_value
        self.max_value = max_value
        self.n_updates = 0

    def decay(self, n_updates: int) -> float:
        """Weight of the old average at update number `n_updates` (from 0)."""
        step = n_updates - self.update_after_step - 1
        if step <= 0:
            return 0.0
        value = 1 - (1 + step / self.inv_gamma) ** -self.power
        return max(self.min_value, min(value, self.max_value))

    @torch.no_grad()
    def step(self, model: nn.Module) -> None:
        """Move the average towards `model`, which has the same parameters."""
        decay = self.decay(self.n_updates)
        copied = _copied_parameters(model)
        pairs = list(zip(model.named_parameters(), self.averaged_model.parameters(), strict=True))
        averaged = [(p, a) for (name, p), a in pairs if name not in copied]
        if averaged:
            torch._foreach_lerp_([a for _, a in averaged], [p for p, _ in averaged], 1 - decay)
        for (name, parameter), average in pairs:
            if name in copied:
                average.copy_(parameter)
        buffers = dict(model.named_buffers())  # by name: a normaliser's fields may have been loaded in another order
        for name, own_buffer in self.averaged_model.named_buffers():
            own_buffer.copy_(buffers[name])
        self.n_updates += 1


def _copied_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters that are copied instead of averaged: BatchNorm's and frozen ones."""
    names = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    for module_name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            prefix = f"{module_name}." if module_name else ""
            names |= {prefix + name for name, _ in module.named_parameters(recurse=False)}
    return names

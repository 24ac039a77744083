"""What is computed from a network's weights alone, once instead of in every call."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class DerivedFromWeights(nn.Module):
    """Something made of a network's weights, kept until they change or move; a part of that network, without weights.

    Changes in place and replaced weights are noticed, and `train` and `eval` forget it. Fused optimizers leave no
    trace of their changes: a network should `drop` this whenever it runs with gradients. After a change through
    `weight.data`, which leaves none either, call `eval`. Copies and pickles begin empty.
    """

    def __init__(self) -> None:
        super().__init__()
        self._versions: list[tuple[int, int]] | None = None
        self._value: Any = None

    def get(self, network: Network, make: Callable[[Network], Any]) -> Any:
        """What `make` made of `network`, now or when its weights last changed."""
        versions = [
            (weight.data_ptr(), 0 if weight.is_inference() else weight._version)
            for weight in network.parameters()
        ]
        if versions != self._versions:
            self._value = make(network)
            self._versions = versions
        return self._value

    def drop(self) -> None:
        """Forget it."""
        self._versions = self._value = None

    def train(self, mode: bool = True) -> "DerivedFromWeights":
        """Forget it: who changes the mode may have changed weights."""
        self.drop()
        return super().train(mode)

    def __reduce__(self) -> tuple[type["DerivedFromWeights"], tuple[()]]:
        return DerivedFromWeights, ()

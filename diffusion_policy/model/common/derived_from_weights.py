"""What is computed from a network's weights alone, once instead of in every call."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class DerivedFromWeights:
    """Something made of a network's weights, kept until they change or move.

    Changes in place and replaced weights are noticed. Fused optimizers leave no trace of theirs: a network should
    `drop` this whenever it runs with gradients. Copies and pickles begin empty.
    """

    def __init__(self) -> None:
        self._versions: list[tuple[int, int]] | None = None
        self._value: Any = None

    def get(self, network: Network, make: Callable[[Network], Any]) -> Any:
        """What `make` made of `network`, now or when its weights last changed."""
        versions = [(weight.data_ptr(), weight._version) for weight in network.parameters()]
        if versions != self._versions:
            self._value = make(network)
            self._versions = versions
        return self._value

    def drop(self) -> None:
        """Forget it."""
        self._versions = self._value = None

    def __reduce__(self) -> tuple[type["DerivedFromWeights"], tuple[()]]:
        return DerivedFromWeights, ()

"""Which weights of a transformer the optimizer may pull towards zero."""

from typing import Any

from torch import nn


def weight_decay_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Two groups for a torch optimizer: weights that decay, and the others with `weight_decay` 0.

    Matrices of linear layers and attention decay. Biases, normalisations and embeddings do not: for them zero is no
    simpler than another value. Frozen parameters are left out. Each group is in the order of the parameters' names,
    as optimizer states of the original refer to it.
    """
    matrices = {
        f"{prefix}.{name}" if prefix else name
        for prefix, owner in module.named_modules()
        if isinstance(owner, nn.Linear | nn.MultiheadAttention)
        for name, _ in owner.named_parameters(recurse=False)
        if name.endswith("weight")
    }
    trainable = sorted((name, p) for name, p in module.named_parameters() if p.requires_grad)
    return [
        {"params": [parameter for name, parameter in trainable if name in matrices]},
        {"params": [parameter for name, parameter in trainable if name not in matrices], "weight_decay": 0.0},
    ]

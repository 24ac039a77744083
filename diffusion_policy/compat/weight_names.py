"""What the original's names of weights are here, and which of its weights never had an effect."""

import re
from collections.abc import Mapping

from torch import Tensor

StateDict = Mapping[str, Tensor]

# Robomimic's ResNet is a list of torchvision's children.
_RESNET_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_RENAMED = (
    # `normalizer.params_dict.obs.input_stats.min` is `normalizer.obs.input_min`.
    (re.compile(r"params_dict\."), ""),
    (re.compile(r"input_stats\."), "input_"),
    # Encoders of the "hybrid" policies, which robomimic built: backbone, spatial softmax, linear layer.
    (
        re.compile(r"\bobs_nets\.([^.]+)\.backbone\.nets\.(\d)\."),
        lambda match: f"image_encoders.{match[1]}.backbone.{_RESNET_CHILDREN[match[2]]}.",
    ),
    (re.compile(r"\bobs_nets\.([^.]+)\.pool\.nets\."), r"image_encoders.\1.pool.conv."),
    (re.compile(r"\bobs_nets\.([^.]+)\.nets\.3\."), r"image_encoders.\1.head.0."),
    # Encoders of `MultiImageObsEncoder`.
    (re.compile(r"\bkey_model_map\."), "image_encoders."),
)
_WITHOUT_EFFECT = (
    re.compile(r"(^|\.)_dummy_variable$"),  # empty parameters that only told a module's device
    re.compile(r"^(model\.)?(mask|memory_mask)$"),  # constants of a causal transformer
    re.compile(r"\blocal_cond_encoder\.1\."),  # never called
    re.compile(r"\bobs_nets\.[^.]+\.nets\.[01]\."),  # second names of backbone and pool
    re.compile(r"\bobs_nets\.[^.]+\.pool\.(temperature|pos_x|pos_y)$"),  # constants
)


def map_state_dict(state_dict: StateDict) -> dict[str, Tensor]:
    """Rename weights of the original to ours and drop those that never had an effect there."""
    return {
        _mapped(name): tensor
        for name, tensor in state_dict.items()
        if not any(pattern.search(name) for pattern in _WITHOUT_EFFECT)
    }


def _mapped(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name

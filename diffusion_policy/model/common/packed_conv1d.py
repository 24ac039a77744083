"""Convolutions on the CPU whose weights are laid out once, as oneDNN wants them, instead of in every call.

With few time steps a convolution costs little more than reading its weights; reordering them first multiplies that.
"""

import copy

import torch
from torch import Tensor, nn


class PackedConv1d(nn.Module):
    """A `Conv1d` for inference on the CPU in float32: the same result up to rounding, from reordered weights.

    The best layout depends on the input's shape, so the weights are packed at the first call, and again when the
    shape changes. They take their memory twice.

    Args:
        conv: the convolution; its weights may not change as long as this is used.
    """

    def __init__(self, conv: nn.Conv1d):
        super().__init__()
        self.conv = conv
        self._shape: tuple[int, ...] | None = None
        self._weight: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, T) to (B, C_out, T')."""
        conv = self.conv
        padding, stride, dilation = (0, int(conv.padding[0])), (1, conv.stride[0]), (1, conv.dilation[0])
        x = x[:, :, None]  # (B, C_in, 1, T)
        if x.shape != self._shape:
            self._shape = tuple(x.shape)
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                conv.weight[:, :, None], padding, stride, dilation, conv.groups, self._shape
            )
        y = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, conv.bias, padding, stride, dilation, conv.groups, "none", [], ""
        )
        return y[:, :, 0]


def can_pack(weight: Tensor) -> bool:
    """Whether convolutions with such a weight can be packed on this machine."""
    available = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return available and weight.device.type == "cpu" and weight.dtype == torch.float32


def with_packed_convolutions(network: nn.Module) -> nn.Module:
    """A copy of `network` that shares its weights and has packed convolutions."""
    shared = {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]}
    twin = copy.deepcopy(network, shared)
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv1d) and child.padding_mode == "zeros" and can_pack(child.weight):
                setattr(module, name, PackedConv1d(child))
    return twin

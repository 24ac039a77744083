"""Convolutions on the CPU whose weights are laid out once, as oneDNN wants them, instead of in every call.

With few time steps a convolution costs little more than reading its weights; reordering them first multiplies that.
"""

import copy

import torch
from torch import Tensor, nn


class PackedConv1d(nn.Module):
    """A `Conv1d` or `ConvTranspose1d` for inference on the CPU in float32: the same result up to rounding.

    The best layout of the weights depends on the input's shape, so they are packed at the first call, and again when
    the shape changes. They take their memory twice.

    Args:
        conv: the convolution, padded with zeros; its weights may not change as long as this is used.
    """

    def __init__(self, conv: nn.Conv1d | nn.ConvTranspose1d):
        super().__init__()
        self.conv = conv
        self._packed: tuple[torch.Size, Tensor] | None = None  # for inputs of a shape
        padding, stride, dilation = (
            [neutral, int(size)]
            for neutral, size in ((0, conv.padding[0]), (1, conv.stride[0]), (1, conv.dilation[0]))
        )
        if isinstance(conv, nn.ConvTranspose1d):
            self._geometry = (padding, [0, int(conv.output_padding[0])], stride, dilation, conv.groups)
            self._pack = torch.ops.mkldnn._reorder_convolution_transpose_weight.default
            self._convolve = torch.ops.mkldnn._convolution_transpose_pointwise.default
        else:
            self._geometry = (padding, stride, dilation, conv.groups)  # type: ignore[assignment]
            self._pack = torch.ops.mkldnn._reorder_convolution_weight.default
            self._convolve = torch.ops.mkldnn._convolution_pointwise.default

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, T) to (B, C_out, T')."""
        x = x[:, :, None]  # (B, C_in, 1, T)
        packed = self._packed
        if packed is None or packed[0] != x.shape:
            weight = self._pack(self.conv.weight[:, :, None], *self._geometry, list(x.shape))
            packed = self._packed = (x.shape, weight)  # at once: another thread may be here too
        return self._convolve(x, packed[1], self.conv.bias, *self._geometry, "none", [], "")[:, :, 0]


def can_pack(conv: nn.Module) -> bool:
    """Whether this is a convolution that can be packed, here and now."""
    if not isinstance(conv, nn.Conv1d | nn.ConvTranspose1d) or conv.padding_mode != "zeros":
        return False
    available = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return available and conv.weight.device.type == "cpu" and conv.weight.dtype == torch.float32


def with_packed_convolutions(network: nn.Module) -> nn.Module:
    """A copy of `network` that shares its weights and has packed convolutions."""
    shared = {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]}
    twin = copy.deepcopy(network, shared)
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if can_pack(child):
                setattr(module, name, PackedConv1d(child))  # type: ignore[arg-type]
    return twin

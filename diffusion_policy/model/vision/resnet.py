"""ResNets (He et al. 2016) as feature maps, with torchvision's parameter names so that its weights load."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]  # from a number of channels to the layer

CHANNELS_PER_GROUP = 16
STAGE_WIDTHS = (64, 128, 256, 512)
BLOCKS_PER_STAGE = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a residual; the block of ResNet 18 and 34."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int, norm: Norm):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, width, H / stride, W / stride)."""
        residual = x if self.downsample is None else self.downsample(x)
        h = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(h)) + residual)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions with a residual; the block of ResNet 50."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int, norm: Norm):
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = norm(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out_channels, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 4 width, H / stride, W / stride)."""
        residual = x if self.downsample is None else self.downsample(x)
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.relu(self.bn2(self.conv2(h)))
        return self.relu(self.bn3(self.conv3(h)) + residual)


class ResNet(nn.Module):
    """ResNet 18, 34 or 50 without pooling and classifier: (N, C, H, W) to (N, out_channels, H/32, W/32).

    With `norm="group"` every BatchNorm is a GroupNorm of 16 channels per group: an average of weights then
    has no statistics that lag behind it, and a batch may be small.

    Args:
        depth: 18, 34 or 50.
        norm: "group" or "batch".
        in_channels: C of the images, 3 for colour.
        weights: a local file of torchvision's or R3M's (`.pth`, `.pt` or `.safetensors`), read once before
            training (by `load_pretrained`); None starts at random. With group norm only the convolutions are
            taken.
        weights_sha256: what the file's SHA-256 must begin with, at least 8 digits; torchvision's file names
            end in them.

    Raises:
        ValueError: the depth or the norm is unknown.
    """

    def __init__(
        self,
        depth: Literal[18, 34, 50] = 18,
        norm: Literal["group", "batch"] = "group",
        in_channels: int = 3,
        weights: str | PathLike[str] | None = None,
        weights_sha256: str | None = None,
    ):
        super().__init__()
        if depth not in BLOCKS_PER_STAGE:
            raise ValueError(f"depth must be one of {list(BLOCKS_PER_STAGE)}, got {depth!r}")
        if norm not in ("group", "batch"):
            raise ValueError(f"norm must be 'group' or 'batch', got {norm!r}")
        self.weights = weights
        self.weights_sha256 = weights_sha256
        norm_layer: Norm = nn.BatchNorm2d if norm == "batch" else group_norm
        block = Bottleneck if depth == 50 else BasicBlock
        self.out_channels, self.stride = STAGE_WIDTHS[-1] * block.expansion, 32
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm_layer(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = 64
        for i, (width, n_blocks) in enumerate(zip(STAGE_WIDTHS, BLOCKS_PER_STAGE[depth], strict=True)):
            blocks: list[nn.Module] = []
            for j in range(n_blocks):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(block(channels, width, stride, norm_layer))
                channels = width * block.expansion
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.apply(_init_convolution)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, C, H, W) to features (N, out_channels, H/32, W/32), rounded up."""
        h = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for i in range(1, 5):
            h = self.get_submodule(f"layer{i}")(h)
        return h

    def load_pretrained(self) -> None:
        """Take the weights of the file that the constructor was given; nothing without one.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: its checksum differs, it is damaged, or its weights do not fit.
        """
        if self.weights is None:
            return
        path = Path(self.weights).expanduser()
        stored = _convolutional_weights(_read_weights(path, self.weights_sha256))
        wanted = {
            name: value
            for name, value in self.state_dict().items()
            if not name.endswith("num_batches_tracked")  # older files lack it, and nothing reads it
        }
        if not any(name.endswith("running_mean") for name in wanted):  # group norm: convolutions only
            wanted = {name: value for name, value in wanted.items() if value.ndim == 4}
        absent = [name for name in wanted if name not in stored]
        if absent:
            raise ValueError(
                f"{path} lacks {len(absent)} weights of this ResNet, first {absent[0]!r}: choose the depth "
                "of the file, or another file"
            )
        for name, value in wanted.items():
            if stored[name].shape != value.shape:
                raise ValueError(
                    f"{path}: {name!r} has shape {tuple(stored[name].shape)}, this ResNet needs "
                    f"{tuple(value.shape)}: choose the depth of the file, or another file"
                )
            value.copy_(stored[name])


def group_norm(channels: int) -> nn.Module:
    """GroupNorm of 16 channels per group."""
    return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)


def _shortcut(in_channels: int, out_channels: int, stride: int, norm: Norm) -> nn.Module | None:
    """What brings the residual to the block's output shape; None where it has it."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels))


def _init_convolution(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _read_weights(path: Path, sha256: str | None) -> Mapping[str, object]:
    """What a file of weights holds, after a look at its checksum; runs no code of the file."""
    if not path.exists():
        raise FileNotFoundError(
            f"no weights at {path}: fetch the file, or set weights=null to start at random"
        )
    if sha256 is not None:
        if len(sha256) < 8:
            raise ValueError(f"weights_sha256 must have at least 8 digits, got {sha256!r}")
        found = _sha256(path)
        if not found.startswith(sha256.lower()):
            raise ValueError(f"{path} has SHA-256 {found}, expected {sha256}...: fetch it again")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file raises
        raise ValueError(f"{path} cannot be read as weights ({error}); fetch it again") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _convolutional_weights(stored: Mapping[str, object]) -> dict[str, Tensor]:
    """Weights under torchvision's names; R3M keeps them under `r3m`, as `module.convnet.<name>`."""
    inner = stored.get("r3m", stored)
    if not isinstance(inner, Mapping):
        return {}
    prefix = "module.convnet."
    return {name.removeprefix(prefix): value for name, value in inner.items() if isinstance(value, Tensor)}

"""Tests for resnet.py."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from diffusion_policy.model.vision.resnet import ResNet

# Parameters of torchvision's networks without their classifier (1000 classes).
N_PARAMETERS = {18: 11_689_512 - 513_000, 34: 21_797_672 - 513_000, 50: 25_557_032 - 2_049_000}


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_sizes_are_torchvisions(depth):
    resnet = ResNet(depth, norm="batch")
    assert sum(parameter.numel() for parameter in resnet.parameters()) == N_PARAMETERS[depth]
    assert resnet.out_channels == (2048 if depth == 50 else 512)
    assert resnet.eval()(torch.zeros(1, 3, 84, 84)).shape == (1, resnet.out_channels, 3, 3)


def test_names_are_torchvisions():
    names = set(ResNet(50, norm="batch").state_dict())
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.downsample.1.num_batches_tracked",
        "layer3.5.conv3.weight",
        "layer4.2.bn3.bias",
    } <= names
    assert not any("fc" in name for name in names)


def test_group_norm_everywhere_and_independent_of_the_batch():
    resnet = ResNet(18, norm="group")
    assert not any(isinstance(module, nn.BatchNorm2d) for module in resnet.modules())
    assert {m.num_channels // m.num_groups for m in resnet.modules() if isinstance(m, nn.GroupNorm)} == {16}
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(resnet(images)[1:2], resnet(images[1:2]), rtol=1e-4, atol=1e-4)


def test_channels():
    assert ResNet(18, in_channels=4)(torch.zeros(1, 4, 32, 32)).shape == (1, 512, 1, 1)


def _torchvision_file(path: Path, depth: int = 18) -> dict[str, torch.Tensor]:
    torch.manual_seed(7)
    weights = ResNet(depth, norm="batch").state_dict() | {
        "fc.weight": torch.zeros(1000, 512),
        "fc.bias": torch.zeros(1000),
    }
    weights = {name: value for name, value in weights.items() if "num_batches" not in name}  # as of 2017
    torch.save(weights, path)
    return weights


def test_torchvisions_file(tmp_path):
    stored = _torchvision_file(tmp_path / "resnet18.pth")
    resnet = ResNet(18, norm="batch", weights=tmp_path / "resnet18.pth")
    assert not torch.equal(resnet.conv1.weight, stored["conv1.weight"]), "the constructor reads no file"
    resnet.load_pretrained()
    for name, value in resnet.state_dict().items():
        assert "num_batches" in name or torch.equal(value, stored[name]), name


def test_r3ms_file(tmp_path):
    stored = _torchvision_file(tmp_path / "torchvision.pth")
    r3m = {f"module.convnet.{name}": value for name, value in stored.items()}
    torch.save(
        {"r3m": r3m | {"module.lang_rew.weight": torch.zeros(2)}, "global_step": 5}, tmp_path / "r3m.pt"
    )
    resnet = ResNet(18, norm="batch", weights=tmp_path / "r3m.pt")
    resnet.load_pretrained()
    assert torch.equal(resnet.layer4[1].bn2.weight, stored["layer4.1.bn2.weight"])


def test_with_group_norm_convolutions_are_taken(tmp_path):
    stored = _torchvision_file(tmp_path / "weights.pth")
    save_file({name: value.contiguous() for name, value in stored.items()}, tmp_path / "weights.safetensors")
    resnet = ResNet(18, norm="group", weights=tmp_path / "weights.safetensors")
    resnet.load_pretrained()
    assert torch.equal(resnet.layer2[0].conv1.weight, stored["layer2.0.conv1.weight"])


def test_the_checksum(tmp_path):
    path = tmp_path / "weights.pth"
    _torchvision_file(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    ResNet(18, norm="batch", weights=path, weights_sha256=digest[:8]).load_pretrained()
    with pytest.raises(ValueError, match=f"has SHA-256 {digest}, expected 00000000"):
        ResNet(18, weights=path, weights_sha256="00000000").load_pretrained()
    with pytest.raises(ValueError, match="at least 8 digits"):
        ResNet(18, weights=path, weights_sha256="00").load_pretrained()


def test_files_that_cannot_be_used(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*none\.pth: fetch the file"):
        ResNet(18, weights=tmp_path / "none.pth").load_pretrained()
    _torchvision_file(tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"lacks .* weights of this ResNet.*choose the depth"):
        ResNet(34, norm="batch", weights=tmp_path / "weights.pth").load_pretrained()
    with pytest.raises(ValueError, match=r"'conv1\.weight' has shape \(64, 3, 7, 7\)"):
        ResNet(18, in_channels=1, weights=tmp_path / "weights.pth").load_pretrained()
    (tmp_path / "cut.pth").write_bytes((tmp_path / "weights.pth").read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read as weights"):
        ResNet(18, weights=tmp_path / "cut.pth").load_pretrained()
    torch.save({"weights": nn.Linear(1, 1)}, tmp_path / "pickled.pth")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        ResNet(18, weights=tmp_path / "pickled.pth").load_pretrained()


def test_refusals():
    with pytest.raises(ValueError, match="depth must be one of"):
        ResNet(19)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="norm must be"):
        ResNet(18, norm="layer")  # type: ignore[arg-type]

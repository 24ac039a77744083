"""Training from images: resumed, streamed, with a frozen encoder and with one of a user's own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_module
from torch import Tensor

from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.model.vision.resnet import ResNet
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.workspace.train_workspace import TrainWorkspace, train
from tests.conftest import REPOSITORY
from tests.tiny_run import tiny_config, write_episodes

pytestmark = pytest.mark.sim

IMAGES = (
    "task=pusht_image",
    "obs_encoder.image_encoder.backbone={channels: [8, 8], strides: [4, 2], kernel_sizes: [5, 3]}",
    "obs_encoder.image_encoder.pool.n_keypoints=4",
    "obs_encoder.image_encoder.feature_dim=6",
    "training.num_epochs=2",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episodes(tmp_path_factory.mktemp("data") / "episodes.zarr", n_episodes=3, images=True)


def trained(data: Path, output_dir: Path, *overrides: str) -> dict[str, Tensor]:
    train(tiny_config(data, *IMAGES, *overrides), str(output_dir))
    return find_checkpoint(output_dir).weights()


def assert_same(ours: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert ours.keys() == others.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, others[name]), name


def test_resuming_is_exact(data: Path, tmp_path: Path) -> None:
    whole = trained(data, tmp_path / "whole")
    stopped = TrainWorkspace(tiny_config(data, *IMAGES), tmp_path / "resumed")
    save = stopped.save_checkpoint

    def save_and_stop(metrics: dict[str, float]) -> None:
        save(metrics)
        raise KeyboardInterrupt

    stopped.save_checkpoint = save_and_stop  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    assert_same(trained(data, tmp_path / "resumed"), whole)


def test_two_processes_crop_as_one_does(data: Path, tmp_path: Path) -> None:
    single = trained(data, tmp_path / "single")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29541"]
    command += ["-m", "tests.tiny_run", str(data), str(tmp_path / "double"), *IMAGES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=180)
    double = find_checkpoint(tmp_path / "double").weights()
    for name, tensor in single.items():
        torch.testing.assert_close(double[name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_images_on_disk_teach_the_same(data: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="chunk"):
        streamed = trained(data, tmp_path / "disk", "task.dataset.image_storage=disk")
    assert_same(streamed, trained(data, tmp_path / "memory"))


def test_cached_features_teach_the_same(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = "obs_encoder.frozen=true"
    cached = trained(data, tmp_path / "cached", frozen)
    monkeypatch.setattr(DiffusionPolicy, "has_frozen_encoder", False)
    encoded = trained(data, tmp_path / "encoded", frozen)
    for name, tensor in cached.items():
        torch.testing.assert_close(tensor, encoded[name], rtol=1e-4, atol=1e-5, msg=name)
    initial = TrainWorkspace(tiny_config(data, *IMAGES, frozen), tmp_path / "new").policy.state_dict()
    for name, tensor in cached.items():
        if name.startswith("obs_encoder"):
            assert torch.equal(tensor, initial[name]), name


def test_pretrained_weights_are_read_once(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    stored = ResNet(18, norm="batch").state_dict()
    torch.save(stored, tmp_path / "weights.pth")
    overrides = [
        *("task=pusht_image", "obs_encoder=resnet18_pretrained", "training.num_epochs=1"),
        f"obs_encoder.image_encoder.backbone.weights={tmp_path / 'weights.pth'}",
        "obs_encoder.image_encoder.backbone.weights_sha256=null",
    ]
    train(tiny_config(data, *overrides), str(tmp_path / "run"))
    (tmp_path / "weights.pth").unlink()
    policy = load_policy(tmp_path / "run", "cpu")
    backbone = policy.get_submodule("obs_encoder.image_encoders.image.backbone")
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, stored[name]), name
    train(tiny_config(data, *overrides), str(tmp_path / "run"))  # goes on without the file


ENCODER = """
import torch

class MeanColours(torch.nn.Module):
    def __init__(self, n_rows):
        super().__init__()
        self.pool = torch.nn.AdaptiveAvgPool2d((n_rows, 1))

    def forward(self, images):
        return self.pool(images).flatten(1)
"""


def test_an_encoder_of_ones_own(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_encoders.py").write_text(ENCODER)
    monkeypatch.syspath_prepend(tmp_path)
    overrides = [
        *("task=pusht_image", "training.num_epochs=1", "trusted_targets=[my_encoders.MeanColours]"),
    ]
    config = tiny_config(data, *overrides)
    config["policy"]["obs_encoder"]["image_encoder"] = {
        "_target_": "my_encoders.MeanColours",
        "_partial_": True,
        "n_rows": 2,
    }
    train(config, str(tmp_path / "run"))
    policy = load_policy(tmp_path / "run", "cpu", trusted_targets=["my_encoders.MeanColours"])
    assert policy.get_submodule("obs_encoder").feature_dim == 2 * 3 + 2
    obs = {"image": np.zeros((96, 96, 3), np.uint8), "agent_pos": np.zeros(2, np.float32)}
    assert np.isfinite(policy.act(obs)).all()
    del sys.modules["my_encoders"]


def test_the_paper_recipe_has_the_papers_sizes() -> None:
    """The denoiser of the original's configuration has 251,511,938 parameters."""
    with initialize_config_module("diffusion_policy.config", version_base="1.3"):
        config = compose("train", ["task=pusht_image", "recipe=paper_image"])
    with torch.device("meta"):
        policy: DiffusionPolicy = instantiate(config.policy)
    assert sum(parameter.numel() for parameter in policy.model.parameters()) == 251_511_938
    assert policy.obs_encoder.feature_dim == 66

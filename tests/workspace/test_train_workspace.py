"""The training loop: what it learns, what it writes, and that it goes on where it stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock

from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.common.json_logger import read_json_log
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.workspace.train_workspace import TrainWorkspace, train
from tests.conftest import REPOSITORY
from tests.tiny_run import tiny_config, write_episodes

pytestmark = pytest.mark.sim


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episodes(tmp_path_factory.mktemp("data") / "episodes.zarr")


def trained(data: Path, output_dir: Path, *overrides: str) -> dict[str, torch.Tensor]:
    """Train and return the averaged weights."""
    train(tiny_config(data, *overrides), str(output_dir))
    return find_checkpoint(output_dir).weights()


def assert_same_weights(ours: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == others.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, others[name]), name


def training_records(output_dir: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    records = read_json_log(output_dir / "logs.json.txt")
    return [{key: value for key, value in record.items() if key != "elapsed_s"} for record in records]


class StopRunError(Exception):
    """Stands for whatever ends a process."""


def stop_after(workspace: TrainWorkspace, epoch: int) -> None:
    """Let the run stop in the middle of the epoch after `epoch`."""
    optimizer_step = workspace._optimizer_step

    def step(*args: Any) -> dict[str, float]:
        if workspace.epoch == epoch and workspace.global_step % 3 == 2:
            raise StopRunError
        return optimizer_step(*args)

    workspace._optimizer_step = step  # type: ignore[method-assign]


def test_two_processes_do_not_train_in_one_folder(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, "training.num_epochs=1")
    with FileLock(tmp_path / ".lock"), pytest.raises(FileExistsError, match="another process is training"):
        train(config, str(tmp_path))
    train(config, str(tmp_path))


def test_a_run_leaves_what_is_needed_to_use_and_repeat_it(data: Path, tmp_path: Path) -> None:
    trained(data, tmp_path, "training.rollout_every=2")
    records = training_records(tmp_path)
    assert [record["global_step"] for record in records] == list(range(1, len(records) + 1))
    last = records[-1]
    assert {"train_loss", "val_loss", "train_action_mse_error", "lr", "epoch"} <= last.keys()
    assert last["rollout/score_low"] <= last["rollout/score"] <= last["rollout/score_high"]
    assert last["lr"] == pytest.approx(0, abs=1e-9)

    run = json.loads((tmp_path / "run.json").read_text())
    assert run["seed"] == 42
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == find_checkpoint(tmp_path).config()
    assert len(run["data_hash"]) == 64
    assert run["packages"]["torch"] == torch.__version__
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert (tmp_path / "checkpoints" / "latest").read_text().strip() in names
    assert sum("score=" in name for name in names) == 2

    policy = load_policy(tmp_path)
    obs = {"obs": torch.zeros(3, 2, 20)}
    assert policy.predict_action(obs)["action"].shape == (3, 4, 2)


def test_the_loss_falls_on_data_that_can_be_learned(data: Path, tmp_path: Path) -> None:
    trained(data, tmp_path, "training.num_epochs=25", "optimizer.lr=1e-2", "training.checkpoint_every=25")
    losses = [record["train_loss"] for record in training_records(tmp_path)]
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:5])


@pytest.mark.parametrize("stop_epoch", [1, 3])
def test_resuming_is_exact(data: Path, tmp_path: Path, stop_epoch: int) -> None:
    whole = trained(data, tmp_path / "whole")

    stopped = TrainWorkspace(tiny_config(data), tmp_path / "resumed")
    stop_after(stopped, stop_epoch)
    with pytest.raises(StopRunError):
        stopped.run()
    resumed = trained(data, tmp_path / "resumed")

    assert_same_weights(resumed, whole)
    states = [find_checkpoint(tmp_path / name).training_state() for name in ("whole", "resumed")]
    for state in states:
        del state["elapsed_s"], state["data_hash"]
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)
    assert training_records(tmp_path / "resumed") == training_records(tmp_path / "whole")


def test_a_finished_run_is_left_as_it_is(data: Path, tmp_path: Path) -> None:
    first = trained(data, tmp_path)
    log = (tmp_path / "logs.json.txt").read_text()
    assert_same_weights(trained(data, tmp_path), first)
    assert (tmp_path / "logs.json.txt").read_text() == log


def test_evaluation_does_not_change_what_is_learned(data: Path, tmp_path: Path) -> None:
    never = ["training.val_every=null", "training.sample_every=null"]
    often = ["training.val_every=1", "training.sample_every=1", "training.rollout_every=1"]
    assert_same_weights(trained(data, tmp_path / "a", *never), trained(data, tmp_path / "b", *often))


def test_the_seed_decides_what_is_learned(data: Path, tmp_path: Path) -> None:
    name = "model.final_conv.1.weight"
    first = trained(data, tmp_path / "a", "training.seed=1")[name]
    assert torch.equal(first, trained(data, tmp_path / "b", "training.seed=1")[name])
    assert not torch.equal(first, trained(data, tmp_path / "c", "training.seed=2")[name])


def test_accumulated_gradients_are_means_over_all_their_batches(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, "training.gradient_accumulate_every=2")
    workspace = TrainWorkspace(config, tmp_path)
    workspace.run()
    n_batches = -(-len(workspace.dataset) // 16)
    assert n_batches % 2 == 1, "the last step of an epoch should have a single batch left"
    assert workspace.global_step == 4 * (n_batches + 1) // 2
    assert workspace.ema is not None
    assert workspace.ema.n_updates == workspace.global_step
    assert workspace._learning_rate() == pytest.approx(0, abs=1e-9)


def test_one_accumulated_step_has_the_mean_gradient(data: Path, tmp_path: Path) -> None:
    workspace = TrainWorkspace(tiny_config(data, "policy=regression_unet"), tmp_path)
    workspace._prepare()
    workspace.optimizer = torch.optim.SGD(workspace.policy.parameters(), lr=1.0)
    workspace.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(workspace.optimizer, 1.0)
    before = workspace.policy.state_dict()["model.final_conv.1.bias"].clone()
    rows = np.arange(32)
    workspace._optimizer_step(workspace.dataset.batches([rows], 2), 1)
    whole = workspace.policy.state_dict()["model.final_conv.1.bias"].clone()

    other = TrainWorkspace(tiny_config(data, "policy=regression_unet"), tmp_path)
    other._prepare()
    other.optimizer = torch.optim.SGD(other.policy.parameters(), lr=1.0)
    other.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(other.optimizer, 1.0)
    other._optimizer_step(other.dataset.batches([rows[:16], rows[16:]], 2), 2)
    assert not torch.equal(whole, before)
    torch.testing.assert_close(other.policy.state_dict()["model.final_conv.1.bias"], whole)


@pytest.mark.parametrize("policy", ["zero", "random", "nearest_neighbor"])
def test_a_policy_without_parameters_is_fitted_and_saved(data: Path, tmp_path: Path, policy: str) -> None:
    train(tiny_config(data, f"policy={policy}", "training.rollout_every=1"), str(tmp_path))
    assert "rollout/score" in training_records(tmp_path)[-1]
    assert load_policy(tmp_path).predict_action({"obs": torch.zeros(1, 2, 20)})["action"].isfinite().all()


def test_mixed_precision_learns(data: Path, tmp_path: Path) -> None:
    trained(data, tmp_path, "training.mixed_precision=bf16")
    assert np.isfinite(training_records(tmp_path)[-1]["train_loss"])


def test_a_run_with_another_configuration_is_not_resumed(data: Path, tmp_path: Path) -> None:
    trained(data, tmp_path)
    with pytest.raises(ValueError, match=r"differs in optimizer\.lr, training\.seed"):
        trained(data, tmp_path, "optimizer.lr=1e-2", "training.seed=7")


def test_a_diverging_run_says_so(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"optimizer step .*lower optimizer\.lr"):
        trained(data, tmp_path, "optimizer.lr=1e30", "training.lr_warmup_steps=0")


def test_two_processes_learn_what_one_does(data: Path, tmp_path: Path) -> None:
    single = trained(data, tmp_path / "single")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29531"]
    command += ["-m", "tests.tiny_run", str(data), str(tmp_path / "double")]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, capture_output=True, timeout=120)
    double = find_checkpoint(tmp_path / "double").weights()
    for name, tensor in single.items():
        torch.testing.assert_close(double[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert len(training_records(tmp_path / "double")) == len(training_records(tmp_path / "single"))

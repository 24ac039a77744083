"""A task without a simulator trains; the validation loss ranks its checkpoints."""

import logging
from pathlib import Path

import pytest

from diffusion_policy.common.checkpoint import CheckpointStore
from diffusion_policy.common.json_logger import read_json_log
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.scripts.evaluate import evaluate
from diffusion_policy.workspace.train_workspace import TrainWorkspace, train
from tests.tiny_run import tiny_config, write_episodes

NO_SIMULATOR = ("task.env_runner=null", "training.rollout_every=1", "checkpoint.k=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episodes(tmp_path_factory.mktemp("data") / "episodes.zarr")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    train(tiny_config(data, *NO_SIMULATOR), str(output))
    return output


def test_the_least_validation_loss_is_best(run: Path) -> None:
    records = [record for record in read_json_log(run / "logs.json.txt") if "val_loss" in record]
    assert not any(name.startswith("rollout/") for record in records for name in record)
    best = CheckpointStore(run / "checkpoints", "val_loss", "min", 2).best()
    assert [c.metrics()["val_loss"] for c in best] == sorted(record["val_loss"] for record in records)[:2]
    assert all("val_loss=" in checkpoint.path.name for checkpoint in best)
    assert load_policy(run).predict_action is not None


def test_evaluating_says_what_to_do_instead(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"task has no simulator .*val_loss in .*load_policy"):
        evaluate(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_to_do_next_is_said(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train(tiny_config(data, *NO_SIMULATOR, "training.num_epochs=1"), str(tmp_path))
    assert "use it with" in caplog.text
    assert "eval.py" not in caplog.text
    assert "nothing ranks" not in caplog.text


def test_no_held_out_episodes_are_warned_of(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(
        tiny_config(data, *NO_SIMULATOR, "task.dataset.val_ratio=0", "training.num_epochs=1"), str(tmp_path)
    )
    assert "nothing ranks the checkpoints" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "ranking"),
    [
        ((), ("rollout/score", "max")),
        (("task.env_runner=null",), ("val_loss", "min")),
        (("checkpoint.monitor_key=train_loss", "checkpoint.mode=min"), ("train_loss", "min")),
        (("task.env_runner=null", "checkpoint.monitor_key=my_metric"), ("my_metric", "max")),
    ],
)
def test_ranking(data: Path, tmp_path: Path, overrides: tuple[str, ...], ranking: tuple[str, str]) -> None:
    checkpoints = TrainWorkspace(tiny_config(data, *overrides), tmp_path).checkpoints
    assert (checkpoints.monitor_key, checkpoints.mode) == ranking

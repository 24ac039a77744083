"""Tests for metric_logger.py."""

import sys
import types
from typing import Any

import pytest

from diffusion_policy.common.json_logger import read_json_log
from diffusion_policy.common.metric_logger import MetricLogger

RECORDS = [{"global_step": step, "epoch": 0, "train_loss": 1 / step} for step in (1, 2, 3)]


class FakeWandb(types.ModuleType):
    """Stands for the package; keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []

    def init(self, **arguments: Any) -> "FakeWandb":
        self.calls.append(("init", arguments))
        return self

    def log(self, record: dict[str, float], step: int) -> None:
        self.calls.append(("log", (record, step)))

    def finish(self, exit_code: int) -> None:
        self.calls.append(("finish", exit_code))


@pytest.fixture
def fake_wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_json_log_is_always_written(tmp_path):
    with MetricLogger(tmp_path) as logger:
        for record in RECORDS:
            logger.log(record)
    assert read_json_log(tmp_path / "logs.json.txt") == RECORDS


def test_a_resumed_run_cuts_what_it_writes_again(tmp_path):
    with MetricLogger(tmp_path) as logger:
        for record in RECORDS:
            logger.log(record)
    with MetricLogger(tmp_path, global_step=1) as logger:
        logger.log({"global_step": 2, "train_loss": 7.0})
    assert read_json_log(tmp_path / "logs.json.txt") == [RECORDS[0], {"global_step": 2, "train_loss": 7.0}]


def test_tensorboard_gets_every_number_at_its_step(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with MetricLogger(tmp_path, tensorboard=True) as logger:
        for record in RECORDS:
            logger.log(record)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in events.Scalars("train_loss")]
    assert found == [(record["global_step"], pytest.approx(record["train_loss"])) for record in RECORDS]


def test_wandb_gets_arguments_configuration_and_records(tmp_path, fake_wandb):
    with MetricLogger(tmp_path, wandb={"project": "p", "mode": "offline"}, config={"seed": 1}) as logger:
        logger.log(RECORDS[0])
    init = {"dir": str(tmp_path), "config": {"seed": 1}, "project": "p", "mode": "offline"}
    assert fake_wandb.calls == [("init", init), ("log", (RECORDS[0], 1)), ("finish", 0)]


def test_empty_arguments_of_wandb_mean_its_defaults(tmp_path, fake_wandb):
    with MetricLogger(tmp_path, wandb={}):
        pass
    assert [name for name, _ in fake_wandb.calls] == ["init", "finish"]


def test_wandb_is_told_of_a_failed_run(tmp_path, fake_wandb):
    with pytest.raises(ZeroDivisionError), MetricLogger(tmp_path, wandb={}):
        raise ZeroDivisionError
    assert fake_wandb.calls[-1] == ("finish", 1)


@pytest.mark.parametrize(
    ("module", "kwargs", "extra"),
    [
        ("torch.utils.tensorboard", {"tensorboard": True}, "tensorboard"),
        ("wandb", {"wandb": {}}, "wandb"),
    ],
)
def test_a_missing_service_is_named_with_its_extra(tmp_path, monkeypatch, module, kwargs, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'pip install "diffusion_policy\[{extra}\]"'):
        MetricLogger(tmp_path, **kwargs)


def test_services_are_not_imported_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with MetricLogger(tmp_path) as logger:
        logger.log(RECORDS[0])

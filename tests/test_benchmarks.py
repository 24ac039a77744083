"""The benchmarks: every measure of ours runs and gives a number, and the table says what was measured."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from diffusion_policy.common.replay_buffer import ReplayBuffer

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
BUNDLED = "bundled:pusht_generated"


@pytest.fixture(autouse=True)
def scripts_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def measuring() -> ModuleType:
    return importlib.import_module("measuring")


@pytest.fixture
def bench_table() -> ModuleType:
    return importlib.import_module("bench_table")


def tiny_sizes(measuring):
    network = measuring.Network(horizon=12, down_dims=(8, 16), kernel_size=3, step_embed_dim=8, batch_size=4)
    return measuring.Sizes(
        small=network,
        paper=network,
        few_steps=measuring.Sampler("ddim", 2),
        all_steps=measuring.Sampler("ddpm", 3),
        many=3,
        image_batch=4,
        env_steps=5,
        seconds=0,
    )


@pytest.fixture
def data(tmp_path: Path) -> str:
    """Two episodes with all arrays of the published data."""
    random = np.random.default_rng(0)
    buffer = ReplayBuffer.create_empty_numpy()
    for length in (20, 24):
        shapes = {"img": (96, 96, 3), "keypoint": (9, 2), "state": (5,), "action": (2,)}
        buffer.add_episode(
            {
                key: random.integers(0, 256, (length, *shape)).astype(np.float32)
                for key, shape in shapes.items()
            }
        )
    buffer.save_to_path(tmp_path / "data.zarr")
    return str(tmp_path / "data.zarr")


def test_every_measure_of_ours_gives_a_positive_number(measuring, data):
    pytest.importorskip("imagecodecs")
    ours = importlib.import_module("measure_ours").Ours(data)
    values = {name: measuring.measure(ours, name, tiny_sizes(measuring)) for name in measuring.MEASURES}
    assert all(value > 0 for value in values.values()), values


def test_the_counted_amount_is_what_a_call_does(measuring, monkeypatch):
    ours = importlib.import_module("measure_ours").Ours(BUNDLED)
    sizes = tiny_sizes(measuring)
    dataset = ours.dataset(sizes.paper)
    loaded = []
    monkeypatch.setattr(dataset, "batch", lambda rows, obs_steps: loaded.extend([obs_steps] * len(rows)))
    work = ours.windows(sizes.paper, 2, 7)
    work.call()
    assert loaded == [2] * work.amount
    assert work.amount == len(dataset)


def test_rates_are_per_second_and_a_missing_equivalent_is_none(measuring, monkeypatch):
    monkeypatch.setattr(measuring, "seconds_each", lambda call, seconds: 0.5)

    class Side:
        def windows(self, network, obs_steps, batch_size):
            return measuring.Work(lambda: None, amount=100)

        def training(self, network):
            return measuring.Work(lambda: None)

        def env_steps(self, actions):
            return None

    values = [
        measuring.measure(Side(), name, measuring.Sizes()) for name in ("windows", "train_small", "env_steps")
    ]
    assert values == [200, 0.5, None]


def test_a_call_is_timed_after_one_that_warms_up(measuring, monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 22.0])
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: next(clock))
    calls = []
    assert measuring.seconds_each(lambda: calls.append(None), seconds=5) == 2.0
    assert len(calls) == 4


def test_table_of_known_values(bench_table):
    rows = {
        "windows": bench_table.Row("windows per second", rate=True),
        "train": bench_table.Row("step (s)"),
    }
    ours = bench_table.Column(
        "ours (1a2b3c4)", {"windows": [1000.0, 3000.0, 2000.0], "train": [0.1, 0.2, 0.4]}
    )
    peer = bench_table.Column("peer (0.1)", {"windows": [100.0, 100.0, None], "train": [0.1, 0.1, 0.1]})
    assert bench_table.table(rows, ours, [peer]).splitlines() == [
        "|  | ours (1a2b3c4) | peer (0.1) | ours against peer |",
        "| --- | --- | --- | --- |",
        "| windows per second | 2,000 (1,000 to 3,000) | 100 (100 to 100) | 20.0x (10.0 to 30.0) |",
        "| step (s) | 0.200 (0.100 to 0.400) | 0.100 (0.100 to 0.100) | 0.500x (0.250 to 1.00) |",
    ]


def test_rows_that_were_not_measured_and_absent_peers_are_empty(bench_table):
    rows = {"train": bench_table.Row("step (s)"), "env": bench_table.Row("steps per second", rate=True)}
    ours = bench_table.Column("ours", {"train": [0.1], "env": [None]})
    lines = bench_table.table(rows, ours, [bench_table.Column("peer (absent)")]).splitlines()
    assert lines[2:] == ["| step (s) | 0.100 |  |  |", "| steps per second |  |  |  |"]


def test_benchmark_without_peers(tmp_path, monkeypatch, capsys):
    bench = importlib.import_module("bench")
    data = importlib.import_module("diffusion_policy.dataset.bundled_data").data_path(BUNDLED)
    output = tmp_path / "benchmark.md"
    arguments = ["--data", data, "--measures", "windows", "--rounds", 1, "--threads", 1, "--seconds", 0]
    arguments += ["--lerobot-python", "", "--output", output]
    monkeypatch.setattr(sys, "argv", ["bench.py", *map(str, arguments)])
    bench.main()
    said = capsys.readouterr()
    assert "original: absent" in said.err
    assert "LeRobot: absent" in said.err
    assert output.read_text() == said.out
    (line,) = [line for line in said.out.splitlines() if line.startswith("| windows per second")]
    _title, ours, *others = [cell.strip() for cell in line.strip("|").split("|")]
    assert float(ours.replace(",", "")) > 0
    assert others == ["", "", "", ""]

"""Tests for checkpoint.py. Kills at every file operation are in killed_saves.py."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_policy.common import atomic_write, checkpoint
from diffusion_policy.common.checkpoint import Checkpoint, CheckpointStore, find_checkpoint

CONFIG = {"policy": {"horizon": 16, "sampler": {"steps": 100}}, "seed": 42}


def store_at(folder: Path, **kwargs: Any) -> CheckpointStore:
    return CheckpointStore(folder, "rollout/score", **kwargs)


def save(store: CheckpointStore, epoch: int, score: float | None = None, **metrics: float) -> Checkpoint:
    weights = {"weight": torch.full((3,), float(epoch)), "count": torch.tensor(epoch)}
    record = {**metrics, "epoch": epoch} | ({} if score is None else {"rollout/score": score})
    return store.save(epoch, CONFIG, weights, record, {"epoch": epoch})


def epochs(checkpoints: list[Checkpoint]) -> list[int]:
    return [int(found.metrics()["epoch"]) for found in checkpoints]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def assert_resumable(folder: Path, epoch: int) -> None:
    latest = store_at(folder).latest()
    assert latest is not None
    assert latest.training_state() == {"epoch": epoch}
    assert torch.equal(latest.weights()["weight"], torch.full((3,), float(epoch)))
    assert latest.config() == CONFIG


# One checkpoint


def test_gives_back_what_was_saved(tmp_path):
    weights = {"a": torch.randn(3, 4), "b": torch.arange(5), "half": torch.ones(2, dtype=torch.bfloat16)}
    metrics = {"rollout/score": 0.91234, "train_loss": 0.1}
    saved = store_at(tmp_path).save(50, CONFIG, weights, metrics, {"epoch": 50})
    assert saved.path == tmp_path / "epoch=0050-score=0.912"
    assert names(saved.path) == {"config.yaml", "metrics.json", "model.safetensors", "training_state.pt"}
    assert saved.config() == CONFIG
    assert saved.metrics() == metrics
    for name, tensor in saved.weights().items():
        assert torch.equal(tensor, weights[name])
        assert tensor.dtype == weights[name].dtype
    assert saved.training_state() == {"epoch": 50}


def test_training_state_of_a_real_run_loads_without_pickle(tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {"optimizer": optimizer.state_dict(), "epoch": 3, "elapsed_s": 1.5, "none": None}
    saved = store_at(tmp_path).save(3, CONFIG, model.state_dict(), {}, state)
    loaded = saved.training_state()
    again = torch.optim.AdamW(model.parameters(), lr=0.5)
    again.load_state_dict(loaded["optimizer"])
    assert again.param_groups[0]["lr"] == 0.1
    assert torch.equal(again.state[model.weight]["exp_avg"], optimizer.state[model.weight]["exp_avg"])
    assert loaded["elapsed_s"] == 1.5


def test_pickled_code_in_a_training_state_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "made"),)

    saved = save(store_at(tmp_path / "run"), 1)
    torch.save({"epoch": Evil()}, saved.path / "training_state.pt")
    with pytest.raises(ValueError, match=r"training_state\.pt cannot be read .*begin again in another"):
        saved.training_state()
    assert not (tmp_path / "made").exists()


def test_weights_that_are_views_are_saved_alone(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    saved = store_at(tmp_path).save(1, CONFIG, {"transposed": whole.T, "row": whole[1]}, {}, {})
    assert torch.equal(saved.weights()["transposed"], whole.T)
    assert torch.equal(saved.weights()["row"], whole[1])


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_damaged_weights_are_named_with_the_way_out(tmp_path, size):
    path = save(store_at(tmp_path), 1).path / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:size])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged .*take another checkpoint"):
        Checkpoint(path.parent).weights()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("config.yaml", Checkpoint.config),
        ("metrics.json", Checkpoint.metrics),
        ("model.safetensors", Checkpoint.weights),
        ("training_state.pt", Checkpoint.training_state),
    ],
)
def test_a_missing_part_is_named(tmp_path, name, read):
    saved = save(store_at(tmp_path), 1)
    (saved.path / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing: .* is not a \(whole\) checkpoint"):
        read(saved)


def test_overrides_change_what_the_configuration_has(tmp_path):
    saved = save(store_at(tmp_path), 1)
    changed = saved.config(["policy.sampler.steps=8"])
    assert changed["policy"] == {"horizon": 16, "sampler": {"steps": 8}}
    assert saved.config() == CONFIG
    with pytest.raises(ValueError, match=r"policy\.sampler\.stepz=8.*stepz"):
        saved.config(["policy.sampler.stepz=8"])


# Finding one


def test_is_found_from_its_own_folder_the_run_and_its_checkpoints(tmp_path):
    store = store_at(tmp_path / "checkpoints")
    first, second = save(store, 1, 0.5), save(store, 2, 0.1)
    assert find_checkpoint(first.path) == first
    for path in (tmp_path, str(tmp_path), tmp_path / "checkpoints"):
        assert find_checkpoint(path) == second


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved = save(store_at(tmp_path / "run" / "checkpoints"), 1)
    assert find_checkpoint("~/run") == saved


def test_nothing_to_be_found_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such path"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="give a checkpoint's folder"):
        find_checkpoint(tmp_path)
    save(store_at(tmp_path), 1, 0.5)
    (tmp_path / "latest").write_text("epoch=0002")
    with pytest.raises(
        FileNotFoundError, match=r"names 'epoch=0002', .*\(there are \['epoch=0001-score=0.500'\]\)"
    ):
        find_checkpoint(tmp_path)


# Latest and best


def test_before_the_first_there_is_none(tmp_path):
    store = store_at(tmp_path / "new" / "checkpoints")
    assert store.latest() is None
    assert store.best() == []


def test_keeps_the_best_and_the_latest(tmp_path):
    store = store_at(tmp_path, k=2)
    for epoch, score in enumerate([0.1, 0.9, 0.5, 0.8, 0.2]):
        save(store, epoch, score)
    assert epochs(store.best()) == [1, 3]
    assert names(tmp_path) == {
        "latest", "epoch=0001-score=0.900", "epoch=0003-score=0.800", "epoch=0004-score=0.200",
    }  # fmt: skip
    assert_resumable(tmp_path, 4)
    assert [path.parent.name for path in tmp_path.glob("*/training_state.pt")] == ["epoch=0004-score=0.200"]


def test_least_is_best_when_asked(tmp_path):
    store = store_at(tmp_path, mode="min", k=2)
    for epoch, score in enumerate([0.1, 0.9, 0.5, 0.8]):
        save(store, epoch, score)
    assert epochs(store.best()) == [0, 2]


scores = st.none() | st.floats(-5, 5) | st.just(float("nan"))


@settings(max_examples=25, deadline=None)
@given(st.lists(scores, min_size=1, max_size=7), st.integers(0, 3), st.sampled_from(["max", "min"]))
def test_best_are_those_of_sorting_everything_also_when_reopened_each_time(tmp_path_factory, values, k, mode):
    folder = tmp_path_factory.mktemp("store")
    for epoch, score in enumerate(values):
        save(store_at(folder, mode=mode, k=k), epoch, score)
    sign = -1 if mode == "max" else 1
    ranked = sorted(
        (sign * score, epoch)
        for epoch, score in enumerate(values)
        if score is not None and not np.isnan(score)
    )
    assert epochs(store_at(folder, mode=mode, k=k).best()) == [epoch for _, epoch in ranked[:k]]
    assert_resumable(folder, len(values) - 1)
    kept = {epoch for _, epoch in ranked[:k]} | {len(values) - 1}
    assert len(names(folder) - {"latest"}) == len(kept)


def test_of_equal_scores_the_earlier_is_best(tmp_path):
    store = store_at(tmp_path, k=2)
    for epoch in range(4):
        save(store, epoch, 0.5)
    assert epochs(store.best()) == [0, 1]


def test_of_equal_scores_the_earlier_is_best_beyond_9999_epochs(tmp_path):
    store = store_at(tmp_path, k=1)
    for epoch in (9999, 10_000):
        save(store, epoch, 0.5)
    assert epochs(store.best()) == [9999]


def test_without_the_monitored_metric_only_the_latest_is_kept(tmp_path):
    store = store_at(tmp_path)
    for epoch in range(3):
        save(store, epoch, train_loss=0.1)
    assert store.best() == []
    assert names(tmp_path) == {"latest", "epoch=0002"}


def test_folders_of_the_user_stay(tmp_path):
    store = store_at(tmp_path, k=1)
    (tmp_path / "my favourite").mkdir()
    for epoch in range(3):
        save(store, epoch, epoch / 10)
    assert (tmp_path / "my favourite").is_dir()


def test_an_unknown_mode_is_refused(tmp_path):
    with pytest.raises(ValueError, match="mode must be 'max' or 'min', got 'best'"):
        store_at(tmp_path, mode="best")


# Failing and being killed


def failing(error: Exception):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (torch, "save"),
        (checkpoint, "save_file"),
        (checkpoint.yaml, "safe_dump"),
        (os, "rename"),
        (os, "replace"),
        (os, "fsync"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__.rsplit(".")[-1],
)
def test_a_failed_write_leaves_the_latest_and_no_litter(tmp_path, monkeypatch, module, name):
    save(store_at(tmp_path), 1, 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, failing(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match=r"could not write checkpoint .*No space left.*are intact"):
            save(store_at(tmp_path), 2, 0.9)
    assert not [found for found in names(tmp_path) if found.startswith(atomic_write.TEMPORARY_PREFIX)]
    assert_resumable(tmp_path, 1)
    save(store_at(tmp_path), 2, 0.9)
    assert_resumable(tmp_path, 2)


def test_failing_weights_writer_reports_what_it_could_not_write(tmp_path, monkeypatch):
    """What torch raises on a full disk is no OSError."""
    monkeypatch.setattr(torch, "save", failing(RuntimeError("PytorchStreamWriter failed writing file")))
    with pytest.raises(OSError, match="could not write checkpoint .*PytorchStreamWriter"):
        save(store_at(tmp_path), 1)


def test_a_disk_that_is_really_full_leaves_the_latest(tmp_path):
    resource = pytest.importorskip("resource")
    save(store_at(tmp_path), 1, 0.5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    store = store_at(tmp_path)
    large = {"weight": torch.zeros(1_000_000)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the system refuses to write beyond
    try:
        with pytest.raises(OSError, match="could not write checkpoint"):
            store.save(2, CONFIG, large, {}, {})
        with pytest.raises(OSError, match="could not write checkpoint"):
            store.save(2, CONFIG, {}, {}, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_resumable(tmp_path, 1)


def test_leftovers_of_a_killed_process_are_removed_on_demand(tmp_path):
    save(store_at(tmp_path), 1, 0.5)
    litter = tmp_path / f"{atomic_write.TEMPORARY_PREFIX}abc"
    litter.mkdir()
    (litter / "metrics.json").write_text(json.dumps({"rollout/score": 99}))
    (tmp_path / f"{atomic_write.TEMPORARY_PREFIX}def").write_text("epoch=0009")
    store = store_at(tmp_path)
    assert epochs(store.best()) == [1], "nor do they count before"
    store.remove_leftovers()
    assert names(tmp_path) == {"latest", "epoch=0001-score=0.500"}
    assert epochs(store.best()) == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_at_any_file_operation_the_latest_stays(tmp_path):
    """Also where it saves under the name of the latest, as a control policy's run does when repeated."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.common.killed_saves", str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    kills = [int(number) for number in result.stdout.split()]
    assert len(kills) == 3
    assert min(kills) > 10

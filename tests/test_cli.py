"""The command lines, as a user types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.tiny_run import OVERRIDES, write_episodes


def run(*command: str, cwd: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=variables, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder as $DIFFUSION_POLICY_DATA, with invented episodes."""
    folder = tmp_path_factory.mktemp("data")
    write_episodes(folder / "pusht" / "pusht_cchi_v7_replay.zarr")
    return folder


@pytest.fixture(scope="module")
def trained_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run")
    overrides = [f"hydra.run.dir={output}", *OVERRIDES]
    result = run("train.py", "task=pusht_lowdim", *overrides, DIFFUSION_POLICY_DATA=str(data))
    assert result.returncode == 0, result.stderr
    assert "train: 100%" in result.stderr, "a progress bar"
    return output


@pytest.mark.sim
def test_train_then_evaluate(trained_run: Path, tmp_path: Path) -> None:
    options = ["-c", str(trained_run), "-o", str(tmp_path / "eval"), "--seeds", "100000:100003"]
    extra = ["--n_videos", "1", "--controls", "zero"]
    result = run("eval.py", *options, *extra, "policy.sampler.steps=1", "task.env_runner.n_envs=2")
    assert result.returncode == 0, result.stderr
    assert "| score |" in result.stdout
    assert "score of this policy minus this" in result.stdout
    assert "| zero | 1 x 3 |" in result.stdout
    log = json.loads((tmp_path / "eval" / "eval_log.json").read_text())
    assert log["metrics"]["score"]["n"] == log["n_seeds"] == 3
    assert log["overrides"] == ["policy.sampler.steps=1", "task.env_runner.n_envs=2"]
    assert log["provenance"]["packages"]["torch"]
    assert (tmp_path / "eval" / "media" / "100000.mp4").stat().st_size > 0

    again = run("eval.py", *options)
    assert (again.returncode, again.stdout) == (1, "")
    assert "add --overwrite" in again.stderr


@pytest.mark.sim
def test_an_evaluation_can_be_repeated(trained_run: Path, tmp_path: Path) -> None:
    episodes = []
    for name in ("a", "b"):
        options = ["-c", str(trained_run), "-o", str(tmp_path / name), "--seeds", "0:3"]
        assert run("eval.py", *options).returncode == 0
        episodes.append(json.loads((tmp_path / name / "episodes.json").read_text())["episodes"])
    assert episodes[0] == episodes[1]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train.py"], "Fetch them with `diffusion-policy data download pusht`"),
        (["train.py", "optimizer.lrr=1"], "Key 'lrr' is not in struct"),
        (["train.py", "task=pusht"], "Could not find 'task/pusht'"),
        (["train.py", "training.device=cuda:99"], "device 'cuda:99' is not available"),
        (["eval.py", "-c", "nowhere", "-o", "out"], "no checkpoint at nowhere"),
        (["eval.py", "-c", "{run}", "-o", "{out}", "--seeds", "5"], "seeds must be START:STOP"),
        (["eval.py", "-c", "{run}", "-o", "{out}", "policy.samplerr.steps=1"], "samplerr"),
        (["eval.py", "-c", "{run}", "-o", "{out}", "policy._target_=os.system"], "asks for 'os.system'"),
        (["eval.py", "-c", "{run}", "-o", "{out}", "policy.sampler.steps=1000"], "between 1 and"),
        (["eval.py", "-c", "{run}", "-o", "{out}", "policy.sampler.steps=eight"], "between 1 and"),
        (["eval.py", "-c", "{run}", "-o", "{out}", "--n_videos", "-1"], "n_videos at least 0, got 50 and -1"),
    ],
)
def test_mistakes_are_explained_in_a_line(
    trained_run: Path, tmp_path: Path, command: list[str], message: str
) -> None:
    arguments = [part.format(run=trained_run, out=tmp_path / "out") for part in command]
    if command[0] == "train.py":
        arguments.append(f"hydra.run.dir={tmp_path}")
    result = run(*arguments, DIFFUSION_POLICY_DATA=str(tmp_path))
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_another_data_set_is_refused_on_resuming(trained_run: Path, data: Path, tmp_path: Path) -> None:
    write_episodes(tmp_path / "pusht" / "pusht_cchi_v7_replay.zarr", n_episodes=6)
    overrides = [f"hydra.run.dir={trained_run}", *OVERRIDES]
    result = run("train.py", *overrides, DIFFUSION_POLICY_DATA=str(tmp_path))
    assert result.returncode == 1
    assert "this run differs in the data" in result.stderr


def test_the_installed_command_lists_its_commands() -> None:
    program = "import sys; sys.argv[0] = 'diffusion-policy'; from diffusion_policy.cli import main; main()"
    result = run("-c", program, "--help")
    assert (result.returncode, "{train,eval,compare,report,data}" in result.stdout) == (0, True)
    assert run("-c", program, "tarin").returncode == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.checkpoint_every=0", "training.checkpoint_every must be an integer or null of at least 1"),
        ("training.num_epochs=ten", "training.num_epochs must be an integer of at least 0, got 'ten'"),
        ("training.n_rollouts=500", "training.n_rollouts must be at most 200"),
        ("training.seed=abc", "training.seed must be an integer of at least 0, got 'abc'"),
        ("training.n_threads=0", "training.n_threads must be an integer or null of at least 1, got 0"),
        ("checkpoint.monitor_key=val_los", "checkpoint.monitor_key 'val_los' is never logged"),
        ("checkpoint.monitor_key=val_loss", "less val_loss is better: set checkpoint.mode=min"),
        ("dataloader.batches_per_epoch=0", "batches_per_epoch must be null or at least 1, got 0"),
        ("task.dataset.val_ratio=1.5", "val_ratio must be at most 1, got 1.5"),
        ("model.down_dims=[16,30]", "down_dims must be multiples of n_groups=8"),
        ("training.num_epochs=5", "this run differs in training.num_epochs"),
        ("model.down_dims=[16,64]", "this run differs in policy.model.down_dims"),
        ("training.resume=false", "holds a run and training.resume is false"),
        ("task.dataset.max_train_episodes=2", "differs in task.dataset.max_train_episodes"),
        ("training.gradient_accumulate_every=2", "differs in training.gradient_accumulate_every"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_training(
    trained_run: Path, data: Path, override: str, message: str
) -> None:
    before = sorted(path.name for path in (trained_run / "checkpoints").iterdir())
    overrides = [f"hydra.run.dir={trained_run}", *OVERRIDES, override]
    result = run("train.py", *overrides, DIFFUSION_POLICY_DATA=str(data))
    assert result.returncode == 1
    assert message in result.stderr
    assert sorted(path.name for path in (trained_run / "checkpoints").iterdir()) == before


@pytest.mark.parametrize("override", ["sampler.steps=8", "n_action_steps=4", "policy.sampler.steps"])
def test_an_override_without_effect_is_refused(trained_run: Path, tmp_path: Path, override: str) -> None:
    result = run("eval.py", "-c", str(trained_run), "-o", str(tmp_path / "out"), "--seeds", "0:2", override)
    assert result.returncode == 1
    assert "would have no effect" in result.stderr or "must be NAME=VALUE" in result.stderr

"""The command lines, as a user types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

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
    assert (log["sampler"], log["steps"]) == (None, None)
    assert log["provenance"]["packages"]["torch"]
    assert (tmp_path / "eval" / "media" / "100000.mp4").stat().st_size > 0

    again = run("eval.py", *options)
    assert (again.returncode, again.stdout) == (1, "")
    assert "add --overwrite" in again.stderr


@pytest.mark.sim
def test_evaluate_with_another_sampler(trained_run: Path, tmp_path: Path) -> None:
    options = ["-c", str(trained_run), "--seeds", "0:2", "--sampler", "heun"]
    out = tmp_path / "eval"
    result = run("eval.py", *options, "-o", str(out), "--steps", "3")
    assert result.returncode == 0, result.stderr
    log = json.loads((out / "eval_log.json").read_text())
    assert (log["sampler"], log["steps"]) == ("heun", 3)
    sampler = yaml.safe_load((out / "config.yaml").read_text())["policy"]["sampler"]
    assert (sampler["_target_"].rpartition(".")[2], sampler["steps"]) == ("sample_heun", 3)
    assert "changed by sampler heun steps 3" in (out / "report.html").read_text()

    refused = run("eval.py", *options, "-o", str(tmp_path / "other"), "--steps", "101")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "num_train_timesteps=100, got 101" in refused.stderr
    assert not (tmp_path / "other").exists()


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
        (["train.py", "optimizer.lrr=1"], "there is no 'lrr' in optimizer; did you mean lr? It has"),
        (["train.py", "task=pusht"], "Could not find 'task/pusht'"),
        (["train.py", "horizon=[8"], "no viable alternative at input '[8'"),
        (["train.py", "horizon=${steps}"], "Interpolation key 'steps' not found"),
        (["train.py", "policy=flow_unet", "sampler=heun"], "policy=flow_unet has a sampler of its own"),
        (["train.py", "policy=zero", "model.kernel_size=3"], "policy=zero has no model"),
        (["train.py", "hydra.run.dir={file}/run"], "a file is in the way: remove it, or choose another path"),
        (["eval.py", "-c", "nowhere", "-o", "out"], "no checkpoint at nowhere"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(tmp_path: Path, command: list[str], message: str) -> None:
    """What is said of other bad input is tested without starting a process, in `test_bad_*.py`."""
    file = tmp_path / "notes.txt"
    file.write_text("hello")
    arguments = [part.replace("{file}", str(file)) for part in command]
    if command[0] == "train.py":
        arguments.insert(1, f"hydra.run.dir={tmp_path / 'run'}")
    result = run(*arguments, DIFFUSION_POLICY_DATA=str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_installed_command_lists_its_commands() -> None:
    program = "import sys; sys.argv[0] = 'diffusion-policy'; from diffusion_policy.cli import main; main()"
    result = run("-c", program, "--help")
    assert (result.returncode, "{train,eval,compare,tune-sampler,report,data}" in result.stdout) == (0, True)
    assert run("-c", program, "tarin").returncode == 2

"""A run that is killed at any instant ends as if it had not been."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.common.json_logger import read_json_log
from diffusion_policy.workspace.train_workspace import train
from tests.conftest import REPOSITORY
from tests.tiny_run import tiny_config, write_episodes
from tests.workspace.killed_runs import OVERRIDES


@pytest.mark.sim
def test_twenty_kills_change_nothing(tmp_path: Path) -> None:
    data = write_episodes(tmp_path / "episodes.zarr")
    train(tiny_config(data, *OVERRIDES), str(tmp_path / "whole"))

    command = [
        sys.executable,
        "-m",
        "tests.workspace.killed_runs",
        str(data),
        str(tmp_path / "killed"),
        "0",
        "20",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=200
    )
    assert result.returncode == 0, result.stderr
    in_checkpoint = int(re.search(r"(\d+) while a checkpoint", result.stdout).group(1))  # type: ignore[union-attr]
    assert 5 <= in_checkpoint <= 15, f"the kills should hit both training and writing: {result.stdout}"

    whole, killed = (find_checkpoint(tmp_path / name) for name in ("whole", "killed"))
    for name, tensor in whole.weights().items():
        assert torch.equal(killed.weights()[name], tensor), name
    for state in (whole.training_state(), killed.training_state()):
        assert state["global_step"] == 25 * 5
    logs = [read_json_log(tmp_path / name / "logs.json.txt") for name in ("whole", "killed")]
    for record in logs[0] + logs[1]:
        del record["elapsed_s"]
    assert logs[0] == logs[1]
    leftovers = list((tmp_path / "killed" / "checkpoints").glob(".tmp-*"))
    assert leftovers == []

"""Train, be killed, go on: a script, because only a single-threaded process of its own can fork safely.

`python -m tests.workspace.killed_runs DATA OUTPUT SEED N_KILLS` forks a child that trains and kills it (SIGKILL)
after a random time, N_KILLS times; every second one while it writes a checkpoint, slowed down so that the kill
can fall between any two of its parts. Then one child may finish. Prints how many kills hit a checkpoint.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from diffusion_policy.common import checkpoint
from diffusion_policy.workspace.train_workspace import train
from tests.tiny_run import tiny_config

OVERRIDES = ("training.num_epochs=25", "training.sample_every=null", "training.val_every=null")


def slow_down_checkpoints(marker: Path) -> None:
    """Wait after each part of a checkpoint, with `marker` in place while one is being written."""
    atomic_directory, replace, save_file = checkpoint.atomic_directory, os.replace, checkpoint.save_file

    def slowly(function):
        def call(*arguments, **keywords):
            time.sleep(0.02)
            result = function(*arguments, **keywords)
            time.sleep(0.02)
            return result

        return call

    save = checkpoint.CheckpointStore.save

    def marked_save(*arguments, **keywords):
        marker.touch()
        result = save(*arguments, **keywords)
        marker.unlink()
        return result

    checkpoint.CheckpointStore.save = marked_save
    checkpoint.save_file = slowly(save_file)
    checkpoint.atomic_directory = atomic_directory
    os.replace = slowly(replace)
    os.rename = slowly(os.rename)
    torch.save = slowly(torch.save)


def run_child(data: Path, output: Path, marker: Path, slow: bool) -> int:
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as silence:
            os.dup2(silence.fileno(), 2)
            if slow:
                slow_down_checkpoints(marker)
            train(tiny_config(data, *OVERRIDES), str(output))
        os._exit(0)
    return child


def wait_for(path: Path, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear within {timeout_s} s"
        time.sleep(0.002)


def main(data: Path, output: Path, seed: int, n_kills: int) -> None:
    draws = random.Random(seed)
    marker = output.parent / "writing"
    in_checkpoint = 0
    for kill in range(n_kills):
        child = run_child(data, output, marker, slow=kill % 2 == 1)
        if kill % 2 == 1:
            wait_for(marker)
        time.sleep(draws.uniform(0.0, 0.25 if kill % 2 == 1 else 0.8))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        in_checkpoint += marker.exists()
        marker.unlink(missing_ok=True)
    child = run_child(data, output, marker, slow=False)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the last child ended with status {status}"
    print(f"{n_kills} kills, {in_checkpoint} while a checkpoint was written")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

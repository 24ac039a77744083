"""Kill `CheckpointStore.save` at every file operation that Python makes, and look at what is left.

A program that test_checkpoint.py runs: `python -m tests.common.killed_saves FOLDER`. In each scenario a child
process repeats the save and ends without any clean-up at its n-th file operation, for n = 0, 1, ... until a
child gets through. Prints the numbers of kills; raises where the latest checkpoint cannot be loaded or is
neither the old nor the new one.
"""

import os
import shutil
import sys
from pathlib import Path

import torch

from diffusion_policy.common.checkpoint import CheckpointStore

FILE_OPERATIONS = ("open", "os.", "shutil.", "tempfile.")
SCENARIOS = {"first": [], "next": [1, 2, 3], "again": [1, 2, 3, 4]}  # epochs saved before epoch 4


def save(store: CheckpointStore, epoch: int, generation: str) -> None:
    weights = {"weight": torch.full((4,), float(epoch))}
    state = {"epoch": epoch, "generation": generation}
    store.save(epoch, {"generation": generation}, weights, {"score": -float(epoch)}, state)


def open_store(folder: Path) -> CheckpointStore:
    return CheckpointStore(folder, "score", k=2)


def save_and_die(folder: Path, operations: int) -> None:
    """Save epoch 4 and end the process at its file operation number `operations`."""
    store = open_store(folder)
    count = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        if event.startswith(FILE_OPERATIONS):
            if count == operations:
                os._exit(9)
            count += 1

    sys.addaudithook(hook)
    save(store, 4, "new")
    os._exit(0)


def check(folder: Path, scenario: str) -> None:
    """The latest is whole and the run can go on from it."""
    store = open_store(folder)
    latest = store.latest()
    if latest is None:
        assert scenario == "first", "the latest checkpoint is lost"
    else:
        state = latest.training_state()
        expected = {"new": 4, "old": max(SCENARIOS[scenario], default=0)}
        assert state["epoch"] == expected[state["generation"]]
        assert latest.config() == {"generation": state["generation"]}
        assert torch.equal(latest.weights()["weight"], torch.full((4,), float(state["epoch"])))
    for checkpoint in store.best():
        checkpoint.weights()
    store.remove_leftovers()
    save(store, 5, "new")
    latest = store.latest()
    assert latest is not None
    assert latest.training_state()["epoch"] == 5
    assert len(store.best()) == min(2, len(list(folder.glob("epoch=*"))))
    with_state = list(folder.glob("*/training_state.pt"))
    assert with_state == [latest.path / "training_state.pt"]
    assert not list(folder.glob(".tmp-*"))


def kill_everywhere(folder: Path, scenario: str) -> int:
    """Return the number of kills."""
    template = folder / "template"
    store = open_store(template)
    for epoch in SCENARIOS[scenario]:
        save(store, epoch, "old")
    kills = 0
    while True:
        trial = folder / f"killed-{kills}"
        shutil.copytree(template, trial)
        child = os.fork()
        if child == 0:
            save_and_die(trial, kills)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        try:
            check(trial, scenario)
        except Exception as error:
            error.add_note(f"scenario {scenario!r}, after a kill at file operation {kills}")
            raise
        if code == 0:
            return kills
        assert code == 9, f"the save itself failed with code {code}"
        kills += 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(*(kill_everywhere(Path(sys.argv[1]) / scenario, scenario) for scenario in SCENARIOS))

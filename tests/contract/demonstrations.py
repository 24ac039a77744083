"""Small demonstrations for the contract tests of tasks whose own are not here, by the class of their dataset.

A task that is not listed is tested with what its YAML names, and skipped where that is not there.
"""

from collections.abc import Callable
from pathlib import Path

from tests.dataset.kitchen_episodes import write_kitchen
from tests.tiny_run import write_episodes


def _pusht(folder: Path) -> Path:
    return write_episodes(folder / "pusht.zarr", length=40, images=True)


def _kitchen(folder: Path) -> Path:
    return write_kitchen(folder / "kitchen.zarr", length=40)


WRITERS: dict[str, Callable[[Path], Path]] = {
    "PushTLowdimDataset": _pusht,
    "PushTImageDataset": _pusht,
    "KitchenLowdimDataset": _kitchen,
}

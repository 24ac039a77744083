"""Shared fixtures: where recorded data lie, and what to do when they do not."""

import os
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


# Tensors in tests are small: more threads only wait for each other. Subprocesses inherit this.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadline: a busy machine is no failure.
hypothesis.settings.register_profile("repository", deadline=None)
hypothesis.settings.load_profile("repository")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recorded demonstrations of many tasks and formats, where users keep theirs or beside the repository."""
    places = [Path(os.environ.get("DIFFUSION_POLICY_DATA", REPOSITORY / "data")), SHARED / "data"]
    for place in places:
        if (place / "robomimic").exists() and (place / "lerobot").exists():
            return place
    pytest.skip(f"recorded demonstrations not found in {' or '.join(map(str, places))}")


@pytest.fixture(scope="session")
def pusht_zarr() -> Path:
    """The human Push-T demonstrations, looked for where users keep them and beside the repository."""
    places = [
        Path(os.environ.get("DIFFUSION_POLICY_DATA", REPOSITORY / "data"))
        / "pusht/pusht_cchi_v7_replay.zarr",
        SHARED / "data/pusht/pusht_cchi_v7_replay.zarr",
    ]
    for place in places:
        if place.exists():
            return place
    pytest.skip(f"human Push-T demonstrations not found at {' or '.join(map(str, places))}")


@pytest.fixture(scope="session")
def kitchen_zarr() -> Path:
    """The 19 human demonstrations in the kitchen, looked for where users keep them and beside the repository."""
    places = [
        Path(os.environ.get("DIFFUSION_POLICY_DATA", REPOSITORY / "data")) / "kitchen/kitchen_complete.zarr",
        SHARED / "data/kitchen/kitchen_complete.zarr",
    ]
    for place in places:
        if place.exists():
            return place
    pytest.skip(f"human kitchen demonstrations not found at {' or '.join(map(str, places))}")

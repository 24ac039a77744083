"""Tests for content_hash.py."""

import numpy as np
import pytest

from diffusion_policy.common import content_hash as module
from diffusion_policy.common.content_hash import content_hash
from diffusion_policy.common.replay_buffer import ReplayBuffer

ENDS = np.array([2, 5])


@pytest.fixture
def arrays():
    return {"action": np.arange(10, dtype=np.float32).reshape(5, 2), "image": np.ones((5, 4, 4), np.uint8)}


def test_storage_does_not_matter(arrays, tmp_path, monkeypatch):
    expected = content_hash(arrays, ENDS)
    buffer = ReplayBuffer.create_empty_numpy()
    for rows in (slice(0, 2), slice(2, 5)):
        buffer.add_episode({key: values[rows] for key, values in arrays.items()})
    buffer.save_to_path(tmp_path / "a.zarr", chunks={"action": (3, 1)}, compressors="disk")
    stored = ReplayBuffer.create_from_path(tmp_path / "a.zarr")
    assert content_hash(stored.data, stored.episode_ends) == expected
    assert content_hash(dict(reversed(arrays.items())), ENDS.astype(np.int32)) == expected
    assert content_hash({**arrays, "action": arrays["action"].astype(">f4")}, ENDS) == expected
    monkeypatch.setattr(module, "BYTES_AT_ONCE", 1)
    assert content_hash(stored.data, ENDS) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.update(action=arrays["action"].astype(np.float64)),
        lambda arrays: arrays.update(action=arrays["action"].reshape(5, 2, 1)),
        lambda arrays: arrays.update(state=arrays.pop("action")),
        lambda arrays: arrays["action"].__setitem__((3, 1), 0.5),
        lambda arrays: arrays.pop("image"),
    ],
)
def test_content_matters(arrays, change):
    before = content_hash(arrays, ENDS)
    assert content_hash(arrays, np.array([3, 5])) != before
    change(arrays)
    assert content_hash(arrays, ENDS) != before

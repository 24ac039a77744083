"""Push-T images: recorded, or drawn from states."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.pusht_image_dataset import PushTImageDataset
from tests.conftest import REPOSITORY

SHAPE_META = {
    "obs": {"image": {"shape": [3, 96, 96], "type": "rgb"}, "agent_pos": {"shape": [2]}},
    "action": {"shape": [2]},
}
LENGTHS = {"horizon": 16, "n_obs_steps": 2, "n_action_steps": 8}
MOST_ADDED_GIB = 0.8


def make(path, **changes):
    return PushTImageDataset(path, **{"shape_meta": SHAPE_META, **LENGTHS, **changes})


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Two episodes with images as floats."""
    random = np.random.default_rng(0)
    buffer = ReplayBuffer.create_empty_numpy()
    for length in (20, 30):
        buffer.add_episode(
            {
                "img": random.integers(0, 256, (length, 96, 96, 3)).astype(np.float32),
                "state": random.uniform(0, 512, (length, 5)).astype(np.float32),
                "action": random.uniform(0, 512, (length, 2)).astype(np.float32),
            }
        )
    buffer.save_to_path(tmp_path / "a.zarr", chunks={"img": (4, 96, 96, 3)})
    return tmp_path / "a.zarr"


def grey(states: np.ndarray) -> np.ndarray:
    """Each state as an image of one colour."""
    return np.broadcast_to((states[:, :1, None, None] / 2).astype(np.uint8), (len(states), 96, 96, 3)).copy()


@pytest.mark.parametrize("image_storage", ["memory", "disk"])
def test_recorded_images(recorded, image_storage):
    dataset = make(recorded, image_storage=image_storage)
    episode, buffer = dataset.episode(1), ReplayBuffer.copy_from_path(recorded)
    images = buffer["img"][20:].transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_array_equal(episode["obs"]["image"], images)
    np.testing.assert_array_equal(episode["obs"]["agent_pos"], buffer["state"][20:, :2])
    np.testing.assert_array_equal(episode["action"], buffer["action"][20:])
    assert list(dataset.batch(np.arange(3), 2)["obs"]) == ["image", "agent_pos"]
    assert dataset.get_normalizer()["image"].normalize(images[:1, :, :1, :1]).min() >= -1


def test_images_drawn_from_states():
    dataset = make("bundled:pusht_generated", render=grey)
    episode = dataset.episode(3)
    expected = (episode["obs"]["agent_pos"][:, 0] / 2).astype(np.uint8)
    np.testing.assert_array_equal(np.rint(episode["obs"]["image"][:, 2, 50, 50] * 255), expected)


def test_recorded_images_are_not_drawn(recorded):
    dataset = make(recorded, render=lambda states: pytest.fail("there are images"))
    assert dataset.content_hash() == make(recorded).content_hash()


class TestMistakes:
    def test_no_images_and_nothing_that_draws(self):
        with pytest.raises(ValueError, match="no array 'img' and render is None; give a function"):
            make("bundled:pusht_generated")

    @pytest.mark.parametrize(
        ("render", "message"),
        [
            (
                lambda states: grey(states)[:-1],
                r"one uint8 image per state, \(\d+, H, W, 3\), got uint8 of shape",
            ),
            (lambda states: np.zeros((len(states), 1, 1, 3)), "got float64 of shape"),
            (
                lambda states: grey(states)[:, :48],
                r"\(3, 48, 96\) per step, but shape_meta says \(3, 96, 96\)",
            ),
        ],
    )
    def test_what_is_drawn(self, render, message):
        with pytest.raises(ValueError, match=message):
            make("bundled:pusht_generated", render=render)

    def test_drawn_images_are_in_memory(self):
        with pytest.raises(
            ValueError, match="image_storage is 'disk', but the images of key 'image' are in memory"
        ):
            make("bundled:pusht_generated", render=grey, image_storage="disk")

    def test_missing_data(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"data download pusht(.|\n)*task=pusht_image_generated"):
            make(tmp_path / "none.zarr")

    def test_a_camera_that_is_not_there(self, recorded):
        obs = {**SHAPE_META["obs"], "wrist": {"shape": [3, 96, 96], "type": "rgb"}}
        with pytest.raises(ValueError, match=r"has no \['wrist'\], which shape_meta names; it has \['image'"):
            make(recorded, shape_meta=SHAPE_META | {"obs": obs})


MEASURE = """
import json, resource, sys
import numpy as np, torch
from diffusion_policy.dataset.pusht_image_dataset import PushTImageDataset

def gib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)

path, shape_meta, lengths = json.loads(sys.argv[1])
before = gib()
dataset = PushTImageDataset(path, shape_meta, **lengths, val_ratio=0.02)
added = [gib() - before]
dataset.content_hash()
dataset.get_normalizer()
dataset.get_validation_dataset().batch(np.arange(64), 2)
for episode in dataset.train_episodes():
    pass
added.append(gib() - before)
print(json.dumps(added))
"""


@pytest.mark.slow
def test_peak_memory_of_the_human_demonstrations(pusht_zarr: Path) -> None:
    """0.66 GiB of pixels; on disk they are 2.8 GB of floats. Nothing that is done with them later copies them."""
    arguments = json.dumps([str(pusht_zarr), SHAPE_META, LENGTHS])
    command = [sys.executable, "-c", MEASURE, arguments]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loading, later = json.loads(result.stdout)
    assert 0.6 < loading <= later <= MOST_ADDED_GIB, f"added {loading:.3f} and later {later:.3f} GiB"

"""Training batches from any format, and the cache of decoded images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset import episode_cache
from diffusion_policy.dataset.episode_cache import fingerprint, load_cached
from diffusion_policy.dataset.episode_dataset import EpisodeDataset
from diffusion_policy.dataset.episode_files import load_episodes, save_episodes
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from tests.dataset.example_episodes import hash_of, reaching_episodes

SHAPE_META = {
    "obs": {"state": {"shape": [3], "type": "low_dim"}, "camera": {"shape": [3, 16, 16], "type": "rgb"}},
    "action": {"shape": [3]},
}
LENGTHS = {"horizon": 8, "n_obs_steps": 2, "n_action_steps": 4}
KEYS = ["state", "camera", "action"]


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.zarr", None), ("a.npz", None), ("a.hdf5", None), ("a", "lerobot"), ("a", "lerobot-v2.1")],
)
@pytest.mark.parametrize("cached", [False, True])
def test_every_format_gives_the_same_batches(
    tmp_path: Path, name: str, format: str | None, cached: bool
) -> None:
    buffer = reaching_episodes(4, length=12)
    expected = SequenceDataset(buffer, SHAPE_META, **LENGTHS)
    save_episodes(buffer, tmp_path / name, format)
    cache_dir = tmp_path / "cache" if cached else None
    for _ in range(1 + cached):
        dataset = EpisodeDataset(tmp_path / name, SHAPE_META, **LENGTHS, cache_dir=cache_dir)
        assert dataset.content_hash() == expected.content_hash()
    rows = np.arange(len(expected))
    ours, theirs = dataset.batch(rows, 2), expected.batch(rows, 2)
    assert torch.equal(ours["obs"]["camera"], theirs["obs"]["camera"])
    assert torch.equal(ours["action"], theirs["action"])
    assert (tmp_path / "cache").exists() == (cached and format is not None), "only slow formats need one"


def test_the_split_and_another_action(tmp_path: Path) -> None:
    buffer = reaching_episodes(5, length=12, velocity=np.random.default_rng(0).normal(size=(60, 2)))
    save_episodes(buffer, tmp_path / "a.npz")
    meta = {"obs": {"state": {"shape": [3]}}, "action": {"shape": [2]}}
    dataset = EpisodeDataset(
        tmp_path / "a.npz", meta, **LENGTHS, val_ratio=0.4, max_train_episodes=2, action_key="velocity"
    )
    assert (dataset.val_mask.sum(), dataset.train_mask.sum()) == (2, 2)
    velocity = buffer.get_episode(1)["velocity"].astype(np.float32)
    np.testing.assert_array_equal(dataset.episode(1)["action"], velocity)


def test_a_key_that_is_not_there(tmp_path: Path) -> None:
    save_episodes(reaching_episodes(2), tmp_path / "a.npz")
    meta = {"obs": {"pose": {"shape": [3]}}, "action": {"shape": [3]}}
    with pytest.raises(ValueError, match=r"no key \['pose'\]; it holds \['action', 'camera', 'state'\]"):
        EpisodeDataset(tmp_path / "a.npz", meta, **LENGTHS)


class TestCache:
    @pytest.fixture
    def data_set(self, tmp_path: Path) -> Path:
        save_episodes(reaching_episodes(2, length=6), tmp_path / "set", "lerobot")
        return tmp_path / "set"

    def test_images_are_decoded_once(
        self, data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = load_cached(data_set, KEYS, tmp_path / "cache")
        assert hash_of(first) == hash_of(load_episodes(data_set))
        monkeypatch.setattr(
            episode_cache.detect_format(data_set).__class__, "load", lambda *_: pytest.fail("decoded again")
        )
        assert hash_of(load_cached(data_set, KEYS, tmp_path / "cache")) == hash_of(first)

    def test_changed_data_are_read_anew(self, data_set: Path, tmp_path: Path) -> None:
        before = fingerprint(data_set, KEYS)
        assert before == fingerprint(data_set, KEYS[::-1]) != fingerprint(data_set, KEYS[1:])
        load_cached(data_set, KEYS, tmp_path / "cache")
        info = data_set / "meta/info.json"
        info.write_text(info.read_text().replace('"fps": 10', '"fps": 20'))
        assert fingerprint(data_set, KEYS) != before
        assert load_cached(data_set, KEYS, tmp_path / "cache").meta["fps"] == 20

    def test_a_damaged_cache_is_named(self, data_set: Path, tmp_path: Path) -> None:
        load_cached(data_set, KEYS, tmp_path / "cache")
        cache = next((tmp_path / "cache").glob("*.zarr"))
        next(file for file in (cache / "data/camera").iterdir() if not file.name.startswith(".")).unlink()
        with pytest.raises(ValueError, match="the cache .* is damaged; delete it to make it anew"):
            load_cached(data_set, KEYS, tmp_path / "cache")

    def test_a_failure_leaves_no_cache(
        self, data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            ReplayBuffer, "save_to_path", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
        )
        with pytest.raises(OSError, match="disk full"):
            load_cached(data_set, KEYS, tmp_path / "cache")
        assert not list((tmp_path / "cache").glob("*.zarr"))

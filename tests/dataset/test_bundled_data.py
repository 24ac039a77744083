"""Tests for bundled_data.py, and for the demonstrations that come with the package."""

from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.bundled_data import data_path
from diffusion_policy.env.pusht.pusht_env import PushTEnv

GENERATED = "bundled:pusht_generated"


def test_a_path_of_the_users_stays_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert (
        data_path("~/a.zarr") == data_path("a.zarr") == data_path(tmp_path / "a.zarr") == tmp_path / "a.zarr"
    )


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'bundled:pushed'.*\['bundled:pusht_generated'\]"):
        data_path("bundled:pushed")


@pytest.fixture(scope="module")
def generated() -> ReplayBuffer:
    return ReplayBuffer.copy_from_path(data_path(GENERATED))


def test_generated_set_is_small_and_large_enough(generated: ReplayBuffer) -> None:
    assert data_path(GENERATED).stat().st_size <= 2_000_000
    assert generated.n_episodes >= 150
    assert generated.episode_lengths.max() <= 300
    assert np.median(generated.episode_lengths) <= 150


def test_generated_set_starts_from_seeds_of_its_own(generated: ReplayBuffer) -> None:
    seeds = generated.meta["seed"]
    assert len(np.unique(seeds)) == generated.n_episodes
    assert seeds.min() >= 500_000


def test_generated_set_solves_the_task(generated: ReplayBuffer) -> None:
    assert (generated.meta["final_coverage"] > 0.95).all()
    for index in (0, generated.n_episodes // 2, generated.n_episodes - 1):
        check_replay(generated, index)


@pytest.mark.slow
def test_all_of_the_generated_set_solves_the_task(generated: ReplayBuffer) -> None:
    for index in range(generated.n_episodes):
        check_replay(generated, index)


def check_replay(buffer: ReplayBuffer, index: int) -> None:
    """The actions from the seed's start lead through the recorded states to success."""
    env = PushTEnv()
    episode = buffer.get_episode(index)
    state, _ = env.reset(seed=int(buffer.meta["seed"][index]), options={"legacy": True})
    states = [state]
    for action in episode["action"]:
        state, _, success, _, info = env.step(action)
        states.append(state)
    np.testing.assert_array_equal(np.float32(states[:-1]), episode["state"], err_msg=f"episode {index}")
    assert success
    assert info["coverage"] == pytest.approx(buffer.meta["final_coverage"][index])

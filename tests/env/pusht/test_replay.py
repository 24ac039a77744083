"""The environment against the human demonstrations: same starts, states, rewards and images."""

import numpy as np
import pytest

from diffusion_policy.env.pusht.pusht_env import PushTEnv

from .replay import Demonstrations, replay

pytestmark = pytest.mark.sim
EPISODES = 206


@pytest.fixture(scope="module")
def demonstrations(pusht_zarr) -> Demonstrations:
    return Demonstrations.load(pusht_zarr)


def test_legacy_resets_are_the_recorded_starts(demonstrations):
    env = PushTEnv(legacy=True)
    assert len(demonstrations.episode_ends) == EPISODES
    for episode in range(EPISODES):
        state, _ = env.reset(seed=episode)
        recorded = demonstrations.state[demonstrations.rows(episode)[0]]
        np.testing.assert_array_equal(state.astype(np.float32), recorded, err_msg=f"episode {episode}")


def test_replayed_states_and_scores(demonstrations):
    """Every recorded state to the bit; scores as measured with coverage computed by shapely."""
    env = PushTEnv()
    max_rewards, final_rewards = [], []
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=episode, options={"legacy": True})
        rows = demonstrations.rows(episode)
        states, rewards = [observation], []
        for action in demonstrations.action[rows.start : rows.stop]:
            observation, reward, _, _, _ = env.step(action)
            states.append(observation)
            rewards.append(reward)
        recorded = demonstrations.state[rows.start : rows.stop]
        np.testing.assert_array_equal(np.float32(states[:-1]), recorded, err_msg=f"episode {episode}")
        max_rewards.append(max(rewards))
        final_rewards.append(rewards[-1])
    assert np.mean(max_rewards) == pytest.approx(0.94657, abs=5e-6)
    assert np.mean(final_rewards) == pytest.approx(0.94649, abs=5e-6)
    assert sum(reward == 1 for reward in max_rewards) == 7


@pytest.mark.parametrize("episode", [0, 50, 65, 149, 192, 205])
def test_replayed_images_are_the_recorded_ones(demonstrations, episode):
    """50 starts with the agent inside the block; in 65, 149, 192 the block is forced into a wall."""
    differing = differing_images(demonstrations, episode, every=5 if episode in (0, 50, 205) else 1)
    assert differing == []


@pytest.mark.slow
@pytest.mark.parametrize("episode", range(EPISODES))
def test_all_replayed_images_are_the_recorded_ones(demonstrations, episode):
    assert differing_images(demonstrations, episode, every=1) == []


def differing_images(demonstrations: Demonstrations, episode: int, every: int) -> list[int]:
    """Rows, every so many, whose image is not the recorded one."""
    env = PushTEnv()
    rows = demonstrations.rows(episode)
    recorded = demonstrations.img[rows.start : rows.stop]
    return [
        row
        for row in replay(env, demonstrations, episode)
        if (row - rows.start) % every == 0
        and not np.array_equal(env.render_observation(), recorded[row - rows.start])
    ]

import numpy as np
import pytest

from diffusion_policy.env.pusht import block_keypoints
from diffusion_policy.env.pusht.pusht_env import PushTEnv
from diffusion_policy.env.pusht.pusht_keypoints_env import PushTKeypointsEnv

pytestmark = pytest.mark.sim


def test_observation_is_keypoints_then_agent():
    env, state_env = PushTKeypointsEnv(), PushTEnv()
    env.reset(seed=4)
    state_env.reset(seed=4)
    for action in np.random.default_rng(0).uniform(0, 512, (20, 2)):
        observation, reward, terminated, _, info = env.step(action)
        state, state_reward, state_terminated, _, _ = state_env.step(action)
        assert observation.shape == (20,)
        assert env.observation_space.contains(observation)
        np.testing.assert_allclose(observation[:18].reshape(9, 2), block_keypoints(state[2:]), atol=1e-9)
        np.testing.assert_array_equal(observation[18:], state[:2])
        np.testing.assert_array_equal(info["state"], state)
        assert (reward, terminated) == (state_reward, state_terminated)


def visible_shares(rate: float) -> np.ndarray:
    env = PushTKeypointsEnv(keypoint_visible_rate=rate)
    masks = [env.reset(seed=0)[1]["visible"]]
    masks += [env.step([256, 256])[4]["visible"] for _ in range(300)]
    for mask in masks:
        assert mask.shape == (20,)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask[0::2], mask[1::2])
        assert mask[18:].all()
    return np.mean(masks, axis=0)[:18]


def test_visible_rate():
    np.testing.assert_array_equal(visible_shares(1.0), 1)
    np.testing.assert_array_equal(visible_shares(0.0), 0)
    np.testing.assert_allclose(visible_shares(0.7), 0.7, atol=0.11)  # four standard errors of 301 draws


def test_hidden_keypoints_keep_their_values_and_the_seed_decides_the_mask():
    observation, _ = PushTKeypointsEnv().reset(seed=6)
    hiding = PushTKeypointsEnv(keypoint_visible_rate=0.5)
    hidden, info = hiding.reset(seed=6)
    np.testing.assert_array_equal(hidden, observation)
    expected = np.random.default_rng(6).random(9) < 0.5
    np.testing.assert_array_equal(info["visible"][:18:2], expected)
    np.testing.assert_array_equal(hiding.reset(seed=6)[1]["visible"], info["visible"])


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_rates_that_are_not_allowed(rate):
    with pytest.raises(ValueError, match="keypoint_visible_rate"):
        PushTKeypointsEnv(keypoint_visible_rate=rate)

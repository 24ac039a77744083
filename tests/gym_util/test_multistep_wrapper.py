import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_policy.gym_util.multistep_wrapper import MultiStepWrapper

from .toy_env import CountingEnv


def chunk(*rewards: float, truncate_last: bool = False) -> np.ndarray:
    actions = np.array([[reward, 0.0] for reward in rewards])
    if truncate_last:
        actions[-1, 1] = -1
    return actions


@pytest.mark.parametrize(
    ("n_obs_steps", "expected"), [(1, [3]), (2, [2, 3]), (4, [0, 1, 2, 3]), (6, [0, 0, 0, 1, 2, 3])]
)
def test_observations_are_stacked_oldest_first(n_obs_steps, expected):
    env = MultiStepWrapper(CountingEnv(), n_obs_steps, n_action_steps=3)
    observation, _ = env.reset()
    np.testing.assert_array_equal(observation, np.zeros((n_obs_steps, 1)))
    observation, *_ = env.step(chunk(0, 0, 0))
    np.testing.assert_array_equal(observation[:, 0], expected)
    assert env.observation_space.contains(observation)


def test_dict_observations():
    env = MultiStepWrapper(CountingEnv(observe_dict=True), n_obs_steps=2, n_action_steps=2)
    env.reset()
    observation, *_ = env.step(chunk(0, 0, 0))
    assert observation["picture"].shape == (2, 3, 4, 4)
    assert observation["picture"].dtype == np.uint8
    np.testing.assert_array_equal(observation["picture"][:, 0, 0, 0], [2, 3])
    np.testing.assert_array_equal(observation["count"], [[2], [3]])
    assert env.observation_space.contains(observation)
    assert env.action_space.shape == (2, 2)


@pytest.mark.parametrize("n_obs_steps", [1, 2, 5])
def test_only_images_that_are_seen_are_drawn(n_obs_steps):
    env = MultiStepWrapper(CountingEnv(observe_dict=True), n_obs_steps, n_action_steps=4)
    env.reset()
    drawn = []
    inner_step = env.env.step
    env.env.step = lambda action: drawn.append(env.unwrapped.draws_images) or inner_step(action)
    for n in (4, 1, 3):
        observation, *_ = env.step(np.zeros((n, 2)))
        np.testing.assert_array_equal(observation["picture"][:, 0, 0, 0], observation["count"][:, 0])
    assert drawn == [left <= n_obs_steps for n in (4, 1, 3) for left in range(n, 0, -1)]
    env.step(chunk(-1, 0, 0, 0))
    observation, _ = env.reset()
    assert not observation["picture"].any()  # drawn: the first count is 0


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=5))
def test_reward_is_the_greatest_of_the_episode(chunks):
    env = MultiStepWrapper(CountingEnv(), n_obs_steps=2, n_action_steps=4)
    env.reset()
    seen = []
    for rewards in chunks:
        _, reward, terminated, truncated, info = env.step(chunk(*rewards))
        seen += rewards
        assert reward == max(seen)
        assert info["rewards"] == rewards
        assert info["count"] == len(seen)
        assert (terminated, truncated) == (False, False)


def test_negative_rewards():
    class Costs(gymnasium.RewardWrapper):
        def reward(self, reward):
            return reward - 10

    env = MultiStepWrapper(Costs(CountingEnv()), n_obs_steps=1, n_action_steps=2)
    env.reset()
    assert env.step(chunk(0.25, 0.75))[1] == -9.25


def test_termination_drops_the_rest_of_the_chunk():
    env = MultiStepWrapper(CountingEnv(), n_obs_steps=2, n_action_steps=4)
    env.reset()
    observation, reward, terminated, truncated, info = env.step(chunk(0.5, -1, 0.9))
    assert (reward, terminated, truncated) == (0.5, True, False)
    assert info == {"count": 2, "rewards": [0.5, -1.0]}
    np.testing.assert_array_equal(observation[:, 0], [1, 2])


def test_truncation_by_the_environment():
    env = MultiStepWrapper(CountingEnv(), n_obs_steps=2, n_action_steps=4)
    env.reset()
    assert env.step(chunk(0.5, 0.5, truncate_last=True))[2:4] == (False, True)


def test_truncation_by_the_limit():
    env = MultiStepWrapper(CountingEnv(), n_obs_steps=1, n_action_steps=3, max_episode_steps=5)
    env.reset()
    assert env.step(chunk(0, 0, 0))[2:4] == (False, False)
    _, _, terminated, truncated, info = env.step(chunk(0, 0, 0))
    assert (terminated, truncated) == (False, True)
    assert info["count"] == 5


def test_an_ended_episode_cannot_be_stepped():
    env = MultiStepWrapper(CountingEnv(), n_obs_steps=1, n_action_steps=1)
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(chunk(0))
    env.reset()
    env.step(chunk(-1))
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        env.step(chunk(0))
    assert env.unwrapped.count == 1


def test_reset_forgets_the_episode():
    env = MultiStepWrapper(CountingEnv(), n_obs_steps=3, n_action_steps=1, max_episode_steps=2)
    env.reset()
    env.step(chunk(1, 1))
    observation, info = env.reset(seed=3, options={"a": 1})
    np.testing.assert_array_equal(observation, np.zeros((3, 1)))
    assert info == {"seed": 3, "options": {"a": 1}}
    _, reward, _, truncated, _ = env.step(chunk(0.25))
    assert (reward, truncated) == (0.25, False)


@pytest.mark.parametrize("shape", [(), (2,), (0, 2), (3, 3), (3, 2, 1)])
def test_actions_of_another_shape(shape):
    env = MultiStepWrapper(CountingEnv(), n_obs_steps=1, n_action_steps=3)
    env.reset()
    with pytest.raises(ValueError, match="actions have shape"):
        env.step(np.zeros(shape))
    assert env.unwrapped.count == 0


@pytest.mark.parametrize("name", ["n_obs_steps", "n_action_steps", "max_episode_steps"])
def test_arguments_below_one(name):
    arguments = {"n_obs_steps": 1, "n_action_steps": 1, "max_episode_steps": 1} | {name: 0}
    with pytest.raises(ValueError, match=name):
        MultiStepWrapper(CountingEnv(), **arguments)


def test_observations_that_cannot_be_stacked():
    env = CountingEnv()
    env.observation_space = Discrete(3)
    with pytest.raises(ValueError, match="observation_space"):
        MultiStepWrapper(env, 1, 1)

import gymnasium
import numpy as np
import pytest

import diffusion_policy.env  # noqa: F401, registers the environment
from diffusion_policy.env.pusht.pusht_env import PushTEnv
from diffusion_policy.env.pusht.pusht_image_env import PushTImageEnv
from diffusion_policy.env.pusht.renderer import render_states
from diffusion_policy.gym_util.multistep_wrapper import MultiStepWrapper

from .replay import Demonstrations

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("size", [96, 64])
def test_observation_is_the_scene_and_the_agent(size):
    env, state_env = PushTImageEnv(render_size=size), PushTEnv(render_size=size)
    env.reset(seed=4)
    state_env.reset(seed=4)
    for action in np.random.default_rng(0).uniform(0, 512, (20, 2)):
        observation, reward, terminated, _, info = env.step(action)
        state, state_reward, state_terminated, _, _ = state_env.step(action)
        assert env.observation_space.contains(observation)
        assert list(observation) == ["image", "agent_pos"]
        scene = state_env.render_observation()  # without the action
        np.testing.assert_array_equal(observation["image"], np.moveaxis(scene, -1, 0) / np.float32(255))
        np.testing.assert_array_equal(observation["agent_pos"], state[:2])
        np.testing.assert_array_equal(info["state"], state)
        assert (reward, terminated) == (state_reward, state_terminated)
        np.testing.assert_array_equal(env.render(), state_env.render())


def test_observations_share_no_memory():
    env = PushTImageEnv()
    first, info = env.reset(seed=0)
    for value in first.values():
        value[:] = 0
    second, _ = env.reset(seed=0)
    assert second["image"].any()
    assert info["pos_agent"].any()


def test_observed_images_are_the_recorded_ones(pusht_zarr):
    demonstrations = Demonstrations.load(pusht_zarr)
    env = gymnasium.make("diffusion_policy/PushTImage-v0", legacy=True).unwrapped
    observation, _ = env.reset(seed=7)
    rows = list(demonstrations.rows(7))[:40]
    for row, recorded in zip(rows, demonstrations.img[rows[0] : rows[-1] + 1], strict=True):
        np.testing.assert_array_equal(observation["image"], np.moveaxis(recorded, -1, 0) / np.float32(255))
        observation, *_ = env.step(demonstrations.action[row])


def test_images_drawn_from_states_lack_only_contacts():
    """The same to the bit where nothing touches; a few pixels differ where the agent pushes."""
    env = PushTImageEnv()
    env.reset(options={"state": [100, 60, 300, 300, 1]})
    states, images, touching = [], [], []
    for action in [(200, 60), (300, 200), (300, 330), (300, 400), (60, 60)] * 3:
        observation, *_, info = env.step(action)
        states.append(info["state"])
        images.append(np.moveaxis(observation["image"], 0, -1) * 255)
        touching.append(bool(env._running_physics().contact_segments()))
    drawn = render_states(np.array(states))
    assert drawn.shape == (15, 96, 96, 3)
    assert drawn.dtype == np.uint8
    differing = (drawn != np.rint(images)).any(axis=-1).sum(axis=(1, 2))
    assert set(touching) == {False, True}
    assert not differing[~np.array(touching)].any()
    assert 0 < differing.max() < 30


def test_states_of_another_shape():
    with pytest.raises(ValueError, match=r"expected \(N, 5\)"):
        render_states(np.zeros((3, 2)))


def test_an_agent_far_outside_is_not_drawn():
    image = render_states(np.array([[1e30, -1e30, 256, 256, 0.0]]))
    np.testing.assert_array_equal(image, render_states(np.array([[-900.0, 900, 256, 256, 0]])))


def test_what_a_policy_sees_does_not_depend_on_what_is_left_undrawn():
    env, chunked = PushTImageEnv(), MultiStepWrapper(PushTImageEnv(), n_obs_steps=2, n_action_steps=8)
    env.reset(seed=3)
    chunked.reset(seed=3)
    for chunk in np.random.default_rng(0).uniform(0, 512, (3, 8, 2)):
        observations = [env.step(action)[0] for action in chunk]
        seen, *_ = chunked.step(chunk)
        for key, values in seen.items():
            np.testing.assert_array_equal(values, [step[key] for step in observations[-2:]])

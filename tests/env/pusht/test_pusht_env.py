import math
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_policy.env.pusht import coverage
from diffusion_policy.env.pusht.pusht_env import PushTEnv
from diffusion_policy.env.pusht.pusht_keypoints_env import PushTKeypointsEnv

pytestmark = pytest.mark.sim
ENV_CLASSES = [PushTEnv, PushTKeypointsEnv]

states = st.tuples(
    st.floats(0, 512),
    st.floats(0, 512),
    st.floats(-256, 768),
    st.floats(-256, 768),
    st.floats(0, 2 * math.pi),
)


def angle_between(first: float, second: float) -> float:
    return abs((first - second + math.pi) % (2 * math.pi) - math.pi)


@pytest.mark.parametrize("env_class", ENV_CLASSES)
@settings(max_examples=100, deadline=None)
@given(state=states)
def test_reset_to_state_is_observed(env_class, state):
    env = env_class()
    _, info = env.reset(options={"state": state})
    np.testing.assert_allclose(info["state"][:4], state[:4], atol=1e-6, rtol=0)
    assert angle_between(info["state"][4], state[4]) < 1e-6
    assert info["coverage"] == pytest.approx(coverage(state[2:]), abs=1e-6)
    assert not info["vel_agent"].any()


def test_reset_to_an_observed_state():
    """A state seen in contact can be restored, whether or not it was drawn by a legacy reset."""
    env = PushTEnv(legacy=True)
    _, info = env.reset(seed=3)
    for _ in range(20):
        x, y, angle = info["block_pose"]
        middle_of_bar = [x - 15 * math.sin(angle), y + 15 * math.cos(angle)]
        state, _, _, _, info = env.step(middle_of_bar)
    restored, restored_info = PushTEnv(legacy=True).reset(options={"state": state})
    np.testing.assert_allclose(restored, state, atol=1e-6)
    assert restored_info["coverage"] == pytest.approx(info["coverage"], abs=1e-6)


def test_angle_of_a_state_is_taken_modulo_a_turn():
    state, info = PushTEnv().reset(options={"state": [100, 100, 300, 300, -0.5]})
    assert state[4] == pytest.approx(2 * math.pi - 0.5)
    assert info["block_pose"][2] == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([1, 2, 3, 4], "shape"),
        ([[1, 2, 3, 4, 5]], "shape"),
        ([100, 100, 300, math.nan, 0], "finite"),
        ([100, 100, 300, 300, math.inf], "finite"),
        ([-1, 100, 300, 300, 0], "agent"),
        ([100, 513, 300, 300, 0], "agent"),
        ([100, 100, -257, 300, 0], "block"),
        ([100, 100, 300, 769, 0], "block"),
    ],
)
def test_states_that_cannot_be_held(state, message):
    with pytest.raises(ValueError, match=r'options\["state"\].*' + message):
        PushTEnv().reset(options={"state": state})


@pytest.mark.parametrize("options", [{"stat": [0] * 5}, {"legacy": "yes"}, {"legacy": None}])
def test_options_that_do_not_exist(options):
    with pytest.raises(ValueError, match="option"):
        PushTEnv().reset(options=options)


def test_starts_of_seed_0():
    """The drawn pose, and where the recorded order of setting it leads."""
    drawn, _ = PushTEnv().reset(seed=0)
    np.testing.assert_allclose(drawn[:4], [222, 97, 217, 292])
    recorded, _ = PushTEnv().reset(seed=0, options={"legacy": True})
    np.testing.assert_allclose(recorded, [222, 97, 222.994, 381.599, 3.008], atol=1e-3)
    assert drawn[4] == pytest.approx(recorded[4])


def test_option_overrides_the_constructor():
    for default in (False, True):
        env = PushTEnv(legacy=default)
        for asked in (False, True):
            expected, _ = PushTEnv(legacy=asked).reset(seed=7)
            observation, _ = env.reset(seed=7, options={"legacy": asked})
            np.testing.assert_array_equal(observation, expected)


@pytest.mark.parametrize("env_class", ENV_CLASSES)
def test_episodes_without_a_seed_differ_and_repeat(env_class):
    first, second = env_class(), env_class()
    starts = []
    for env in (first, second):
        env.reset(seed=11)
        starts.append(np.array([env.reset()[0] for _ in range(5)]))
    np.testing.assert_array_equal(starts[0], starts[1])
    assert len(np.unique(starts[0], axis=0)) == 5


def test_same_actions_give_the_same_episode():
    rng = np.random.default_rng(0)
    actions = rng.uniform(0, 512, (50, 2))
    episodes = []
    for _ in range(2):
        env = PushTEnv()
        env.reset(seed=5)
        episodes.append([env.step(action)[:2] for action in actions])
    for (state, reward), (state_again, reward_again) in zip(*episodes, strict=True):
        np.testing.assert_array_equal(state, state_again)
        assert reward == reward_again


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_observations_stay_in_their_space(seed):
    env = PushTEnv()
    observation, info = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(40):
        # corners and edges press the block hardest against the walls
        action = np.clip(rng.uniform(-512, 1024, 2), 0, 512)
        observation, reward, _, truncated, info = env.step(action)
        assert env.observation_space.contains(observation)
        assert 0 <= reward <= 1
        assert not truncated
        np.testing.assert_array_equal(observation, info["state"])


def test_success():
    env = PushTEnv()
    _, info = env.reset(options={"state": [50, 50, 256, 256, math.pi / 4]})
    assert info["is_success"] is True
    _, reward, terminated, truncated, info = env.step([50, 50])
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["coverage"] == pytest.approx(1)
    # 5 px along the stem: the shares of bar and stem that leave the goal are known
    moved = [50, 50, 256 - 5 * math.sin(math.pi / 4), 256 + 5 * math.cos(math.pi / 4), math.pi / 4]
    _, info = env.reset(options={"state": moved})
    _, reward, terminated, _, info = env.step([50, 50])
    expected = 1 - 5 * 120 / 6300
    assert info["coverage"] == pytest.approx(expected)
    assert reward == pytest.approx(expected / 0.95)
    assert terminated is info["is_success"] is False


def test_agent_reaches_its_target_without_overshoot():
    env = PushTEnv()
    env.reset(options={"state": [100, 60, 300, 300, 0]})
    xs = [env.step([200, 60])[4]["pos_agent"][0] for _ in range(20)]
    assert all(before <= after <= 200 for before, after in pairwise(xs))
    assert xs[-1] == pytest.approx(200, abs=1e-3)


def test_actions_outside_the_window_are_not_clipped():
    env = PushTEnv()
    env.reset(seed=0)
    for _ in range(20):
        _, _, _, _, info = env.step([-100, 700])
    np.testing.assert_allclose(info["pos_agent"], [-100, 700], atol=1)


@pytest.mark.parametrize(
    "action", [[1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]], 1.0, [math.nan, 2.0], [1.0, math.inf]]
)
def test_actions_that_cannot_be_executed(action):
    env = PushTEnv()
    env.reset(seed=0)
    before = env.render()
    with pytest.raises(ValueError, match="action"):
        env.step(action)
    np.testing.assert_array_equal(env.render(), before)


def test_reset_comes_first():
    for use in (lambda env: env.step([1.0, 2.0]), PushTEnv.render, PushTEnv.render_observation):
        with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
            use(PushTEnv())


@pytest.mark.parametrize("arguments", [{"render_size": 0}, {"render_mode": "human"}])
def test_arguments_that_are_not_allowed(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        PushTEnv(**arguments)


@pytest.mark.parametrize("size", [96, 200])
def test_marker_shows_the_action_of_this_episode(size):
    env = PushTEnv(render_size=size)
    env.reset(seed=1)
    np.testing.assert_array_equal(env.render(), env.render_observation())
    env.step([400.0, 80.0])
    differing = (env.render() != env.render_observation()).any(axis=-1)
    rows, columns = differing.nonzero()
    assert columns.mean() * 512 / size == pytest.approx(400, abs=512 / size)
    assert rows.mean() * 512 / size == pytest.approx(80, abs=512 / size)
    assert (env.render()[differing] == (255, 0, 0)).all()
    env.reset(seed=1)
    np.testing.assert_array_equal(env.render(), env.render_observation())


def test_changing_the_given_action_later_does_not_move_the_marker():
    env = PushTEnv()
    env.reset(seed=1)
    action = np.array([400.0, 80.0])
    env.step(action)
    image = env.render()
    action[:] = 0
    np.testing.assert_array_equal(env.render(), image)

"""The kitchen: its noise, actions, starts and tasks."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from diffusion_policy.common import kitchen
from diffusion_policy.env.kitchen.kitchen_env import KitchenEnv
from diffusion_policy.env.kitchen.kitchen_model import model_path
from diffusion_policy.env.kitchen.kitchen_starts import START
from diffusion_policy.env.mujoco_rendering import choose_opengl
from tests.env.kitchen.test_kitchen_tasks import GOALS, with_done

pytestmark = pytest.mark.sim
ARM = slice(0, 7)
KETTLE_TURN = slice(26, 30)  # a quaternion, of unit length once it is simulated
ACTION = np.array([0.3, 0.2, -0.4, 0.5, -0.3, 0.2, 0.6, -0.5, -0.5])


class TestObservation:
    def test_positions_then_zeros(self):
        obs, info = KitchenEnv(robot_noise_ratio=0).reset(seed=0)
        np.testing.assert_array_equal(obs[:30], info["qpos"])
        expected = START.qpos.copy()
        expected[KETTLE_TURN] /= np.linalg.norm(expected[KETTLE_TURN])
        np.testing.assert_allclose(obs[:30], expected, atol=1e-12)
        assert not obs[30:].any()
        assert obs.shape == (60,)

    def test_without_goals(self):
        env = KitchenEnv(include_goal=False)
        obs, _ = env.reset(seed=5)
        np.testing.assert_array_equal(obs, KitchenEnv().reset(seed=5)[0][:30])
        assert env.observation_space.contains(obs)

    def test_noise_is_within_its_amplitudes(self):
        env = KitchenEnv(robot_noise_ratio=0.2)
        pairs = [env.reset(seed=seed) for seed in range(100)]
        noise = np.array([obs[:30] - info["qpos"] for obs, info in pairs])
        bound = 0.2 * kitchen.NOISE_AMPLITUDE
        assert (np.abs(noise) <= bound + 1e-12).all()
        assert (np.abs(noise).max(0) > 0.9 * bound).all()

    def test_is_the_seed_s_alone(self):
        def rollout(seed: int) -> np.ndarray:
            env = KitchenEnv(start_noise=0.05)
            first, _ = env.reset(seed=seed)
            return np.array([first, *(env.step(ACTION)[0] for _ in range(3))])

        before = np.random.get_state()[2]  # noqa: NPY002, how far the global generator is
        first = rollout(3)
        np.testing.assert_array_equal(first, rollout(3))
        assert (first[:, :9] != rollout(4)[:, :9]).all()
        assert np.random.get_state()[2] == before  # noqa: NPY002

    def test_later_episodes_follow_from_the_seed(self):
        env, other = KitchenEnv(), KitchenEnv()
        for each in (env, other):
            each.reset(seed=1)
        first, second = env.reset()[0], env.reset()[0]
        assert (first[:9] != second[:9]).all()
        np.testing.assert_array_equal(first, other.reset()[0])


class TestActions:
    @pytest.mark.parametrize("ratio", [0, 0.1])
    @pytest.mark.parametrize("action", [ACTION, 5 * ACTION, np.zeros(9)])
    def test_velocities_are_added_to_what_was_read(self, ratio, action):
        by_velocity = KitchenEnv(robot_noise_ratio=ratio)
        by_position = KitchenEnv(robot_noise_ratio=ratio, abs_action=True)
        read, _ = by_velocity.reset(seed=2)
        by_position.reset(seed=2)
        for _ in range(3):
            target = read[:9] + 0.16 * np.clip(action, -1, 1)
            read, *_, info = by_velocity.step(action)
            *_, expected = by_position.step(target)
            np.testing.assert_allclose(info["qpos"], expected["qpos"], atol=1e-9)

    def test_noise_moves_velocity_targets_and_not_positions(self):
        def step(seed: int, **options) -> np.ndarray:
            env = KitchenEnv(**options)
            env.reset(seed=seed)
            return env.step(START.qpos[:9] if env.abs_action else np.zeros(9))[-1]["qpos"][ARM]

        np.testing.assert_array_equal(step(0, abs_action=True), step(1, abs_action=True))
        assert np.abs(step(0) - step(1)).max() > 1e-3

    def test_positions_are_approached_at_ten_rad_per_second(self):
        env = KitchenEnv(abs_action=True)
        read, _ = env.reset(seed=0)
        env.step(np.full(9, -8.0))
        np.testing.assert_allclose(env._data.ctrl, np.maximum(read[:9] - 0.8, kitchen.JOINT_LOW), atol=1e-12)

    def test_the_arm_arrives(self):
        env = KitchenEnv(abs_action=True, robot_noise_ratio=0)
        read, _ = env.reset(seed=0)
        target = read[:9] + np.array([0.1, 0.1, -0.1, 0.1, 0.1, 0.1, -0.1, 0, 0])
        for _ in range(15):
            *_, info = env.step(target)
        assert np.abs(info["qpos"][ARM] - target[ARM]).max() < 0.04, "weight bends it a little"

    @pytest.mark.parametrize(
        ("action", "message"),
        [
            (np.zeros(8), r"action has shape \(8,\); expected \(9,\)"),
            (np.full(9, np.nan), "expected finite numbers"),
        ],
    )
    def test_mistakes(self, action, message):
        env = KitchenEnv()
        env.reset(seed=0)
        with pytest.raises(ValueError, match=message):
            env.step(action)

    def test_no_episode(self):
        with pytest.raises(gymnasium.error.ResetNeeded):
            KitchenEnv().step(ACTION)


class TestTasks:
    @pytest.mark.parametrize("task", GOALS)
    def test_each_counts_once(self, task):
        env = KitchenEnv()
        _, info = env.reset(seed=0, options={"qpos": with_done(task)})
        assert info["completed_tasks"] == []
        steps = [env.step(np.zeros(9)) for _ in range(3)]
        assert [reward for _, reward, *_ in steps] == [1, 0, 0]
        info = steps[-1][-1]
        assert (info["completed_tasks"], info["score"], info["is_success"]) == ([task], 1 / 7, False)
        assert [info[f"p_{n}"] for n in range(1, 8)] == [True] + [False] * 6

    @pytest.mark.parametrize("n_done", [3, 4, 7])
    def test_four_are_a_success_and_seven_the_end(self, n_done):
        env = KitchenEnv()
        env.reset(seed=0, options={"qpos": with_done(*list(GOALS)[-n_done:])})
        _, reward, terminated, truncated, info = env.step(np.zeros(9))
        assert (reward, terminated, truncated) == (n_done, n_done == 7, False)
        assert info["completed_tasks"] == sorted(list(GOALS)[-n_done:])
        assert info["is_success"] == (n_done >= 4)
        assert info["score"] == pytest.approx(n_done / 7)

    def test_what_is_undone_stays_counted_within_the_episode_only(self):
        env = KitchenEnv()
        env.reset(seed=0, options={"qpos": with_done("microwave")})
        env.step(np.zeros(9))
        _, info = env.reset(seed=0)
        assert info["completed_tasks"] == []
        assert env.step(np.zeros(9))[1] == 0


class TestStarts:
    def test_all_alike_by_default(self):
        env = KitchenEnv()
        np.testing.assert_array_equal(env.reset(seed=0)[1]["qpos"], env.reset(seed=1)[1]["qpos"])

    def test_noise_moves_the_arm_only(self):
        env = KitchenEnv(start_noise=0.05, robot_noise_ratio=0)
        moves = (
            np.array([env.reset(seed=seed)[1]["qpos"] for seed in range(100)])
            - KitchenEnv(robot_noise_ratio=0).reset(seed=0)[1]["qpos"]
        )
        bounds = np.array([0.05] * 7)
        low = np.maximum(-bounds, kitchen.JOINT_LOW[ARM] - START.qpos[ARM])
        assert (moves[:, ARM] >= low - 1e-12).all()
        assert (moves[:, ARM] <= bounds).all()
        assert (moves[:, ARM].std(0) > 0.02).all()
        assert not moves[:, 7:].any()

    def test_from_the_original_s_files(self, tmp_path):
        random = np.random.default_rng(0)
        qpos = START.qpos + random.uniform(-0.01, 0.01, (3, 30))
        np.save(tmp_path / "all_init_qpos.npy", qpos)
        np.save(tmp_path / "all_init_qvel.npy", random.uniform(-0.01, 0.01, (3, 29)))
        env = KitchenEnv(starts=tmp_path, robot_noise_ratio=0)
        for seed in (0, 2, 4):
            np.testing.assert_array_equal(env.reset(seed=seed)[0][:26], qpos[seed % 3, :26])

    @pytest.mark.parametrize(
        ("qpos", "qvel", "error", "message"),
        [
            (np.zeros((2, 30)), None, FileNotFoundError, "all_init_qvel.npy"),
            (np.zeros((2, 30)), np.zeros((3, 29)), ValueError, "have 2 and 3 rows"),
            (np.zeros((0, 30)), np.zeros((0, 29)), ValueError, "have 0 and 0 rows"),
            (np.zeros((2, 29)), np.zeros((2, 29)), ValueError, r"all_init_qpos.npy must hold .*\(E, 30\)"),
            (np.full((2, 30), np.nan), np.zeros((2, 29)), ValueError, "finite"),
        ],
    )
    def test_files_of_something_else(self, tmp_path, qpos, qvel, error, message):
        np.save(tmp_path / "all_init_qpos.npy", qpos)
        if qvel is not None:
            np.save(tmp_path / "all_init_qvel.npy", qvel)
        with pytest.raises(error, match=message):
            KitchenEnv(starts=tmp_path)

    def test_a_state(self):
        qpos, qvel = with_done("microwave"), np.linspace(-0.1, 0.1, 29)
        env = KitchenEnv(start_noise=0.5)
        _, info = env.reset(seed=0, options={"qpos": qpos, "qvel": qvel})
        np.testing.assert_allclose(info["qpos"], qpos, atol=0.02)  # but for the length of a quaternion
        np.testing.assert_array_equal(info["qpos"][:26], qpos[:26])
        np.testing.assert_array_equal(info["qvel"], qvel)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"state": np.zeros(59)}, r"unknown keys \['state'\]; allowed are 'qpos' and 'qvel'"),
            ({"qvel": np.zeros(29)}, "has 'qvel' but no 'qpos'"),
            ({"qpos": np.zeros(9)}, r'options\["qpos"\] has shape \(9,\); expected \(30,\)'),
            ({"qpos": START.qpos, "qvel": np.full(29, np.inf)}, "expected finite numbers"),
        ],
    )
    def test_options_that_cannot_be_used(self, options, message):
        with pytest.raises(ValueError, match=message):
            KitchenEnv().reset(options=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"render_size": [240]}, r"render_size is \[240\]; expected height and width"),
        ({"render_mode": "human"}, "render_mode is 'human'"),
        ({"start_noise": -1}, "start_noise is -1; expected a finite number"),
        ({"robot_noise_ratio": float("nan")}, "robot_noise_ratio is nan"),
    ],
)
def test_arguments_that_cannot_be_used(options, message):
    with pytest.raises(ValueError, match=message):
        KitchenEnv(**options)


@pytest.mark.skipif(choose_opengl() == "disable", reason="neither EGL nor OSMesa is here")
def test_images_show_what_happens():
    env = KitchenEnv(render_size=(96, 128), robot_noise_ratio=0)
    images = []
    for options in ({"qpos": START.qpos}, {"qpos": with_done("microwave")}, {"qpos": START.qpos}):
        env.reset(seed=0, options=options)
        images.append(env.render().astype(int))
    env.close()
    assert images[0].shape == (96, 128, 3)
    assert images[0].std() > 30
    difference = np.abs(images[0] - images[1]).max(-1) > 40
    assert 0.005 < difference.mean() < 0.3
    assert np.nonzero(difference)[1].mean() < 64, "the microwave is on the left"
    np.testing.assert_array_equal(images[0], images[2])


def test_without_the_model_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    with pytest.raises(ImportError, match=r'not installed: pip install "diffusion_policy\[kitchen\]"'):
        model_path()


def test_without_mujoco_the_extra_is_named():
    code = (
        "import sys; sys.modules['mujoco'] = None\n"
        "try:\n    import diffusion_policy.env.kitchen.kitchen_env\nexcept ImportError as error:\n    print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "diffusion_policy[kitchen]"' in result.stdout


def test_the_model_is_read_without_its_package():
    code = (
        "import sys\nfrom diffusion_policy.env.kitchen.kitchen_env import KitchenEnv\nKitchenEnv()\n"
        "print({'gymnasium_robotics', 'dm_control', 'torch'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"

"""robomimic's tasks: sizes, reproducible episodes, and equality with recordings."""

import atexit

import gymnasium
import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffusion_policy.common.arm_actions import to_rotation_6d
from diffusion_policy.env import mujoco_rendering
from diffusion_policy.env.robomimic.robomimic_env import RobomimicEnv
from diffusion_policy.env.robomimic.simulation import Simulation
from tests.env.robomimic.tasks import OBJECT_SIZE, assert_equal, env_of, random_actions, shape_meta

pytestmark = pytest.mark.sim
needs_opengl = pytest.mark.skipif(
    mujoco_rendering.choose_opengl() == "disable", reason="neither EGL nor OSMesa is here"
)
OBSERVATION_SIZE = {
    "Lift": 19,
    "PickPlaceCan": 23,
    "NutAssemblySquare": 23,
    "TwoArmTransport": 59,
    "ToolHang": 53,
}
ACTION_SIZE = {"Lift": 7, "PickPlaceCan": 7, "NutAssemblySquare": 7, "TwoArmTransport": 14, "ToolHang": 7}


@pytest.fixture(scope="module")
def recording(shared_data):
    """Human demonstrations of Lift."""
    path = shared_data / "robomimic/lift_human_low_dim/low_dim.hdf5"
    with h5py.File(path, "r") as file:
        demo = file["data/demo_0"]
        obs = {key: array[()] for key, array in demo["obs"].items()}
        yield {"path": path, "states": demo["states"][()], "actions": demo["actions"][()], "obs": obs}


@pytest.mark.parametrize("env_name", OBJECT_SIZE)
def test_sizes_are_robomimics(env_name):
    env = env_of(env_name)
    observation, _ = env.reset(seed=0)
    assert observation["object"].shape == (OBJECT_SIZE[env_name],)
    assert sum(value.size for value in observation.values()) == OBSERVATION_SIZE[env_name]
    assert env.action_space.shape == (ACTION_SIZE[env_name],)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)
    assert (reward, terminated, truncated, info["is_success"]) == (0.0, False, False, False)


@pytest.mark.parametrize(("env_name", "size"), [("Lift", 10), ("TwoArmTransport", 20)])
def test_a_pose_is_reached(env_name, size):
    """Told to stay where it is but 3 cm higher, the hand arrives there and does not turn."""
    env = env_of(env_name, abs_action=True)
    assert env.action_space.shape == (size,)
    before, info = env.reset(seed=0)
    told_changes = env_of(env_name)._simulation
    action = to_rotation_6d(told_changes.poses_from_changes(info["state"], np.zeros(7 * size // 10)))
    env.reset(seed=0)
    action[2::10] += 0.03
    for _ in range(30):
        after, *_ = env.step(action)
    for arm in range(size // 10):
        moved = after[f"robot{arm}_eef_pos"] - before[f"robot{arm}_eef_pos"]
        np.testing.assert_allclose(moved, [0, 0, 0.03], atol=1.5e-3)
        quaternions = [values[f"robot{arm}_eef_quat"] for values in (before, after)]
        assert abs(quaternions[0] @ quaternions[1]) > 1 - 1e-4


@pytest.mark.parametrize(
    ("env_name", "start"), [("PickPlaceCan", 0), ("NutAssemblySquare", 0), ("ToolHang", 28)]
)
def test_objects_are_ordered_as_robosuite_did_before_1_5(env_name, start):
    """Pose, then pose seen from the hand, both of the present state; flags last."""
    env = env_of(env_name)
    env.reset(seed=0)
    for action in random_actions(env_name, 2):
        observation, *_ = env.step(action)
    position, quaternion, seen_position, seen_quaternion = np.split(
        observation["object"][start : start + 14].astype(float), [3, 7, 10]
    )
    name = {"PickPlaceCan": "Can_main", "NutAssemblySquare": "SquareNut_main", "ToolHang": "tool_root"}[
        env_name
    ]
    np.testing.assert_allclose(position, env._simulation.data.body(name).xpos, atol=1e-6)
    hand = Rotation.from_quat(observation["robot0_eef_quat"])
    np.testing.assert_allclose(
        seen_position, hand.inv().apply(position - observation["robot0_eef_pos"]), atol=1e-5
    )
    seen = hand.inv() * Rotation.from_quat(quaternion)
    assert (seen * Rotation.from_quat(seen_quaternion).inv()).magnitude() < 1e-5


def test_flags_come_last():
    observation, _ = env_of("TwoArmTransport").reset(seed=0)
    payload, hand = observation["object"][:3], observation["robot0_eef_pos"]
    np.testing.assert_allclose(observation["object"][27:30], payload - hand, atol=1e-6)
    np.testing.assert_array_equal(observation["object"][-2:], 0)


@pytest.mark.parametrize("env_name", OBJECT_SIZE)
def test_an_episode_is_a_function_of_its_seed(env_name):
    env, actions = env_of(env_name), random_actions(env_name, 3)

    def episode(seed):
        observations = [env.reset(seed=seed)[0]]
        return observations + [env.step(action)[0] for action in actions]

    np.random.seed(3)  # noqa: NPY002, the global generator is what is tested
    first, other = episode(5), episode(6)
    for observation, again in zip(first, episode(5), strict=True):
        assert_equal(observation, again)
    assert not np.array_equal(first[0]["object"], other[0]["object"])
    assert np.random.randint(10**6) == np.random.RandomState(3).randint(10**6)  # noqa: NPY002


@pytest.mark.parametrize("env_name", OBJECT_SIZE)
def test_from_a_state_it_goes_on_in_one_way(env_name):
    env, actions = env_of(env_name), random_actions(env_name, 4)
    env.reset(seed=1)
    for action in actions:
        *_, info = env.step(action)

    def episode(seed):
        start, start_info = env.reset(seed=seed, options={"state": info["state"]})
        np.testing.assert_array_equal(start_info["state"], info["state"])
        return [start] + [env.step(action)[0] for action in actions]

    for observation, again in zip(episode(2), episode(3), strict=True):
        assert_equal(observation, again)


def test_from_its_first_state_an_episode_is_repeated():
    env, actions = env_of("Lift"), random_actions("Lift", 10)
    _, info = env.reset(seed=4)
    expected = [env.step(action)[-1]["state"] for action in actions]
    env.reset(options={"state": info["state"]})
    again = [env.step(action)[-1]["state"] for action in actions]
    np.testing.assert_allclose(again, expected, atol=1e-6)  # MuJoCo's solver starts elsewhere


def test_episodes_without_a_seed_differ():
    env = env_of("Lift")
    env.reset(seed=0)
    starts = [env.reset()[0]["object"] for _ in range(2)]
    env.reset(seed=0)
    np.testing.assert_array_equal(env.reset()[0]["object"], starts[0])
    assert not np.array_equal(*starts)


def test_the_observation_is_that_of_the_state_reached():
    """As in robomimic's files; what robosuite's step returns is older."""
    env = env_of("NutAssemblySquare")
    env.reset(seed=0)
    for action in random_actions("NutAssemblySquare", 3):
        observation, *_, info = env.step(action)
    assert_equal(env.reset(options={"state": info["state"]})[0], observation)


def test_recorded_observations_are_equalled(recording):
    env = env_of("Lift")
    for step in (0, 40, 80):
        observation, _ = env.reset(options={"state": recording["states"][step]})
        for key, value in observation.items():
            np.testing.assert_array_equal(value, recording["obs"][key][step].astype(np.float32))


def test_a_recorded_episode_is_repeated(recording):
    """Recorded with another robosuite, it ends in success too; seeds are numbers of demonstrations."""
    env = RobomimicEnv("Lift", shape_meta("Lift"), env_args=recording["path"])
    _, info = env.reset(seed=0, options={"demonstrations": recording["path"]})
    np.testing.assert_array_equal(info["state"], recording["states"][0])
    steps = [env.step(action) for action in recording["actions"]]
    rewards, terminated = [step[1] for step in steps], [step[2] for step in steps]
    assert set(rewards) == {0.0, 1.0}
    assert terminated == [reward == 1.0 for reward in rewards]


@pytest.mark.parametrize("env_name", ["Lift", "ToolHang"])
def test_a_recorded_model(env_name):
    """An episode in a model given as XML; the next one has the task's own again."""
    pytest.importorskip("robosuite")
    env = RobomimicEnv(env_name, shape_meta(env_name))
    observation, info = env.reset(seed=0)
    env.reset(seed=1)
    no_gravity = env.model_xml.replace("<option ", '<option gravity="0 0 0" ', 1)
    given, given_info = env.reset(options={"state": info["state"], "model": no_gravity})
    np.testing.assert_array_equal(given_info["state"], info["state"])
    np.testing.assert_allclose(given["object"], observation["object"], atol=1e-7)
    assert not env._simulation.model.opt.gravity.any()
    env.reset(seed=0)
    assert env._simulation.model.opt.gravity[2] == -9.81
    with pytest.raises(ValueError, match="the model cannot be used"):
        env.reset(options={"state": info["state"], "model": "<mujoco/>"})
    assert_equal(env.reset(seed=0)[0], observation)


@needs_opengl
@pytest.mark.parametrize("env_name", OBJECT_SIZE)
def test_every_task_is_drawn(env_name):
    env = env_of(env_name)
    env.reset(seed=0)
    image = env.render()
    assert (image.shape, image.dtype) == ((128, 128, 3), np.uint8)
    assert image.std() > 10
    env.reset(seed=1)
    assert (env.render() != image).any()


@needs_opengl
def test_images_are_robosuites_the_right_way_up(monkeypatch):
    robosuite = pytest.importorskip("robosuite")
    monkeypatch.setattr(
        atexit, "register", lambda *_: None
    )  # robosuite's would end OpenGL before ours is closed
    meta = shape_meta("Lift", agentview_image=(3, 84, 84), robot0_eye_in_hand_image=(3, 64, 96))
    env = RobomimicEnv("Lift", meta)
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    cameras = {"camera_names": ["agentview", "robot0_eye_in_hand"], "camera_heights": [84, 64]}
    theirs = robosuite.make(
        "Lift", robots="Panda", renderer="mujoco", camera_widths=[84, 96], hard_reset=False, seed=0, **cameras
    )
    theirs.reset()
    theirs.sim.set_state_from_flattened(info["state"])
    theirs.sim.forward()
    recorded = theirs._get_observations(force_update=True)
    for key in ("agentview_image", "robot0_eye_in_hand_image"):
        image = np.moveaxis(observation[key], 0, -1) * 255
        difference = np.abs(image - recorded[key][::-1].astype(float))
        assert difference.max() <= 1, key
    theirs.close()
    env.close()


@needs_opengl
def test_fast_rendering_differs_little():
    fast, env = env_of("Lift"), RobomimicEnv("Lift", shape_meta("Lift"))
    fast.reset(seed=0)
    env.reset(seed=0)
    difference = np.abs(env.render().astype(int) - fast.render())
    assert 0 < difference.mean() < 10
    env.close()


def test_images_that_are_not_drawn_change_nothing_else():
    env = RobomimicEnv("Lift", shape_meta("Lift", agentview_image=(3, 16, 16)))
    reached = []
    for draws in (True, False):
        env.reset(seed=0)
        env.draws_images = draws
        observation, *_, info = env.step(np.ones(7))
        assert observation["agentview_image"].any() == draws
        reached.append(info["state"])
    np.testing.assert_array_equal(*reached)
    env.close()


def test_another_task_of_robosuite_needs_no_code():
    stack = {"obs": {"object": {"shape": [23]}, "robot0_eef_pos": {"shape": [3]}}, "action": {"shape": [7]}}
    env = RobomimicEnv("Stack", stack)
    first, info = env.reset(seed=0)
    env.step(np.ones(7))
    again, _ = env.reset(options={"state": info["state"]})
    np.testing.assert_array_equal(again["object"], first["object"])
    env.close()


BAD_ARGUMENTS = [
    ({"env_name": "Stak"}, "expected one of.* Lift, .*Stack"),
    ({"render_mode": "human"}, "rgb_array"),
    ({"render_size": 0}, "render_size is 0"),
    ({"render_camera": "moon"}, "expected one of.*agentview"),
    ({"abs_action": True}, r"has shape \(10,\), got \(7,\)"),
    ({"shape_meta": shape_meta("Lift", moon_image=(3, 8, 8))}, "has the cameras.*agentview"),
    ({"shape_meta": shape_meta("PickPlaceCan")}, r"'object' \(14,\) is none of what Lift has"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_ARGUMENTS)
def test_bad_arguments(changes, message):
    pytest.importorskip("robosuite")
    with pytest.raises(ValueError, match=message):
        RobomimicEnv(**{"env_name": "Lift", "shape_meta": shape_meta("Lift"), **changes})


BAD_OPTIONS = [
    ({"sate": 1}, "unknown keys"),
    ({"state": np.zeros(31)}, r"expected \(32,\) finite numbers"),
    ({"state": np.full(32, np.nan)}, "finite"),
    ({"model": "<mujoco/>"}, "needs options"),
    ({"demonstrations": "somewhere"}, "needs a seed"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        env_of("Lift").reset(options=options)


def test_bad_demonstrations(recording, tmp_path):
    env = env_of("Lift")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        env.reset(seed=0, options={"demonstrations": tmp_path / "a.hdf5"})
    with pytest.raises(ValueError, match="demo_1000"):
        env.reset(seed=1000, options={"demonstrations": recording["path"]})
    with pytest.raises(ValueError, match="recorded in 'Lift'"):
        RobomimicEnv("ToolHang", shape_meta("ToolHang"), env_args=recording["path"])
    (tmp_path / "a.hdf5").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match="not a complete HDF5 file"):
        RobomimicEnv("Lift", shape_meta("Lift"), env_args=tmp_path / "a.hdf5")


def test_bad_actions():
    env = env_of("Lift")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"expected \(7,\)"):
        env.step(np.zeros(8))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full(7, np.nan))


def test_a_step_before_the_first_reset():
    pytest.importorskip("robosuite")
    with pytest.raises(gymnasium.error.ResetNeeded, match="reset"):
        RobomimicEnv("Lift", shape_meta("Lift")).step(np.zeros(7))


def test_old_arguments_of_two_arms():
    """As robosuite 1.0 to 1.4 wrote them: one flat controller for both arms."""
    pytest.importorskip("robosuite")
    old = {
        **{
            "type": "OSC_POSE",
            "input_max": 1,
            "input_min": -1,
            "kp": 150,
            "damping": 1,
            "control_delta": True,
        },
        **{
            "output_max": [0.05] * 3 + [0.5] * 3,
            "output_min": [-0.05] * 3 + [-0.5] * 3,
            "damping_limits": [0, 10],
        },
    }
    kwargs = {
        **{
            "has_renderer": False,
            "use_camera_obs": True,
            "camera_names": ["agentview"],
            "camera_heights": 84,
        },
        **{"robots": ["Panda", "Panda"], "env_configuration": "single-arm-opposed", "control_freq": 20},
        **{
            "controller_configs": old,
            "reward_shaping": True,
            "camera_depths": False,
            "render_gpu_device_id": 0,
        },
    }
    env_args = {"env_name": "TwoArmTransport", "env_version": "1.2.0", "type": 1, "env_kwargs": kwargs}
    simulation, default = Simulation(env_args, False), env_of("TwoArmTransport")
    simulation.reset(3)
    default.reset(seed=3)
    for action in random_actions("TwoArmTransport", 2):
        simulation.step(action)
        *_, info = default.step(action)
    np.testing.assert_array_equal(simulation.state, info["state"])

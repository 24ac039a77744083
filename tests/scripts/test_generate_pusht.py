"""Tests for generate.py and generate_pusht.py."""

from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.env.pusht.geometry import block_keypoints
from diffusion_policy.env.pusht.pusht_env import SUCCESS_COVERAGE, PushTEnv
from diffusion_policy.scripts.demonstrations import generate_pusht as module
from diffusion_policy.scripts.demonstrations.data_command import data_parser
from diffusion_policy.scripts.demonstrations.generate import Demonstration, generate
from diffusion_policy.scripts.demonstrations.generate_pusht import demonstrate_pusht

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> ReplayBuffer:
    path = tmp_path_factory.mktemp("generated") / "episodes.zarr"
    generate(demonstrate_pusht, path, n_episodes=2, workers=1)
    return ReplayBuffer.copy_from_path(path)


def test_the_layout_is_that_of_the_human_set(generated: ReplayBuffer) -> None:
    n_steps = generated.n_steps
    layout = {key: (array.shape, array.dtype) for key, array in generated.items()}
    assert layout == {
        "state": ((n_steps, 5), np.float32),
        "keypoint": ((n_steps, 9, 2), np.float32),
        "action": ((n_steps, 2), np.float32),
    }
    assert generated.meta["seed"].tolist() == [500_000, 500_001]
    assert (generated.meta["final_coverage"] > SUCCESS_COVERAGE).all()


def test_replayed_actions_lead_to_the_recorded_states_and_to_success(generated: ReplayBuffer) -> None:
    for index, seed in enumerate(generated.meta["seed"]):
        episode = generated.get_episode(index)
        env = PushTEnv()
        state, info = env.reset(seed=int(seed), options={"legacy": True})
        for recorded, keypoint, action in zip(
            *(episode[k] for k in ("state", "keypoint", "action")), strict=True
        ):
            assert not info["is_success"]
            np.testing.assert_array_equal(np.float32(state), recorded)
            np.testing.assert_array_equal(np.float32(block_keypoints(info["block_pose"])), keypoint)
            state, _, _, _, info = env.step(action)
        assert info["is_success"]
        assert info["coverage"] == generated.meta["final_coverage"][index]


def test_workers_and_file_format_change_nothing(generated: ReplayBuffer, tmp_path: Path) -> None:
    path = tmp_path / "episodes.zarr.zip"
    generate(demonstrate_pusht, path, n_episodes=2, workers=2)
    assert list(tmp_path.iterdir()) == [path]
    other = ReplayBuffer.copy_from_path(path)
    assert other.keys() == generated.keys()
    for name, values in {**generated.data, **generated.meta}.items():
        np.testing.assert_array_equal({**other.data, **other.meta}[name], values, err_msg=name)


# With an expert that does nothing, and fails at every third seed


def invented(seed: int) -> Demonstration:
    steps = {key: np.full((seed % 7 + 1, 2), seed, np.float32) for key in ("state", "keypoint", "action")}
    failed = seed % 3 == 0
    return Demonstration(seed, steps, not failed, {"final_coverage": 0.4 if failed else 0.96})


def test_failures_are_counted_but_not_recorded(tmp_path: Path) -> None:
    report = generate(invented, tmp_path / "a.zarr", n_episodes=4, first_seed=600_000, workers=1)
    buffer = ReplayBuffer.create_from_path(tmp_path / "a.zarr")
    assert buffer.meta["seed"].tolist() == [600_001, 600_002, 600_004, 600_005]
    assert [buffer.get_episode(i)["state"][0, 0] for i in range(4)] == buffer.meta["seed"].tolist()
    assert report.seeds.tolist() == list(range(600_000, 600_006))
    assert "success         0.667 [0.300, 0.903] n=6" in report.summary()


def test_failures_are_recorded_if_asked_for(tmp_path: Path) -> None:
    report = generate(invented, tmp_path / "a.zarr", 4, first_seed=600_000, keep_failures=True, workers=1)
    buffer = ReplayBuffer.create_from_path(tmp_path / "a.zarr")
    assert buffer.meta["seed"].tolist() == [600_000, 600_001, 600_002, 600_003]
    np.testing.assert_array_equal(buffer.meta["final_coverage"], [0.4, 0.96, 0.96, 0.4])
    assert report.n_recorded == len(report.seeds) == 4


@pytest.mark.parametrize(("name", "left"), [("a.zarr", "a.zarr"), ("a.zarr.zip", "a.zarr.zip.partial")])
def test_what_was_finished_survives(name: str, left: str, tmp_path: Path) -> None:
    def stopped_at_the_third(seed: int) -> Demonstration:
        if seed > 500_002:
            raise KeyboardInterrupt
        return invented(seed)

    with pytest.raises(KeyboardInterrupt):
        generate(stopped_at_the_third, tmp_path / name, n_episodes=10, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == [left]
    buffer = ReplayBuffer.create_from_path(tmp_path / left)
    assert buffer.n_episodes == len(buffer.meta["seed"]) == 2
    with pytest.raises(FileExistsError, match=left):
        generate(invented, tmp_path / name, n_episodes=10, workers=1)


@pytest.mark.parametrize("name", ["a.zarr", "a.hdf5"])
def test_an_expert_that_fails_at_once_leaves_nothing_in_the_way(name: str, tmp_path: Path) -> None:
    def without_opengl(seed: int) -> Demonstration:
        raise OSError("MuJoCo cannot draw")

    with pytest.raises(OSError, match="cannot draw"):
        generate(without_opengl, tmp_path / name, n_episodes=2, workers=1)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_episodes": 0}, "n_episodes is 0; expected at least 1"),
        ({"workers": -1}, "workers is -1; expected at least 1"),
        ({"first_seed": -1}, "first_seed is -1"),
        ({"first_seed": 2**32}, "first_seed is 4294967296"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        generate(invented, tmp_path / "a.zarr", **arguments)
    assert not any(tmp_path.iterdir())


def test_the_command_line_says_how_it_went(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "demonstrate_pusht", invented)
    arguments = ["generate", "pusht", str(tmp_path / "a.zarr.zip"), "--n_episodes", "2", "--workers", "1"]
    options = data_parser().parse_args(arguments)
    options.run(options)
    printed, progress = capsys.readouterr()
    assert "recorded 2 episodes; tried seeds 500000 to 500002" in printed
    assert "2/2" in progress

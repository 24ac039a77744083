"""A camera task that is not Push-T: two cameras of different shapes and a state, with no code and one YAML."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy import load_policy
from diffusion_policy.cli import data_main
from tests.conftest import REPOSITORY

FRONT, WRIST, STATE, ACTION = (48, 64, 3), (32, 32, 3), (3,), (2,)
TINY = (
    "horizon=8",
    "n_action_steps=4",
    "model.down_dims=[16,32]",
    "model.diffusion_step_embed_dim=16",
    "sampler.steps=2",
    "dataloader.batch_size=16",
    "dataloader.batches_per_epoch=2",
    "training.num_epochs=2",
    "training.lr_warmup_steps=1",
    "training.device=cpu",
    "training.n_threads=1",
)


def frames(random: np.random.Generator, shape: tuple[int, ...], positions: np.ndarray) -> np.ndarray:
    """A bright square at x, y in [0, 1] before noise, (L, H, W, 3) uint8."""
    height, width, _ = shape
    images = random.integers(0, 60, (len(positions), *shape), np.uint8)
    for image, (x, y) in zip(images, positions, strict=True):
        row, column = int(y * (height - 8)), int(x * (width - 8))
        image[row : row + 8, column : column + 8] = (255, 200, 40)
    return images


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of npz files: a square wanders, the action is where it will be."""
    folder = tmp_path_factory.mktemp("two_cameras") / "my_data"
    folder.mkdir()
    random = np.random.default_rng(0)
    for episode in range(6):
        walk = np.clip(random.uniform(0, 1, 2) + np.cumsum(random.normal(0, 0.05, (25, 2)), axis=0), 0, 1)
        np.savez(
            folder / f"episode_{episode}.npz",
            front=frames(random, FRONT, walk[:-1]),
            wrist=frames(random, WRIST, walk[:-1]),
            state=np.column_stack([walk[:-1], random.normal(size=24)]).astype(np.float32),
            action=walk[1:].astype(np.float32),
            fps=10,
        )
    return folder


@pytest.fixture(scope="module")
def task(data: Path) -> list[str]:
    """What `data init` says to add to `train.py`."""
    yaml = data.parent / "configs/task/my_task.yaml"
    data_main(["init", str(data), "--name", "my_task", "--obs", "front", "wrist", "state", "-o", str(yaml)])
    return ["--config-dir", str(data.parent / "configs"), "task=my_task"]


@pytest.fixture(scope="module")
def trained(data: Path, task: list[str]) -> Path:
    run = data.parent / "run"
    command = [sys.executable, str(REPOSITORY / "train.py"), *task, f"hydra.run.dir={run}", *TINY]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        command, cwd=data.parent, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"
    return run


def observation(seed: int) -> dict[str, np.ndarray]:
    """One step, as a robot sees it."""
    random = np.random.default_rng(seed)
    at = random.uniform(0, 1, (1, 2))
    images = {key: frames(random, shape, at)[0] for key, shape in (("front", FRONT), ("wrist", WRIST))}
    return {**images, "state": random.normal(size=STATE).astype(np.float32)}


def test_init_names_the_next_commands(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    yaml = tmp_path / "configs/task/seen.yaml"
    data_main(["init", str(data), "--name", "seen", "--obs", "front", "wrist", "-o", str(yaml)])
    said = capsys.readouterr().out
    assert f"data preview --config-dir {tmp_path / 'configs'} task=seen -o network_sees.png\n" in said
    assert f"python train.py --config-dir {tmp_path / 'configs'} task=seen\n" in said
    assert "front: {shape: [3, 48, 64], type: rgb}" in yaml.read_text()
    assert "wrist: {shape: [3, 32, 32], type: rgb}" in yaml.read_text()


def test_it_acts_on_what_a_robot_sees(trained: Path) -> None:
    policy = load_policy(trained, "cpu")
    policy.reset([0])
    actions = [policy.act(observation(step)) for step in range(6)]  # more than a chunk
    assert all(action.shape == ACTION and action.dtype == np.float32 for action in actions)
    assert np.isfinite(actions).all()
    again = load_policy(trained, "cpu")
    again.reset([0])
    np.testing.assert_array_equal(actions, [again.act(observation(step)) for step in range(6)])


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_both_cameras_matter(trained: Path, camera: str) -> None:
    policy = load_policy(trained, "cpu")
    seen = observation(0)
    actions = []
    for image in (seen[camera], 255 - seen[camera]):
        policy.reset([0])
        actions.append(policy.act({**seen, camera: image}))
    assert (actions[0] != actions[1]).any()


def test_an_observation_that_does_not_fit_is_named(trained: Path) -> None:
    policy = load_policy(trained, "cpu")
    seen = observation(0)
    with pytest.raises(ValueError, match="wrist"):
        policy.act({key: value for key, value in seen.items() if key != "wrist"})
    with pytest.raises(ValueError, match="front"):
        policy.act({**seen, "front": seen["wrist"]})


class TestPreview:
    """`data preview` of what the networks see, before training and after."""

    def test_before_training(
        self, task: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        crops = "obs_encoder.crop_shape={front:[40,56],wrist:null}"
        data_main(["preview", *task, crops, "-o", str(tmp_path / "sees.png")])
        said = capsys.readouterr().out.splitlines()
        assert (
            said[0] == "front: frames of 48 x 64, the network sees 40 x 56: the crop keeps 73% of the frame"
        )
        assert (
            said[1] == "wrist: frames of 32 x 32, the network sees 32 x 32: the crop keeps 100% of the frame"
        )
        assert said[2:] == [f"wrote {tmp_path / 'sees.png'}"]
        assert (tmp_path / "sees.png").read_bytes().startswith(b"\x89PNG")

    def test_a_crop_that_keeps_too_little_is_warned_of(
        self, task: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        crops = "obs_encoder.crop_shape={front:[24,24],wrist:[32,32]}"
        data_main(["preview", *task, crops, "-o", str(tmp_path / "sees.png")])
        said = capsys.readouterr().out.splitlines()
        assert "the crop keeps 19% of the frame" in said[0]
        assert [line for line in said if line.startswith("warning: the crop (24, 24) keeps 19%")]

    def test_of_a_run(self, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        data_main(["preview", "--run", str(trained), "-o", str(tmp_path / "sees.png"), "--n_episodes", "2"])
        said = capsys.readouterr().out.splitlines()
        assert [line.split(":")[0] for line in said[:2]] == ["front", "wrist"]
        assert (tmp_path / "sees.png").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["task=my_task", "policy=zero"], "no camera whose images it encodes"),
            (["task=my_task", "policy.horizn=3"], "horizn"),
            (["task=no_task"], "no_task"),
            (["task=my_task", "--n_episodes", "0"], "n_episodes must be at least 1"),
        ],
    )
    def test_mistakes(self, task: list[str], tmp_path: Path, arguments: list[str], message: str) -> None:
        assert message in complaint("preview", *task[:2], *arguments, "-o", tmp_path / "sees.png")
        assert not list(tmp_path.iterdir())

    def test_more_mistakes(self, data: Path, trained: Path, tmp_path: Path) -> None:
        output = tmp_path / "sees.png"
        assert "no such folder" in complaint("preview", "--config-dir", tmp_path / "none", "-o", output)
        assert "no checkpoint" in complaint("preview", "--run", tmp_path / "none", "-o", output)
        assert "leave out task=my_task" in complaint(
            "preview", "--run", trained, "task=my_task", "-o", output
        )
        assert "give one path" in complaint("preview", "-o", output)
        assert "give one path" in complaint("preview", data, data, "-o", output)
        output.touch()
        assert "exists already" in complaint("preview", "--run", trained, "-o", output)


def complaint(*arguments: object) -> str:
    with pytest.raises(SystemExit) as error:
        data_main([str(argument) for argument in arguments])
    return str(error.value.code)


def test_an_earlier_picture_is_replaced_on_demand(
    task: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "sees.png"
    output.write_bytes(b"earlier")
    assert "add --overwrite" in complaint("preview", *task, "-o", output)
    crop = "obs_encoder.crop_shape={front:[90,90],wrist:null}"
    assert "camera 'front': crop_shape (90, 90) is larger" in complaint(
        "preview", *task, crop, "-o", output, "--overwrite"
    )
    assert output.read_bytes() == b"earlier"
    data_main(["preview", *task, "-o", str(output), "--overwrite"])
    assert f"wrote {output}" in capsys.readouterr().out
    assert output.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["sees.png"]

"""`diffusion-policy data ...`: what each command says, writes and refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from diffusion_policy.cli import data_main
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset import lerobot_columns
from diffusion_policy.dataset.episode_files import load_episodes, save_episodes
from tests.dataset.example_episodes import hash_of, reaching_episodes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.npz"
    save_episodes(reaching_episodes(4, length=20, reward=np.arange(80.0)), path)
    return path


def say(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    data_main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def complaint(*arguments: object) -> str:
    with pytest.raises(SystemExit) as error:
        data_main([str(argument) for argument in arguments])
    return str(error.value.code)


class TestInfo:
    def test_table(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        said = say(capsys, "info", data)
        lines = {line.split("  ")[0]: line for line in said.splitlines()}
        assert "4, lengths 20 to 20, mean 20.0" in lines["episodes"]
        assert "80, 0.1 minutes at 10 Hz" in lines["steps"]
        assert lines["format"].endswith("npz")
        assert lines["camera"].split()[1:5] == ["(16,", "16,", "3)", "uint8"]
        assert lines["reward"].split()[1:] == ["()", "float64", "0", "79", "39.5"]
        assert hash_of(load_episodes(data)) in said

    def test_some_keys(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "camera" not in say(capsys, "info", data, "--keys", "state", "action")

    def test_mistakes(self, data: Path, tmp_path: Path) -> None:
        assert "no such path" in complaint("info", tmp_path / "none")
        assert "no key ['stat']" in complaint("info", data, "--keys", "stat")


class TestCheck:
    def test_nothing_found(self, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
        said = say(capsys, "check", data, "--keys", "state", "action")
        assert said == "errors: 0, warnings: 0; episodes: 4; keys: state, action\n"

    def test_errors_give_exit_code_1(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        buffer = reaching_episodes(4)
        buffer["state"][3] = np.nan
        save_episodes(buffer, tmp_path / "a.npz")
        assert complaint("check", tmp_path / "a.npz") == "1"
        said = capsys.readouterr().out
        assert said.startswith("error: not finite: state: NaN or infinity in 1 steps")
        assert "errors: 1, warnings: 0" in said


class TestConvert:
    def test_verified(self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        said = say(capsys, "convert", data, tmp_path / "new/b.zarr")
        assert hash_of(load_episodes(tmp_path / "new/b.zarr")) == hash_of(load_episodes(data))
        assert f"sha256 {hash_of(load_episodes(data))}" in said

    def test_frame_rate(self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        say(capsys, "convert", data, tmp_path / "b", "--format", "lerobot-v2.1", "--fps", "25")
        assert load_episodes(tmp_path / "b").meta["fps"] == 25

    def test_mistakes(self, data: Path, tmp_path: Path) -> None:
        assert "names no format" in complaint("convert", data, tmp_path / "b")
        assert "exists already" in complaint("convert", data, data)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz"]

    @pytest.mark.parametrize("codec", ["disk", "default"])
    def test_images_one_by_one(
        self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], codec: str
    ) -> None:
        said = say(capsys, "convert", data, tmp_path / "b.zarr", "--image_compressor", codec)
        assert f"its arrays are those of {data} (sha256 {hash_of(load_episodes(data))})" in said
        assert ReplayBuffer.create_from_path(tmp_path / "b.zarr")["camera"].chunks == (1, 16, 16, 3)

    @pytest.mark.parametrize("codec", ["jpeg2k", "jpegxl"])
    def test_images_that_lose(
        self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], codec: str
    ) -> None:
        pytest.importorskip("imagecodecs")
        said = say(capsys, "convert", data, tmp_path / "b.zarr.zip", "--image_compressor", codec)
        before, after = load_episodes(data), load_episodes(tmp_path / "b.zarr.zip")
        difference = np.asarray(after["camera"]).astype(float) - before["camera"]
        rms = np.sqrt(np.square(difference).mean())
        assert (
            f"camera: off by {rms:.2f} of 255 (root mean square), at most by {abs(difference).max():.0f}"
            in said
        )
        assert "those of" in said
        assert "but for images, which the codec changed" in said
        assert hash_of(after) in said
        np.testing.assert_array_equal(after["state"], before["state"])
        assert 0 < rms < 8

    def test_an_image_codec_for_another_format(self, data: Path, tmp_path: Path) -> None:
        said = complaint("convert", data, tmp_path / "b.hdf5", "--image_compressor", "jpeg2k")
        assert "image_compressor is for zarr, not 'robomimic'" in said

    def test_what_a_format_cannot_hold_is_said_and_not_left(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lerobot_columns, "_PREFIXES", ("observation.",))  # a name that does not come back
        said = complaint("convert", data, tmp_path / "b", "--format", "lerobot")
        assert "does not give back what was written: camera: uint8 (16, 16, 3) became None" in said
        assert sorted(path.name for path in tmp_path.iterdir()) == ["data.npz"]


class TestPreview:
    def test_picture(self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        said = say(capsys, "preview", data, "-o", tmp_path / "p/preview.png", "--n_episodes", "2")
        assert (tmp_path / "p/preview.png").read_bytes().startswith(b"\x89PNG")
        assert said == f"wrote {tmp_path / 'p/preview.png'}\n"
        assert "exists already" in complaint("preview", data, "-o", tmp_path / "p/preview.png")
        assert "n_episodes must be at least 1" in complaint(
            "preview", data, "-o", "x.png", "--n_episodes", "0"
        )


class TestInit:
    def written(self, data: Path, folder: Path, *arguments: str) -> dict[str, Any]:
        output = folder / "configs/task/reach.yaml"
        data_main(["init", str(data), "--name", "reach", "-o", str(output), *arguments])
        return yaml.safe_load(output.read_text())

    def test_task(self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        task = self.written(data, tmp_path)
        assert task["name"] == "reach"
        assert task["shape_meta"] == {
            "obs": {"state": {"shape": [3], "type": "low_dim"}},
            "action": {"shape": [3]},
        }
        assert task["env_runner"] is None
        assert task["dataset"]["path"] == str(data)
        text = (tmp_path / "configs/task/reach.yaml").read_text()
        assert "# camera: {shape: [3, 16, 16], type: rgb}" in text
        assert f"python train.py --config-dir {tmp_path / 'configs'} task=reach" in capsys.readouterr().out

    def test_chosen_keys(self, data: Path, tmp_path: Path) -> None:
        task = self.written(data, tmp_path, "--obs", "camera", "state", "--action", "state")
        assert task["shape_meta"]["obs"]["camera"] == {"shape": [3, 16, 16], "type": "rgb"}
        assert task["dataset"]["action_key"] == "state"

    def test_mistakes(self, data: Path, tmp_path: Path) -> None:
        assert "no key 'pose'" in complaint(
            "init", data, "--name", "a", "--obs", "pose", "-o", tmp_path / "task/a.yaml"
        )
        assert "'reward' is a single number per step" in complaint(
            "init", data, "--name", "a", "--obs", "reward", "-o", tmp_path / "task/a.yaml"
        )
        assert "letters, digits" in complaint("init", data, "--name", "a b", "-o", tmp_path / "task/a.yaml")
        assert "folder `task`" in complaint("init", data, "--name", "a", "-o", tmp_path / "a.yaml")
        self.written(data, tmp_path)
        output = tmp_path / "configs/task/reach.yaml"
        assert "exists already" in complaint("init", data, "--name", "reach", "-o", output)

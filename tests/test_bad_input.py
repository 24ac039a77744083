"""Bad input to training and recording, and usage: what is said, what to do, and that nothing is lost."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffusion_policy.cli import eval_main, report_main
from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.user_errors import report_user_errors
from diffusion_policy.scripts.comparison.compare import main as compare_main
from diffusion_policy.scripts.demonstrations.demo_pusht import main as demo_main
from diffusion_policy.workspace.train_workspace import train
from tests import spoiled_checkpoints as spoiled
from tests.conftest import REPOSITORY
from tests.refusals import Refusal, assert_refused, files_below, full_disk, refusal_of
from tests.tiny_run import tiny_config, write_episodes

pytestmark = pytest.mark.sim

TWO_EPOCHS = "training.num_epochs=2"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_episodes(tmp_path_factory.mktemp("data") / "episodes.zarr")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(tiny_config(data, TWO_EPOCHS), str(folder))
    return folder


def training_refusal(data: Path, folder: Path, *overrides: str) -> Refusal:
    """What `train.py` says once Hydra has read its arguments."""
    config = tiny_config(data, TWO_EPOCHS, *overrides)
    return refusal_of(lambda _: report_user_errors(lambda: train(config, str(folder))))


class TestTraining:
    @pytest.mark.parametrize(
        ("overrides", "words"),
        [
            # The time line
            ("horizon=10 model.down_dims=[16,32,64]", "horizon 10 cannot be halved 2 times|Use horizon 12"),
            ("n_action_steps=8", "horizon=8 is too short for n_obs_steps=2, n_action_steps=8|at least 9"),
            ("horizon=eight", "horizon must be an integer of at least 1, got 'eight'"),
            ("n_obs_steps=0", "n_obs_steps must be an integer of at least 1, got 0"),
            ("horizon=64 n_action_steps=4", "no window of horizon=64 steps fits|choose a shorter horizon"),
            # Data and their shapes
            ("task.dataset.path=none.zarr", "no Push-T demonstrations at|data download pusht"),
            ("task.dataset.path=bundled:none", "no data 'bundled:none'|there are"),
            ("task.shape_meta.obs.obs.shape=[19]", "'obs' has shape (20,) per step|mend shape_meta"),
            ("task.shape_meta.action.shape=[3]", "'action' has shape (2,) per step|mend shape_meta"),
            ("task.shape_meta.action.shape=[two]", "shape of 'action' must be positive integers, as [2]"),
            ("task.shape_meta.obs.obs.type=depth", "type of 'obs' must be low_dim or rgb, got 'depth'"),
            (
                "+task.shape_meta.obs.touch={shape:[4]}",
                "has no ['touch'], which shape_meta names|it has ['obs",
            ),
            ("~task.shape_meta.action", "shape_meta must name observations|mend the task YAML"),
            ("task.dataset.val_ratio=1.5", "val_ratio must be at most 1, got 1.5"),
            (
                "task.dataset.max_train_episodes=0",
                "max_train_episodes must be an integer of at least 1, got 0",
            ),
            # Names and targets
            ("+policy.colour=red", "unexpected keyword argument 'colour'|compare the configuration"),
            ("+optimizer.lrr=1", "torch.optim.AdamW: got an unexpected keyword argument 'lrr'"),
            ("optimizer._target_=os.mkdir", "asks for 'os.mkdir'|trusted_targets=[os.mkdir]"),
            ("trusted_targets=os.mkdir", "trusted_targets must be a list, as [my_package.MyEncoder]"),
            # Numbers
            ("training.checkpoint_every=0", "checkpoint_every must be an integer or null of at least 1"),
            ("training.num_epochs=ten", "training.num_epochs must be an integer of at least 0, got 'ten'"),
            ("training.lr_warmup_steps=few", "lr_warmup_steps must be an integer of at least 0, got 'few'"),
            ("training.n_rollouts=500", "training.n_rollouts must be at most 200"),
            ("training.seed=abc", "training.seed must be an integer of at least 0, got 'abc'"),
            ("training.n_threads=0", "training.n_threads must be an integer or null of at least 1, got 0"),
            ("training.max_grad_norm=-1", "max_grad_norm must be null or a positive number, got -1"),
            ("training.resume=no", "training.resume must be true or false, got 'no'"),
            ("training.mixed_precision=fp16", "mixed_precision must be null or bf16, got 'fp16'"),
            ("training.device=cuda:99", "device 'cuda:99' is not available|choose auto or cpu"),
            ("optimizer.lr=fast", "optimizer:|compare {"),
            ("dataloader.batch_size=many", "batch_size must be a positive multiple|got 'many'"),
            ("dataloader.batches_per_epoch=0", "batches_per_epoch must be null or at least 1, got 0"),
            ("model.down_dims=[16,30]", "down_dims must be multiples of n_groups=8"),
            ("model.down_dims=[]", "down_dims not empty, got 8 and []"),
            ("checkpoint.k=-1", "checkpoint k must be an integer of at least 0, got -1"),
            ("checkpoint.mode=best", "checkpoint.mode must be max or min, got 'best'"),
            ("checkpoint.monitor_key=val_los", "'val_los' is never logged|choose auto"),
            ("checkpoint.monitor_key=val_loss", "less val_loss is better: set checkpoint.mode=min"),
        ],
    )
    def test_what_cannot_be_meant(self, data: Path, tmp_path: Path, overrides: str, words: str) -> None:
        refusal = training_refusal(data, tmp_path / "run", *overrides.split())
        assert_refused(refusal, *words.split("|"))
        assert not list(tmp_path.glob("run/checkpoints/*"))

    def test_not_a_number(self, tmp_path: Path) -> None:
        buffer = ReplayBuffer.copy_from_path(write_episodes(tmp_path / "sound.zarr"))
        buffer["action"][33] = np.nan
        buffer.save_to_path(tmp_path / "data.zarr")
        refusal = training_refusal(tmp_path / "data.zarr", tmp_path / "run")
        assert_refused(
            refusal, "'action' holds NaN", "first in row 33 (episode 1, step 13)", "remove or repair"
        )

    def test_a_key_that_the_data_lack(self, tmp_path: Path) -> None:
        shutil.rmtree(write_episodes(tmp_path / "data.zarr") / "data/keypoint")
        refusal = training_refusal(tmp_path / "data.zarr", tmp_path / "run")
        assert_refused(refusal, "no array ['keypoint'] in 'data'", "choose among these, or other data")

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            ("training.num_epochs=5", "this run differs in training.num_epochs"),
            ("model.down_dims=[16,64]", "this run differs in policy.model.down_dims"),
            ("training.resume=false", "holds a run and training.resume is false"),
            ("task.dataset.max_train_episodes=2", "differs in task.dataset.max_train_episodes"),
            ("training.gradient_accumulate_every=2", "differs in training.gradient_accumulate_every"),
        ],
    )
    def test_another_run_in_its_folder(self, data: Path, run: Path, override: str, words: str) -> None:
        before = files_below(run)
        refusal = training_refusal(data, run, override)
        assert_refused(refusal, words, "hoose another hydra.run.dir")
        assert files_below(run) == before

    def test_other_data_in_its_folder(self, run: Path, tmp_path: Path) -> None:
        before = files_below(run)
        refusal = training_refusal(write_episodes(tmp_path / "more.zarr", n_episodes=6), run)
        assert_refused(refusal, "this run differs in", "the data", "hoose another hydra.run.dir")
        assert files_below(run) == before

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (
                spoiled.half("training_state.pt"),
                ["training_state.pt cannot be read", "another hydra.run.dir"],
            ),
            (spoiled.hostile_training_state, ["training_state.pt cannot be read", "another hydra.run.dir"]),
            (spoiled.without("training_state.pt"), ["training_state.pt is missing", "take another"]),
            (spoiled.with_content("../latest", "gone"), ["latest names 'gone'", "there are ['epoch=0002']"]),
            (
                spoiled.with_content("../../logs.json.txt", "?\n"),
                ["line 1 is not JSON", "or delete the line"],
            ),
        ],
    )
    def test_a_damaged_run(
        self,
        data: Path,
        run: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        spoil: spoiled.Spoil,
        words: list[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        copy = shutil.copytree(run, tmp_path / "run")
        spoil(find_checkpoint(copy).path)
        before = files_below(copy / "checkpoints")
        assert_refused(training_refusal(data, copy), *words)
        assert files_below(copy / "checkpoints") == before
        assert not (tmp_path / "canary").exists()

    def test_below_a_file(self, data: Path, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("hello")
        refusal = training_refusal(data, tmp_path / "notes.txt/run")
        assert_refused(refusal, "Not a directory", "notes.txt/run", "a file is in the way")

    def test_on_a_full_disk(self, data: Path, tmp_path: Path) -> None:
        """The earlier checkpoint stays, and the run goes on from it when there is room."""
        constant, run = "training.lr_scheduler=constant", tmp_path / "run"
        train(tiny_config(data, "training.num_epochs=1", constant), str(run))
        before = files_below(run / "checkpoints")
        with full_disk(20_000):
            refusal = training_refusal(data, run, constant)
        words = ("could not write checkpoint", "ile too large", "Earlier checkpoints are intact; make room")
        assert_refused(refusal, *words)
        assert files_below(run / "checkpoints") == before
        train(tiny_config(data, TWO_EPOCHS, constant), str(run))
        assert find_checkpoint(run).path.name == "epoch=0002"


class TestDemonstrating:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (
                "-o {data}",
                "an episode must have ['action', 'keypoint', 'state'], this one has|add it elsewhere",
            ),
            ("-o {tmp}/new.zarr -hz 0", "control_hz is 0.0; expected a positive number"),
            ("-o {tmp}/new.zarr -rs 0", "render_size is 0"),
            ("-o {tmp}/notes", "notes is not a zarr group|Choose the folder that has one"),
            ("-o {tmp}/notes/notes.txt/new.zarr", "Not a directory|a file is in the way"),
        ],
    )
    def test_before_anybody_demonstrates(
        self, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, words: str
    ) -> None:
        pytest.importorskip("pygame")
        monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
        (tmp_path / "notes").mkdir()
        (tmp_path / "notes/notes.txt").write_text("hello")
        before = files_below(tmp_path) | files_below(data)
        refusal = refusal_of(demo_main, *arguments.format(data=data, tmp=tmp_path).split())
        assert_refused(refusal, *words.split("|"))
        assert files_below(tmp_path) | files_below(data) == before

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is always a screen")
    def test_no_display(self, tmp_path: Path) -> None:
        pytest.importorskip("pygame")
        screens = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "SDL_VIDEO_DRIVER")
        result = subprocess.run(
            [sys.executable, "demo_pusht.py", "-o", str(tmp_path / "new.zarr")],
            cwd=REPOSITORY,
            env={name: value for name, value in os.environ.items() if name not in screens},
            capture_output=True,
            text=True,
            timeout=120,
        )
        said = Refusal(result.returncode, result.stderr)
        assert_refused(said, "could not open a window", "on a machine with a screen, or set DISPLAY")
        assert "Traceback" not in said.text
        assert not (tmp_path / "new.zarr").exists()


@pytest.mark.parametrize(
    ("main", "arguments", "words"),
    [
        (eval_main, "", "arguments are required: -c/--checkpoint, -o/--output_dir"),
        (eval_main, "-c a -o b --n_videos few", "argument --n_videos: invalid int value: 'few'"),
        (eval_main, "-c a -o b --sedes 0:1", "unrecognized arguments: --sedes"),
        (compare_main, "", "arguments are required: method"),
        (compare_main, "a b --metric speed", "invalid choice: 'speed' (choose from"),
        (report_main, "", "arguments are required: folder"),
        (demo_main, "", "arguments are required: -o/--output"),
        (demo_main, "-o a -hz often", "argument -hz/--control_hz: invalid float value: 'often'"),
    ],
)
def test_usage(main: object, arguments: str, words: str) -> None:
    assert_refused(refusal_of(main, *arguments.split()), "usage:", words, code=2)  # type: ignore[arg-type]

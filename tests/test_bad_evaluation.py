"""Bad input to evaluation, comparison and reports: what is said, what to do, and that nothing is left."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_policy.cli import eval_main, report_main
from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.scripts.comparison.compare import main as compare_main
from diffusion_policy.workspace.train_workspace import train
from tests import spoiled_checkpoints as spoiled
from tests.refusals import Refusal, assert_refused, files_below, full_disk, refusal_of
from tests.scripts.test_compare import write_evaluation
from tests.tiny_run import tiny_config, write_episodes

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(tiny_config(write_episodes(folder / "data.zarr"), "training.num_epochs=2"), str(folder / "run"))
    return folder / "run"


def evaluation_refusal(run: Path, output: Path, *arguments: str) -> Refusal:
    return refusal_of(eval_main, "-c", run, "-o", output, "--no-report", "--seeds", "0:1", *arguments)


class TestEvaluation:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("--seeds 5", "seeds must be START:STOP|such as 100000:100500"),
            ("--n_videos -1", "n_videos at least 0, got 50 and -1"),
            (
                "--controls luck",
                "controls must be all, or some of zero,random,nearest_neighbor,nearest_feature; got 'luck'",
            ),
            ("-d tpu", "device must be auto, cpu, cuda, cuda:N or mps, got 'tpu'"),
            ("-d cuda:99", "device 'cuda:99' is not available|choose auto or cpu"),
            ("sampler.steps=8", "would have no effect|as in policy.sampler.steps=8"),
            ("n_action_steps=4", "would have no effect|as in policy.sampler.steps=8"),
            ("policy.sampler.steps", "must be NAME=VALUE, got ['policy.sampler.steps']"),
            ("policy.sampler.steps=[1,", "config.yaml with overrides ['policy.sampler.steps=[1,']"),
            ("policy.samplerr.steps=1", "Key 'samplerr' is not in struct|change only what it has"),
            ("policy.sampler.steps=1000", "sampler steps must be between 1 and num_train_timesteps=100"),
            ("policy.sampler.steps=eight", "sampler steps must be between 1 and num_train_timesteps=100"),
            ("policy._target_=os.system", "asks for 'os.system'|--trust-target os.system"),
            ("policy.horizon=9", "horizon 9 cannot be halved 1 times|Use horizon 10"),
            ("policy.n_action_steps=8", "horizon=8 is too short|need a horizon of at least 9"),
            # Of another task
            (
                "policy.shape_meta.action.shape=[7]",
                "weights do not fit its configuration|leave out overrides",
            ),
            (
                "task.env_runner.env._target_=diffusion_policy.env.pusht.pusht_env.PushTEnv",
                "obs['obs'] must have shape (B, >=2 steps, 20), got (1, 2, 5)|the task that the policy was",
            ),
            ("task.env_runner.n_action_steps=9", "give policy and runner the same n_action_steps"),
            ("task.env_runner.n_envs=0", "n_envs must be at least 1"),
            ("task.env_runner.max_steps=0", "max_episode_steps is 0; expected at least 1"),
        ],
    )
    def test_what_cannot_be_meant(self, run: Path, tmp_path: Path, arguments: str, words: str) -> None:
        assert_refused(evaluation_refusal(run, tmp_path / "out", *arguments.split()), *words.split("|"))
        assert not any(path.is_file() for path in tmp_path.rglob("*"))

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (
                spoiled.without("model.safetensors"),
                "model.safetensors is missing|take another one of the run",
            ),
            (spoiled.half("model.safetensors"), "model.safetensors is damaged|take another checkpoint"),
            (spoiled.with_content("model.safetensors", b"\xff" * 8), "is damaged|take another checkpoint"),
            (spoiled.with_weights(lambda t: torch.cat([t, t])), "weights do not fit|take another checkpoint"),
            (spoiled.with_content("../latest", "gone"), "latest names 'gone'|there are ['epoch=0002']"),
            (spoiled.with_content("config.yaml", ""), "config.yaml is damaged|write or fetch it again"),
            (spoiled.with_content("config.yaml", "a: [1,"), "config.yaml is damaged|write or fetch it again"),
            (spoiled.with_content("config.yaml", "[1, 2]"), "must hold names and values, not list|fetch it"),
            (
                spoiled.with_content("config.yaml", "model: {}"),
                "no task.env_runner; is it another program's?",
            ),
            (spoiled.with_entry("task.env_runner", {"max_steps": 8}), "has no _target_|another checkpoint"),
            (spoiled.with_entry("policy", None), "builds no policy but a NoneType|take another checkpoint"),
            (
                spoiled.with_entry("policy", "mine"),
                "Cannot instantiate config of type str|compare the config",
            ),
            (
                spoiled.with_entry("policy", {"_target_": "diffusion_policy.env.pusht.pusht_env.PushTEnv"}),
                "builds no policy but a PushTEnv|take another checkpoint",
            ),
            # Hostile
            (
                spoiled.with_content("config.yaml", "policy: !!python/object/apply:os.mkdir [canary]"),
                "config.yaml is damaged|python/object/apply:os.mkdir",
            ),
            (spoiled.with_entry("policy", spoiled.HOSTILE), "asks for 'os.mkdir'|--trust-target os.mkdir"),
            (
                spoiled.with_entry("policy.conditioning", spoiled.HOSTILE),
                "asks for 'os.mkdir'|--trust-target",
            ),
            (
                spoiled.with_entry("task.env_runner.env", spoiled.HOSTILE),
                "asks for 'os.mkdir'|--trust-target",
            ),
            (
                spoiled.with_entry(
                    "policy.sampler",
                    {"_target_": "hydra.utils.instantiate", "config": spoiled.HOSTILE, "_recursive_": False},
                ),
                "asks for 'hydra.utils.instantiate'|--trust-target",
            ),
            (spoiled.with_entry("policy.horizon", "${oc.env:HOME}"), "unresolved interpolation|remove it"),
            (spoiled.with_entry("policy.horizon", "${"), "config.yaml with overrides []|change only what"),
        ],
    )
    def test_spoiled_checkpoints(
        self,
        run: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        spoil: spoiled.Spoil,
        words: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        copy = shutil.copytree(run, tmp_path / "run")
        spoil(find_checkpoint(copy).path)
        before = files_below(tmp_path)
        assert_refused(evaluation_refusal(copy, tmp_path / "out"), *words.split("|"))
        assert files_below(tmp_path) == before, "neither results nor a canary"

    def test_weights_that_diverged(self, run: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(run, tmp_path / "run")
        spoiled.with_weights(lambda tensor: torch.full_like(tensor, torch.nan))(find_checkpoint(copy).path)
        refusal = evaluation_refusal(copy, tmp_path / "out")
        assert_refused(refusal, "the policy predicted [nan, nan]", "check the weights and the normaliser")

    @pytest.mark.parametrize("name", ["", "config.yaml", "nothing"])
    def test_no_checkpoint(self, run: Path, tmp_path: Path, name: str) -> None:
        path = tmp_path if name == "" else find_checkpoint(run).path / name
        refusal = evaluation_refusal(path, tmp_path / "out")
        assert_refused(refusal, f"no checkpoint at {path}")
        assert not (tmp_path / "out").exists()

    def test_folders_that_cannot_be_written(
        self, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "notes.txt").write_text("hello")
        refusal = evaluation_refusal(run, tmp_path / "notes.txt/out")
        assert_refused(refusal, "Not a directory", "notes.txt/out", "a file is in the way")
        monkeypatch.setattr(
            os, "access", lambda path, mode: False
        )  # the system administrator may write anywhere
        refusal = evaluation_refusal(run, tmp_path / "out")
        assert_refused(refusal, "Permission denied", str(tmp_path / "out"), "change its permissions")

    def test_on_a_full_disk(self, run: Path, tmp_path: Path) -> None:
        with full_disk(1000):
            refusal = evaluation_refusal(run, tmp_path / "out")
        assert_refused(refusal, "File too large", "out/config.yaml", "make room")
        assert not any(path.is_file() for path in tmp_path.rglob("*"))


class TestComparison:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ("{tmp}/none", "no evaluation in|make one with eval.py"),
            ("{tmp}/a {tmp}/b", "ran on different episode seeds|evaluate both alike"),
            ("{tmp}/a {tmp}/short", "ran on different episode seeds|evaluate both alike"),
            ("{tmp}/a {tmp}/foreign", "these are not the episodes of a rollout|evaluate the policy again"),
            ("{tmp}/empty", "there are no episodes in this rollout|evaluate the policy again"),
            ("name=", "expected [NAME=]FOLDER[,FOLDER...], got 'name='"),
            ("{run} {run}", "comparing runs rolls them out|with -o OUT"),
            ("{run} {run} -o {tmp}/out --seeds 7", "seeds must be START:STOP|such as 100000:100500"),
            ("{tmp}/a {tmp}/a -o {tmp}/a/episodes.json/out", "Not a directory|a file is in the way"),
        ],
    )
    def test_what_cannot_be_compared(self, run: Path, tmp_path: Path, arguments: str, words: str) -> None:
        write_evaluation(tmp_path / "a", np.linspace(0, 1, 5))
        write_evaluation(tmp_path / "b", np.linspace(0, 1, 5), first_seed=7)
        write_evaluation(tmp_path / "short", np.linspace(0, 1, 4))
        write_evaluation(tmp_path / "empty", np.zeros(0))
        write_evaluation(tmp_path / "foreign", np.zeros(1)).joinpath("episodes.json").write_text("{}")
        before = files_below(tmp_path)
        refusal = refusal_of(compare_main, *arguments.format(tmp=tmp_path, run=run).split())
        assert_refused(refusal, *words.split("|"))
        assert files_below(tmp_path) == before


class TestReport:
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (None, "nothing to report in|give the folder that eval.py or train.py wrote"),
            ({}, "nothing to report in|give the folder that eval.py or train.py wrote"),
            ({"eval_log.json": "{"}, "eval_log.json is damaged|write or fetch it again"),
            ({"eval_log.json": "{}"}, "eval_log.json does not say checkpoint|evaluate the checkpoint again"),
            ({"eval_log.json": "good"}, "episodes.json is missing|make one with eval.py"),
            (
                {"eval_log.json": "good", "episodes.json": "{"},
                "episodes.json: these are not the episodes of a rollout|evaluate the policy again",
            ),
        ],
    )
    def test_nothing_to_report(self, tmp_path: Path, content: dict[str, str] | None, words: str) -> None:
        folder, good = tmp_path / "folder", '{"checkpoint": "run", "overrides": [], "provenance": {}}'
        if content is not None:
            folder.mkdir()
            for name, text in content.items():
                (folder / name).write_text(good if text == "good" else text)
        before = files_below(tmp_path)
        assert_refused(refusal_of(report_main, folder), *words.split("|"))
        assert files_below(tmp_path) == before

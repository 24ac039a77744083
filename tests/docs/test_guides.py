"""The guides' code blocks run, one after another, as a reader would run them."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

GUIDES = REPOSITORY / "docs" / "guides"
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# A network of a size for tests; what the reader types is otherwise the same.
TINY = (
    "model.down_dims=[16,32] model.diffusion_step_embed_dim=16 sampler.steps=2 horizon=12 dataloader.batch_size=32 "
    "dataloader.batches_per_epoch=2 training.num_epochs=2 training.lr_warmup_steps=1 training.device=cpu"
)
# Few candidates and short episodes.
QUICK = (
    "--samplers ddim --steps 1,2 --n_observations 4 --n_samples 4 --seeds 200000:200002 --margin 10 --score_margin 2 "
    "task.env_runner.max_steps=8"
)
# What `make setup` puts on the path: here the code under test, whatever is installed.
COMMANDS = f"""
set -e
python() {{ "{sys.executable}" "$@"; }}
diffusion-policy() {{ python -c 'from diffusion_policy.cli import main; main()' "$@"; }}
"""


def blocks(guide: str) -> list[tuple[str, str]]:
    return BLOCK.findall((GUIDES / guide).read_text())


def run(language: str, code: str, folder: Path) -> str:
    if language == "bash":
        code = re.sub(r"^(python train\.py .*)$", rf"\1 {TINY}", code, flags=re.MULTILINE)
        code = re.sub(r"^(diffusion-policy tune-sampler .*)$", rf"\1 {QUICK}", code, flags=re.MULTILINE)
        code = re.sub(r"^(python eval\.py .*)$", r"\1 task.env_runner.max_steps=8", code, flags=re.MULTILINE)
    command = ["bash", "-c", COMMANDS + code] if language == "bash" else [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, f"{code}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def test_your_own_data(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "train.py", tmp_path)
    said = "".join(run(language, code, tmp_path) for language, code in blocks("your-own-data.md"))
    assert "20, lengths 40 to 40" in said
    assert "errors: 0, warnings: 0; episodes: 20" in said
    assert "train with\n  python train.py --config-dir configs task=my_task" in said
    assert "torch.Size([1, 8, 2])" in said
    assert (tmp_path / "preview.png").stat().st_size > 10_000
    assert (tmp_path / "my_data.zarr").is_dir()
    assert [path for path in (tmp_path / "my_run/checkpoints").iterdir() if "val_loss=" in path.name]


def test_cameras(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "train.py", tmp_path)
    said = "".join(run(language, code, tmp_path) for language, code in blocks("cameras.md"))
    assert "front: frames of 240 x 320, resized to 96 x 128, the network sees 84 x 112" in said
    assert "action (2,)" in said
    for picture in ("sees.png", "looks_at.png"):
        assert (tmp_path / picture).stat().st_size > 10_000


def test_a_new_task(tmp_path: Path) -> None:
    for language, code in blocks("a-new-task.md"):
        run(language, code, tmp_path)


def test_action_representations(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "train.py", tmp_path)
    said = "".join(run(language, code, tmp_path) for language, code in blocks("action-representations.md"))
    assert "position [" in said
    assert "rotation_offset [" in said
    config = (tmp_path / "my_relative/config.yaml").read_text()
    assert config.count("kind: relative") == 2, "in the task and in the policy"


def test_faster_inference(tmp_path: Path) -> None:
    for script in ("train.py", "eval.py"):
        shutil.copy(REPOSITORY / script, tmp_path)
    said = "".join(run(language, code, tmp_path) for language, code in blocks("faster-inference.md"))
    assert "| chosen |" in said
    assert "2 pass both" in said or "1 pass both" in said
    assert "torch.Size([1, 8, 2])" in said
    checkpoint = (tmp_path / "fast_run/checkpoints/latest").read_text()
    assert (tmp_path / "fast_run/checkpoints" / checkpoint / "sampler.yaml").is_file()
    assert json.loads((tmp_path / "fast_eval/eval_log.json").read_text())["sampler"] == "tuned"

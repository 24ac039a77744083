"""Checkpoints that are damaged, hostile or of something else: each function spoils a checkpoint's folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.damaged_data import Hostile

Spoil = Callable[[Path], object]
# Builds a folder in the working directory, if it is ever called.
HOSTILE = {"_target_": "os.mkdir", "path": "canary"}


def without(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def half(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return spoil


def with_content(name: str, content: bytes | str) -> Spoil:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw)


def with_entry(name: str, value: Any) -> Spoil:
    """Replace an entry of the configuration by its dotted name."""

    def spoil(folder: Path) -> None:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        *parents, last = name.split(".")
        part = config
        for parent in parents:
            part = part[parent]
        part[last] = value
        (folder / "config.yaml").write_text(yaml.safe_dump(config))

    return spoil


def with_weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Spoil:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        save_file({name: change(tensor) for name, tensor in weights.items()}, folder / "model.safetensors")

    return spoil


def hostile_training_state(folder: Path) -> None:
    torch.save({"epoch": Hostile(Path("canary"))}, folder / "training_state.pt")

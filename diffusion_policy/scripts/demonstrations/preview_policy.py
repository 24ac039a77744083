"""A sheet of what a policy's network sees: `diffusion-policy data preview --run RUN`, or with training's words."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from torch import Tensor

from diffusion_policy.common.checkpoint import find_checkpoint
from diffusion_policy.common.instantiate import instantiate
from diffusion_policy.dataset.new_path import new_path
from diffusion_policy.dataset.sequence_dataset import SequenceDataset
from diffusion_policy.model.vision.multi_image_obs_encoder import MultiImageObsEncoder
from diffusion_policy.policy.load_policy import load_policy
from diffusion_policy.scripts.demonstrations.camera_sheet import draw_sheet
from diffusion_policy.scripts.demonstrations.camera_views import camera_views

N_AUGMENTED = 4


def preview_run(
    run: str | Path,
    output: str | PathLike[str],
    n_frames: int = 3,
    trusted_targets: Sequence[str] = (),
) -> list[str]:
    """Draw what a trained policy sees of the demonstrations it learned from, with the keypoints it looks at.

    Args:
        run: A run's folder (then its latest checkpoint) or a checkpoint's.
        output: The PNG file; its folder is made if need be.
        n_frames: How many, from episodes evenly spaced from the first to the last.
        trusted_targets: Full names outside this package that the configuration may build.

    Returns:
        Lines that say what each camera's network sees, and warnings.

    Raises:
        FileExistsError: something is at `output`.
        FileNotFoundError: there is no checkpoint, or the demonstrations are gone.
        ImportError: matplotlib is not installed.
        ValueError: the policy sees no camera.
    """
    _check(output, n_frames)
    config = find_checkpoint(run).config()
    with _warnings_as_lines() as lines:
        policy = load_policy(run, "cpu", trusted_targets=trusted_targets)
    encoder = _with_cameras(getattr(policy, "obs_encoder", None), str(run))
    return [*_draw(config, encoder, output, n_frames, trusted_targets, trained=True), *lines]


def preview_config(
    overrides: Sequence[str],
    output: str | PathLike[str],
    config_dir: str | PathLike[str] | None = None,
    n_frames: int = 3,
) -> list[str]:
    """Draw what the policy of a training's configuration will see, before anything is trained.

    Args:
        overrides: As of `train.py`: `task=my_task`.
        output: The PNG file; its folder is made if need be.
        config_dir: As of `train.py`: a folder with configurations of your own.
        n_frames: How many, from episodes evenly spaced from the first to the last.

    Returns:
        Lines that say what each camera's network sees, and warnings.

    Raises:
        FileExistsError: something is at `output`.
        FileNotFoundError: there are no demonstrations.
        ImportError: matplotlib is not installed.
        ValueError: the configuration is wrong, or its policy sees no camera.
    """
    _check(output, n_frames)
    config = _composed(overrides, config_dir)
    trusted = config.get("trusted_targets", ())
    encoder_config = config["policy"].get("obs_encoder")
    with _warnings_as_lines() as lines:
        encoder = None if encoder_config is None else instantiate(encoder_config, trusted)
    encoder = _with_cameras(encoder, "this policy")
    return [*_draw(config, encoder, output, n_frames, trusted, trained=False), *lines]


def _check(output: str | PathLike[str], n_frames: int) -> None:
    if Path(output).expanduser().exists():  # before anything is read
        raise FileExistsError(f"{output} exists already; choose another name, or add --overwrite")
    if n_frames < 1:
        raise ValueError(f"n_episodes must be at least 1, got {n_frames}")


def _composed(overrides: Sequence[str], config_dir: str | PathLike[str] | None) -> dict[str, Any]:
    """The resolved configuration of `train.py` with these arguments."""
    where = []
    if config_dir is not None:
        folder = Path(config_dir).expanduser().absolute()
        if not folder.is_dir():
            raise FileNotFoundError(f"--config-dir {config_dir}: there is no such folder")
        where = [f"hydra.searchpath=[{json.dumps(f'file://{folder}')}]"]
    with initialize_config_module("diffusion_policy.config", version_base="1.3"):
        config = compose("train", [*where, *overrides])
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


@contextmanager
def _warnings_as_lines() -> Iterator[list[str]]:
    """Collect what is warned of, such as a crop that keeps too little."""
    lines: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lines
    lines += [f"warning: {warning.message}" for warning in caught]


def _with_cameras(encoder: Any, whose: str) -> MultiImageObsEncoder:
    if not isinstance(encoder, MultiImageObsEncoder) or not encoder.cameras:
        raise ValueError(
            f"{whose} has no camera whose images it encodes; to see the demonstrations themselves: "
            "diffusion-policy data preview PATH"
        )
    return encoder


def _draw(
    config: Mapping[str, Any],
    encoder: MultiImageObsEncoder,
    output: str | PathLike[str],
    n_frames: int,
    trusted: Sequence[str],
    trained: bool,
) -> list[str]:
    dataset = instantiate(config["task"]["dataset"], trusted)
    frames, names = _frames(dataset, encoder.cameras, n_frames)
    views = camera_views(encoder, frames, N_AUGMENTED, with_keypoints=trained)
    path = Path(output).expanduser()
    with new_path(path) as temporary:
        draw_sheet(views, names).savefig(temporary, dpi=110, format=path.suffix.removeprefix(".") or "png")
    return [str(view) for view in views]


def _frames(
    dataset: SequenceDataset, cameras: Sequence[str], n_frames: int
) -> tuple[dict[str, Tensor], list[str]]:
    """Frames `{camera: (N, C, H, W)}` of episodes from the first to the last, and where each is.

    The first is the beginning of its episode and the last the end.
    """
    episodes = np.unique(np.linspace(0, dataset.n_episodes - 1, n_frames).round().astype(int)).tolist()
    frames: dict[str, list[Tensor]] = {camera: [] for camera in cameras}
    names = []
    for episode, share in zip(episodes, np.linspace(0, 1, len(episodes)), strict=True):
        obs = dataset.episode(episode)["obs"]
        step = round(share * (len(obs[cameras[0]]) - 1))
        names.append(f"episode {episode}, step {step}")
        for camera in cameras:
            frames[camera].append(torch.as_tensor(obs[camera][step]))
    return {camera: torch.stack(images) for camera, images in frames.items()}, names

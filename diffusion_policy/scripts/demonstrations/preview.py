"""Pictures of demonstrations, to see in a glance what a policy will be shown: `diffusion-policy data preview`."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import frames_per_second, is_image
from diffusion_policy.dataset.episode_files import load_episodes
from diffusion_policy.dataset.new_path import new_path

FRAMES_PER_EPISODE = 8
DIMS_DRAWN = 16  # of a key; more cannot be told apart
WIDTH = 14.0  # inches
ROW_HEIGHT = 1.9


def preview(
    path: str | PathLike[str],
    output: str | PathLike[str],
    keys: Sequence[str] | None = None,
    n_episodes: int = 3,
) -> None:
    """Draw frames and curves of a few episodes, histograms of every key and the episode lengths into a PNG.

    Args:
        path: Demonstrations in any format of `episode_files`.
        output: The PNG file; its folder is made if need be.
        keys: The arrays to draw, by default all.
        n_episodes: How many episodes, evenly spaced from the first to the last.

    Raises:
        FileExistsError: something is at `output`.
        ImportError: matplotlib is not installed.
        ValueError: `n_episodes` is below 1, or there are no episodes.
    """
    output = Path(output).expanduser()
    if output.exists():  # before anything is read
        raise FileExistsError(f"{output} exists already; choose another name, or add --overwrite")
    if n_episodes < 1:
        raise ValueError(f"n_episodes must be at least 1, got {n_episodes}")
    buffer = load_episodes(path, keys)
    if buffer.n_episodes == 0:
        raise ValueError(f"{path} has no episodes to draw")
    with new_path(output) as temporary:
        draw(buffer, n_episodes).savefig(temporary, dpi=110, format=output.suffix.removeprefix(".") or "png")


def draw(buffer: ReplayBuffer, n_episodes: int) -> Any:
    """The picture as a matplotlib figure: one row of axes per image key and episode, then one per other key."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('matplotlib is missing: pip install "diffusion_policy[plot]"') from error
    shown = np.unique(np.linspace(0, buffer.n_episodes - 1, n_episodes).round().astype(int)).tolist()
    images = [key for key, array in buffer.items() if is_image(array)]
    curves = [key for key in buffer.keys() if key not in images]  # noqa: SIM118 - a buffer is no dict
    n_rows = len(images) * len(shown) + len(curves) + 1
    figure = Figure(figsize=(WIDTH, ROW_HEIGHT * n_rows), layout="constrained")
    rows = list(figure.subfigures(n_rows, 1, squeeze=False)[:, 0])
    for key in images:
        for episode in shown:
            _draw_frames(rows.pop(0), buffer, key, episode)
    for key in curves:
        _draw_curves(rows.pop(0), buffer, key, shown)
    _draw_lengths(rows.pop(0), buffer)
    return figure


def _draw_frames(row: Any, buffer: ReplayBuffer, key: str, episode: int) -> None:
    steps = buffer.get_episode_slice(episode)
    chosen = np.linspace(steps.start, steps.stop - 1, FRAMES_PER_EPISODE).round().astype(int)
    row.suptitle(f"{key}, episode {episode}", fontsize=9)
    for axis, step in zip(row.subplots(1, FRAMES_PER_EPISODE), chosen.tolist(), strict=True):
        axis.imshow(buffer[key][step].squeeze(), cmap="gray", vmin=0, vmax=255)
        axis.set_title(f"step {step - steps.start}", fontsize=7)
        axis.set_axis_off()


def _draw_curves(row: Any, buffer: ReplayBuffer, key: str, episodes: Sequence[int]) -> None:
    values = np.asarray(buffer[key]).reshape(buffer.n_steps, -1)
    shown = values[:, :DIMS_DRAWN].astype(float)
    of_many = f" (first {DIMS_DRAWN} of {values.shape[1]} dimensions)" if values.shape[1] > DIMS_DRAWN else ""
    row.suptitle(f"{key} {tuple(buffer[key].shape[1:])}{of_many}", fontsize=9)
    axes = row.subplots(1, len(episodes) + 1, width_ratios=[2] * len(episodes) + [1], squeeze=False)[0]
    for axis, episode in zip(axes, episodes, strict=False):
        axis.plot(shown[buffer.get_episode_slice(episode)], linewidth=0.8)
        axis.set_title(f"episode {episode}, by step", fontsize=7)
    for column in shown.T:
        finite = column[np.isfinite(column)]
        axes[-1].hist(finite, bins=50, histtype="step", linewidth=0.8)
    axes[-1].set_title("all episodes", fontsize=7)
    for axis in axes:
        axis.tick_params(labelsize=6)


def _draw_lengths(row: Any, buffer: ReplayBuffer) -> None:
    fps = frames_per_second(buffer)
    row.suptitle(f"{buffer.n_episodes} episodes, {buffer.n_steps} steps", fontsize=9)
    by_order, histogram = row.subplots(1, 2)
    by_order.bar(np.arange(buffer.n_episodes), buffer.episode_lengths, width=1.0)
    by_order.set_title("length by episode" + (f", steps at {fps:g} Hz" if fps else ", steps"), fontsize=7)
    histogram.hist(buffer.episode_lengths, bins=min(50, max(5, buffer.n_episodes)))
    histogram.set_title("how many episodes have which length", fontsize=7)
    for axis in (by_order, histogram):
        axis.tick_params(labelsize=6)

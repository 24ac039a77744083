"""What a set of demonstrations holds, as a table."""

from pathlib import Path

import numpy as np

from diffusion_policy.common.content_hash import content_hash
from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.dataset.episode_arrays import frames_per_second


def info_table(buffer: ReplayBuffer, path: Path, format_name: str) -> str:
    """Format, size, episodes and every key, one line each.

    Args:
        buffer: What was read from `path`.
        path: The demonstrations.
        format_name: Of what is at `path`.
    """
    lengths = buffer.episode_lengths
    fps = frames_per_second(buffer)
    duration = f", {buffer.n_steps / fps / 60:.1f} minutes at {fps:g} Hz" if fps else ""
    spread = (
        f", lengths {lengths.min()} to {lengths.max()}, mean {lengths.mean():.1f}" if len(lengths) else ""
    )
    facts = {
        "path": f"{path} ({size_on_disk(path) / 1e6:.1f} MB on disk)",
        "format": format_name,
        "episodes": f"{buffer.n_episodes}{spread}",
        "steps": f"{buffer.n_steps}{duration}",
        "frames per second": f"{fps:g}" if fps else "not stated",
        "sha256 of arrays": content_hash(buffer.data, buffer.episode_ends),
    }
    width = max(map(len, facts))
    head = [f"{name:<{width}}  {value}" for name, value in facts.items()]
    return "\n".join([*head, "", *_key_lines(buffer)])


def _key_lines(buffer: ReplayBuffer) -> list[str]:
    rows: list[tuple[str, ...]] = [("key", "shape per step", "type", "least", "greatest", "mean")]
    for key, array in buffer.items():
        values = np.asarray(array)
        summary = (values.min(), values.max(), values.mean(dtype=float)) if values.size else (np.nan,) * 3
        numbers = [f"{float(value):.4g}" for value in summary]
        rows.append((key, str(tuple(values.shape[1:])), values.dtype.name, *numbers))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())
    return sum(file.stat().st_size for file in files)

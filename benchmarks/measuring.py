"""What the measuring scripts share: sizes, timing, and how a result is said. Imports neither implementation."""

import argparse
import json
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Network:
    """Sizes of a Push-T keypoint policy, equal on both sides."""

    horizon: int
    down_dims: tuple[int, ...]
    kernel_size: int
    step_embed_dim: int
    batch_size: int


SMALL = Network(horizon=12, down_dims=(64, 128, 256), kernel_size=3, step_embed_dim=64, batch_size=64)
PAPER = Network(horizon=16, down_dims=(256, 512, 1024), kernel_size=5, step_embed_dim=256, batch_size=256)
OBS_DIM, ACTION_DIM, N_OBS_STEPS, N_ACTION_STEPS = 20, 2, 2, 8
LOADING_BATCH = 256

Measure = Callable[[], float]


def options(description: str) -> argparse.Namespace:
    """`MEASURE --data ZARR [--original CHECKOUT] [--prepare MODULE] [--threads N]`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("measure")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--original", type=Path)
    parser.add_argument("--prepare")
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args()


def run(measures: Mapping[str, Measure], name: str) -> None:
    """Print one JSON line: the measured value, and the peak of resident memory in MiB; null where not offered."""
    value = measures[name]() if name in measures else None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"value": value, "peak_mib": peak}))


def seconds_each(call: Callable[[], object], n: int, warm_up: int = 1) -> float:
    """Median seconds of a call."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(n):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def wandering_actions(n_steps: int) -> np.ndarray:
    """(n_steps, 2) targets that cross the table and hit the block, in pixels."""
    angle = np.linspace(0, 6 * np.pi, n_steps)
    return 256 + np.stack([np.cos(angle), np.sin(2 * angle)], axis=1) * 180

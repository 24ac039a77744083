"""What is measured, at which sizes, and how it is timed; the same for all sides, and imports none of them."""

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

OBS_DIM, ACTION_DIM, N_OBS_STEPS, N_ACTION_STEPS = 20, 2, 2, 8
IMAGE_SIDE, CROP_SIDE = 96, 84  # pixels
IMAGE_BATCHES_A_CALL = 10
RECORD = "prediction.pt"  # in the scratch folder: what the original predicted, with its weights
COMMANDS = (
    "write_data",
    "write_prediction",
    "compare_prediction",
)  # of LeRobot's, the original's and our side
PACKAGES = {
    "torch": "torch",
    "numpy": "numpy",
    "diffusers": "diffusers",
    "pymunk": "pymunk",
    "gym_pusht": "gym-pusht",
}


@dataclass(frozen=True)
class Network:
    """Sizes of a Push-T keypoint policy, equal on all sides."""

    horizon: int
    down_dims: tuple[int, ...]
    kernel_size: int
    step_embed_dim: int
    batch_size: int


@dataclass(frozen=True)
class Sampler:
    """How a prediction is sampled; trained with 100 steps."""

    name: Literal["ddim", "ddpm"]
    steps: int


@dataclass(frozen=True)
class Sizes:
    """Of all that is measured; the defaults are the benchmark's, tests take less."""

    small: Network = Network(12, (64, 128, 256), kernel_size=3, step_embed_dim=64, batch_size=64)
    paper: Network = Network(16, (256, 512, 1024), kernel_size=5, step_embed_dim=256, batch_size=256)
    few_steps: Sampler = Sampler("ddim", 16)
    eight_steps: Sampler = Sampler("ddim", 8)
    all_steps: Sampler = Sampler("ddpm", 100)
    loading_batch: int = 256
    image_batch: int = 64
    many: int = 56  # environments that the original rolls out at once
    env_steps: int = 300
    seconds: float = 2.0  # of calls, after the first


@dataclass(frozen=True)
class Work:
    """Something to repeat: one call of `call` does it `amount` times."""

    call: Callable[[], object]
    amount: int = 1


class Implementation(Protocol):
    """One side. Each method prepares work on the CPU; None: there is no equivalent."""

    def windows(self, network: Network, obs_steps: int, batch_size: int) -> Work | None:
        """Load shuffled windows as float32 tensors, not yet normalised; the amount counts windows."""

    def images(self, horizon: int, obs_steps: int, batch_size: int, streamed: bool) -> Work | None:
        """Load shuffled windows of images as the encoder takes them, up to its normalisation.

        (batch_size, obs_steps, 3, CROP_SIDE, CROP_SIDE) float32 in [0, 1], each cropped at random. `streamed`: from
        JPEG 2000 on disk, else from memory. The amount counts windows.
        """

    def env_steps(self, actions: np.ndarray) -> Work | None:
        """Reset Push-T and follow `actions` (n, 2) in pixels, with keypoints and coverage of every step."""

    def training(self, network: Network) -> Work | None:
        """Take an optimizer step on one batch in memory: normalise, loss, gradient, AdamW, average."""

    def prediction(self, network: Network, sampler: Sampler, batch_size: int) -> Work | None:
        """Sample actions from observations in pixels to actions in pixels."""


@dataclass(frozen=True)
class Measure:
    """A line of the table.

    Args:
        title: what is measured, with its unit.
        bound: what bounds this implementation, as `profile_ours.py` showed.
        prepare: the work of one side.
        rate: so many per second (more is better), not seconds (less is).
    """

    title: str
    bound: str
    prepare: Callable[[Implementation, Sizes], Work | None]
    rate: bool = False


MEASURES = {
    "windows": Measure(
        "windows per second to the training device, batch 256, the observations that training uses",
        "torch's indexing, one gather per key, takes half of the time, finding the rows of the "
        "windows a quarter.",
        lambda side, sizes: side.windows(sizes.paper, N_OBS_STEPS, sizes.loading_batch),
        rate=True,
    ),
    "windows_all": Measure(
        "windows per second to the training device, batch 256, observations of all steps",
        "torch's indexing, one gather per key, takes 60 % of the time, finding the rows of the "
        "windows a quarter.",
        lambda side, sizes: side.windows(sizes.paper, sizes.paper.horizon, sizes.loading_batch),
        rate=True,
    ),
    "images": Measure(
        "windows of images per second to the encoder, batch 64, 2 steps, float32, cropped to 84 x 84 at random",
        "copying: the crops take two thirds, bytes to floats a quarter, gathering the images the rest.",
        lambda side, sizes: side.images(sizes.paper.horizon, N_OBS_STEPS, sizes.image_batch, streamed=False),
        rate=True,
    ),
    "images_streamed": Measure(
        "the same from JPEG 2000 on disk (in the system's cache)",
        "decoding: 0.5 ms an image and core.",
        lambda side, sizes: side.images(sizes.paper.horizon, N_OBS_STEPS, sizes.image_batch, streamed=True),
        rate=True,
    ),
    "env_steps": Measure(
        "Push-T environment steps per second, with coverage and keypoints",
        "Python: the ten physics steps of a control step take half of the time, a tenth of that "
        "inside the physics library; keypoints and coverage take two fifths.",
        lambda side, sizes: side.env_steps(wandering_actions(sizes.env_steps)),
        rate=True,
    ),
    "train_small": Measure(
        "training step, small network, batch 64 (s)",
        "arithmetic, 3.4 GFLOP: convolutions and their gradients take 60 %, Mish and group "
        "normalisation 27 %; optimizer and average 3 %.",
        lambda side, sizes: side.training(sizes.small),
    ),
    "train_paper": Measure(
        "training step, paper's network, batch 256 (s)",
        "arithmetic, 453 GFLOP: convolutions and their gradients take 94 %; optimizer and average 1 %.",
        lambda side, sizes: side.training(sizes.paper),
    ),
    "predict_small_1": Measure(
        "predict_action, small network, DDIM 16, B=1 (s)",
        "thin products: each weight is used for at most 12 time steps; packed convolutions take 60 to "
        "65 %, no other operator more than a tenth.",
        lambda side, sizes: side.prediction(sizes.small, sizes.few_steps, 1),
    ),
    "predict_small_56": Measure(
        "predict_action, small network, DDIM 16, B=56 (s)",
        "arithmetic, 15 GFLOP: packed convolutions take half, Mish 15 %, bringing data into their order 10 %.",
        lambda side, sizes: side.prediction(sizes.small, sizes.few_steps, sizes.many),
    ),
    "predict_paper_1": Measure(
        "predict_action, paper's network, DDPM 100, B=1 (s)",
        "memory: each pass reads 263 MB of weights and uses each for at most 16 time steps; packed "
        "convolutions take 86 %, at a quarter of the rate of a square matrix product.",
        lambda side, sizes: side.prediction(sizes.paper, sizes.all_steps, 1),
    ),
    "predict_paper_1_ddim": Measure(
        "predict_action, paper's network, DDIM 8, B=1 (s)",
        "as with DDPM.",
        lambda side, sizes: side.prediction(sizes.paper, sizes.eight_steps, 1),
    ),
    "predict_paper_56": Measure(
        "predict_action, paper's network, DDIM 16, B=56 (s)",
        "arithmetic, 529 GFLOP: convolutions take 89 %.",
        lambda side, sizes: side.prediction(sizes.paper, sizes.few_steps, sizes.many),
    ),
}


def wandering_actions(n_steps: int) -> np.ndarray:
    """(n_steps, 2) targets that cross the table and hit the block, in pixels."""
    angle = np.linspace(0, 6 * np.pi, n_steps)
    return 256 + np.stack([np.cos(angle), np.sin(2 * angle)], axis=1) * 180


def seconds_each(call: Callable[[], object], seconds: float) -> float:
    """Median duration of the calls that begin within `seconds` (at least one), after one to warm up."""
    call()
    durations: list[float] = []
    while sum(durations) < seconds or not durations:
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def measure(side: Implementation, name: str, sizes: Sizes) -> float | None:
    """The value of one measure; None where the side has no equivalent."""
    chosen = MEASURES[name]
    work = chosen.prepare(side, sizes)
    if work is None:
        return None
    each = seconds_each(work.call, sizes.seconds) / work.amount
    return 1 / each if chosen.rate else each


def options(description: str) -> argparse.Namespace:
    """Command line of one measure of one side."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("measure", choices=[*MEASURES, *COMMANDS])
    parser.add_argument("--data", required=True, help="pusht_cchi_v7_replay.zarr")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=Sizes.seconds, help="least duration of a measure")
    parser.add_argument("--original", type=Path, help="checkout of the original")
    parser.add_argument("--prepare", help="module to import before the original")
    parser.add_argument("--scratch", type=Path, help="folder for what one measure leaves for another")
    return parser.parse_args()


def report(side: Implementation, chosen: argparse.Namespace) -> None:
    """Measure, and print one JSON line: the value, the peak of resident memory in MiB, and versions."""
    import torch

    torch.set_num_threads(chosen.threads)
    value = measure(side, chosen.measure, Sizes(seconds=chosen.seconds))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(json.dumps({"value": value, "peak_mib": peak / unit, "versions": versions()}))


def versions() -> dict[str, str]:
    """Of Python and of those packages that were imported."""
    imported = {name: version(name) for module, name in PACKAGES.items() if module in sys.modules}
    return {"python": platform.python_version(), **imported}

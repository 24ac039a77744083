"""Record demonstrations of a scripted expert, seed after seed, in worker processes.

Seeds are tried in order from 500000 on, where neither evaluations nor human demonstrations have theirs.
"""

import itertools
import multiprocessing
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.statistics import bootstrap_mean_interval, wilson_interval
from diffusion_policy.dataset.episode_files import format_for_writing, save_episodes

FIRST_SEED = 500_000
STEPS_PER_CHUNK = 8192


@dataclass(frozen=True)
class Demonstration:
    """One episode of an expert.

    Attributes:
        seed: of its start and of the expert's jitter.
        steps: arrays of L steps, `action` among them. The observation that the last action leads to is not.
        success: whether the task was solved, which ends the episode.
        measured: of the whole episode, by name.
    """

    seed: int
    steps: dict[str, np.ndarray]
    success: bool
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def n_steps(self) -> int:
        """L."""
        return len(self.steps["action"])


@dataclass(frozen=True)
class GenerationReport:
    """What came of all seeds that were tried, in order, recorded or not.

    Attributes:
        n_recorded: episodes.
        seeds: (n,) tried.
        success: (n,) bool.
        n_steps: (n,) of each episode.
        measured: (n,) each, by name.
    """

    n_recorded: int
    seeds: np.ndarray
    success: np.ndarray
    n_steps: np.ndarray
    measured: dict[str, np.ndarray]

    @classmethod
    def of(cls, tried: Sequence[Demonstration], n_recorded: int) -> "GenerationReport":
        """The report on these."""
        return cls(
            n_recorded,
            np.array([one.seed for one in tried]),
            np.array([one.success for one in tried]),
            np.array([one.n_steps for one in tried]),
            {name: np.array([one.measured[name] for one in tried]) for name in tried[0].measured},
        )

    def summary(self) -> str:
        """Rate of success and means of what was measured, with 95 % intervals, and lengths, over all seeds tried."""
        low, median, high = np.percentile(self.n_steps, [5, 50, 95])
        rows = {"success": str(wilson_interval(int(self.success.sum()), len(self.success)))}
        rows |= {
            name.replace("_", " "): str(bootstrap_mean_interval(values))
            for name, values in self.measured.items()
        }
        rows["steps"] = f"median {median:.0f}, 5 % to 95 %: {low:.0f} to {high:.0f}"
        width = max(map(len, rows))
        head = f"recorded {self.n_recorded} episodes; tried seeds {self.seeds[0]} to {self.seeds[-1]}:"
        return "\n".join([head, *(f"{name:<{width}}  {value}" for name, value in rows.items())])


def generate(
    demonstrate: Callable[[int], Demonstration],
    output: str | PathLike[str],
    n_episodes: int = 200,
    first_seed: int = FIRST_SEED,
    keep_failures: bool = False,
    workers: int | None = None,
    meta: Mapping[str, np.ndarray] | None = None,
) -> GenerationReport:
    """Record demonstrations. The result does not depend on the number of workers.

    `meta` of what is recorded also holds `seed`, `success` and what was measured, of every episode. A run that is
    killed leaves its finished episodes in `output`, or in the directory `output` + ".partial" where that is to be one
    file.

    Args:
        demonstrate: makes the demonstration of a seed; it is sent to worker processes.
        output: the zarr directory to make; or a file, whose ending says in which format.
        n_episodes: how many to record.
        first_seed: seeds are tried from this one on, until there are so many episodes.
        keep_failures: also record episodes that did not succeed.
        workers: processes; None takes one per processor.
        meta: kept beside the episodes.

    Raises:
        FileExistsError: something is at `output`, or is left there by a run that was killed.
        ValueError: a number is out of range, or the ending of `output` is unknown.
    """
    output = Path(output).expanduser()
    workers = os.cpu_count() or 1 if workers is None else workers
    for name, value in (("n_episodes", n_episodes), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    if not 0 <= first_seed < 2**32 - 100 * n_episodes:
        raise ValueError(f"first_seed is {first_seed}; expected 500000, or another seed well below 2**32")
    format_for_writing(output)
    recorded = output if output.suffix == ".zarr" else output.with_name(output.name + ".partial")
    for path in (output, recorded):
        if path.exists():
            raise FileExistsError(f"{path} exists; delete it or choose another output")
    report = _record(demonstrate, recorded, n_episodes, first_seed, keep_failures, workers, meta or {})
    if recorded != output:
        save_episodes(ReplayBuffer.copy_from_path(recorded), output)
        shutil.rmtree(recorded)
    return report


def _record(
    demonstrate: Callable[[int], Demonstration],
    path: Path,
    n_episodes: int,
    first_seed: int,
    keep_failures: bool,
    workers: int,
    meta: Mapping[str, np.ndarray],
) -> GenerationReport:
    """Record into a new directory."""
    buffer = ReplayBuffer.create_empty_zarr(path)
    tried: list[Demonstration] = []
    recorded: list[Demonstration] = []
    progress = tqdm(total=n_episodes, unit="episode", desc="demonstrations")
    try:
        buffer.update_meta(dict(meta))
        with progress, closing(_demonstrations(demonstrate, first_seed, workers)) as demonstrations:
            while len(recorded) < n_episodes:
                tried.append(next(demonstrations))
                if tried[-1].success or keep_failures:
                    recorded.append(tried[-1])
                    _add(buffer, recorded)
                    progress.update()
    finally:
        if buffer.n_episodes == 0:  # nothing that would stand in the way of another try
            shutil.rmtree(path, ignore_errors=True)
    return GenerationReport.of(tried, len(recorded))


def _add(buffer: ReplayBuffer, recorded: Sequence[Demonstration]) -> None:
    """Add the last one; what is said of it first, so that no episode is ever without."""
    of_episodes: dict[str, Any] = {
        "seed": np.array([one.seed for one in recorded], dtype=np.int64),
        "success": np.array([one.success for one in recorded]),
    }
    for name in recorded[-1].measured:
        of_episodes[name] = np.array([one.measured[name] for one in recorded])
    buffer.update_meta(of_episodes)
    steps = recorded[-1].steps
    chunks = {key: _chunk(values) for key, values in steps.items()}
    buffer.add_episode(steps, chunks, compressors="disk")


def _chunk(values: np.ndarray) -> tuple[int, ...]:
    """Of a stored array: one image, or so many steps of numbers."""
    return (1 if values.ndim == 4 else STEPS_PER_CHUNK, *values.shape[1:])


def _demonstrations(
    demonstrate: Callable[[int], Demonstration], first_seed: int, workers: int
) -> Generator[Demonstration, None, None]:
    """Demonstrations of one seed after another, without end."""
    seeds = itertools.count(first_seed)
    if workers == 1:
        yield from map(demonstrate, seeds)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, initializer=_ignore_interrupts) as pool:
        ahead = deque(pool.submit(demonstrate, seed) for seed in itertools.islice(seeds, 2 * workers))
        try:
            for seed in seeds:
                yield ahead.popleft().result()
                ahead.append(pool.submit(demonstrate, seed))
        finally:
            for future in ahead:
                future.cancel()


def _ignore_interrupts() -> None:
    """Ctrl-C ends the parent, and that ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

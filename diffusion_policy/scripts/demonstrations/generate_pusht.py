"""Make Push-T demonstrations without any person, by the scripted expert.

    diffusion-policy data generate pusht data/pusht/generated.zarr --n_episodes 200

Seeds are tried in order from 500000 on, where neither evaluations nor human demonstrations have theirs.
"""

import itertools
import multiprocessing
import os
import shutil
import signal
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from tqdm import tqdm

from diffusion_policy.common.replay_buffer import ReplayBuffer
from diffusion_policy.common.statistics import bootstrap_mean_interval, wilson_interval
from diffusion_policy.env.pusht.geometry import block_keypoints
from diffusion_policy.env.pusht.pusht_env import PushTEnv
from diffusion_policy.env.pusht.scripted_pusher import ScriptedPusher

FIRST_SEED = 500_000
MAX_STEPS = 300
STEPS_PER_CHUNK = 8192


@dataclass(frozen=True)
class Demonstration:
    """One episode of the expert.

    Attributes:
        seed: of its start and of the expert's jitter.
        steps: arrays of L steps, as in the human set: `state` (L, 5), `keypoint` (L, 9, 2), `action` (L, 2);
            float32. The state that the last action leads to is not among them.
        final_coverage: after the last action.
        success: whether the coverage passed 95 %, which ends the episode.
    """

    seed: int
    steps: dict[str, np.ndarray]
    final_coverage: float
    success: bool

    @property
    def n_steps(self) -> int:
        """L."""
        return len(self.steps["action"])


def demonstrate(seed: int) -> Demonstration:
    """Let the expert solve Push-T from the start that `seed` gives, in at most 300 steps."""
    env, pusher = PushTEnv(legacy=True), ScriptedPusher(seed)
    state, info = env.reset(seed=seed)
    states, keypoints = [], []
    actions: list[np.ndarray] = []
    while len(actions) < MAX_STEPS and not info["is_success"]:
        action = pusher.act(info["pos_agent"], info["block_pose"])
        states.append(state)
        keypoints.append(block_keypoints(info["block_pose"]))
        actions.append(action)
        state, _, _, _, info = env.step(action)
    steps = {"state": states, "keypoint": keypoints, "action": actions}
    arrays = {key: np.array(values, dtype=np.float32) for key, values in steps.items()}
    return Demonstration(seed, arrays, float(info["coverage"]), bool(info["is_success"]))


@dataclass(frozen=True)
class GenerationReport:
    """What came of all seeds that were tried, in order, recorded or not.

    Attributes:
        n_recorded: episodes.
        seeds: (n,) tried.
        success: (n,) bool.
        final_coverage: (n,) in [0, 1].
        n_steps: (n,) of each episode.
    """

    n_recorded: int
    seeds: np.ndarray
    success: np.ndarray
    final_coverage: np.ndarray
    n_steps: np.ndarray

    @classmethod
    def of(cls, tried: Sequence[Demonstration], n_recorded: int) -> "GenerationReport":
        """The report on these."""
        return cls(
            n_recorded,
            np.array([one.seed for one in tried]),
            np.array([one.success for one in tried]),
            np.array([one.final_coverage for one in tried]),
            np.array([one.n_steps for one in tried]),
        )

    def summary(self) -> str:
        """Rate of success and mean coverage with 95 % intervals, and lengths, over all seeds tried."""
        low, median, high = np.percentile(self.n_steps, [5, 50, 95])
        lines = [
            f"recorded {self.n_recorded} episodes; tried seeds {self.seeds[0]} to {self.seeds[-1]}:",
            f"success         {wilson_interval(int(self.success.sum()), len(self.success))}",
            f"final coverage  {bootstrap_mean_interval(self.final_coverage)}",
            f"steps           median {median:.0f}, 5 % to 95 %: {low:.0f} to {high:.0f}",
        ]
        return "\n".join(lines)


def generate_pusht(
    output: str | PathLike[str],
    n_episodes: int = 200,
    first_seed: int = FIRST_SEED,
    keep_failures: bool = False,
    workers: int | None = None,
) -> GenerationReport:
    """Record demonstrations of the scripted expert in the layout of the human set, without images.

    `meta` also holds `seed` and `final_coverage` of every episode. The seed says how an episode starts
    (`reset(seed=..., options={"legacy": True})`); its actions replayed from there lead to its states, of
    which images can be rendered. The result does not depend on the number of workers. A run that is killed
    leaves its finished episodes in `output` (for a zip file, in the directory `output` + ".partial").

    Args:
        output: the zarr directory to make, or a name ending in `.zip` for one file.
        n_episodes: how many to record.
        first_seed: seeds are tried from this one on, until there are so many episodes.
        keep_failures: also record episodes that did not succeed in 300 steps.
        workers: processes; None takes one per processor.

    Raises:
        FileExistsError: something is at `output`, or is left there by a run that was killed.
        ValueError: a number is out of range.
    """
    output = Path(output).expanduser()
    workers = os.cpu_count() or 1 if workers is None else workers
    for name, value in (("n_episodes", n_episodes), ("workers", workers)):
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    if not 0 <= first_seed < 2**32 - 100 * n_episodes:
        raise ValueError(f"first_seed is {first_seed}; expected 500000, or another seed well below 2**32")
    recorded = output.with_name(output.name + ".partial") if output.suffix == ".zip" else output
    for path in (output, recorded):
        if path.exists():
            raise FileExistsError(f"{path} exists; delete it or choose another output")
    report = _record(recorded, n_episodes, first_seed, keep_failures, workers)
    if recorded != output:
        ReplayBuffer.create_from_path(recorded).save_to_path(output)
        shutil.rmtree(recorded)
    return report


def _record(
    path: Path, n_episodes: int, first_seed: int, keep_failures: bool, workers: int
) -> GenerationReport:
    """Record into a new directory."""
    buffer = ReplayBuffer.create_empty_zarr(path)
    tried: list[Demonstration] = []
    recorded: list[Demonstration] = []
    progress = tqdm(total=n_episodes, unit="episode", desc="demonstrations")
    with progress, closing(_demonstrations(first_seed, workers)) as demonstrations:
        while len(recorded) < n_episodes:
            tried.append(next(demonstrations))
            if tried[-1].success or keep_failures:
                recorded.append(tried[-1])
                _add(buffer, recorded)
                progress.update()
    return GenerationReport.of(tried, len(recorded))


def _add(buffer: ReplayBuffer, recorded: Sequence[Demonstration]) -> None:
    """Add the last one; its seed first, so that no episode is ever without."""
    buffer.update_meta(
        {
            "seed": np.array([one.seed for one in recorded], dtype=np.int64),
            "final_coverage": np.array([one.final_coverage for one in recorded]),
        }
    )
    steps = recorded[-1].steps
    chunks = {key: (STEPS_PER_CHUNK, *values.shape[1:]) for key, values in steps.items()}
    buffer.add_episode(steps, chunks, compressors="disk")


def _demonstrations(first_seed: int, workers: int) -> Generator[Demonstration, None, None]:
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

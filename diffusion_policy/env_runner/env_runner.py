"""Roll a policy out in an environment over fixed seeds."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from diffusion_policy.common.progress import seconds_between_draws
from diffusion_policy.common.random_seed import derived_generator
from diffusion_policy.env_runner.env_pool import EnvPool, InProcessPool, WorkerPool
from diffusion_policy.env_runner.episode_env import EnvSpec, Observation, Outcome
from diffusion_policy.env_runner.report import EpisodeResult, RolloutResult
from diffusion_policy.env_runner.task_check import check_actions, check_observation
from diffusion_policy.policy.base_policy import BasePolicy, Demonstrations

if TYPE_CHECKING:
    import gymnasium as gym

POOLS = {"in_process": InProcessPool, "workers": WorkerPool}
VIDEO_DIRECTORY = "media"


class EnvRunner:
    """Rolls a policy out, one episode per seed, and reports scores with intervals.

    The seeds run in batches of `n_envs`. An episode's noise comes from its own generator, seeded with
    (`noise_seed`, its seed): it depends neither on who shares its batch nor on the number of environments,
    and the global generators of torch and NumPy are not touched. Episodes that ended are neither stepped nor
    shown to the policy.

    Args:
        env: Called without arguments, returns a `gymnasium.Env` (in YAML, a `_partial_`). A Box observation
            reaches the policy as `{"obs": ...}`.
        seeds: Of the environment, one per episode.
        n_obs_steps: Observation steps To that the policy sees.
        n_action_steps: Actions Ta executed per prediction.
        max_steps: Episodes are truncated after so many environment steps.
        n_envs: Episodes at once: the policy's batch size.
        n_videos: Record the first so many episodes to `<output_dir>/media/<seed>.mp4`.
        fps: Frames per second of the videos; the control frequency in Hz plays in real time.
        pool: `in_process` for environments whose steps take microseconds, `workers` for heavy simulators.
        reset_options: `options` of the environment's `reset`.
        noise_seed: Another value gives other noise on the same episodes.
        final_metrics: Names of scalars in the environment's `info` of which to report the value at the
            episode's last step; names that the environment does not have are left out.
    """

    def __init__(
        self,
        env: "Callable[[], gym.Env]",
        seeds: Sequence[int],
        n_obs_steps: int,
        n_action_steps: int,
        max_steps: int,
        n_envs: int = 50,
        n_videos: int = 0,
        fps: float = 10,
        pool: Literal["in_process", "workers"] = "in_process",
        reset_options: Mapping[str, Any] | None = None,
        noise_seed: int = 0,
        final_metrics: Sequence[str] = ("coverage",),
    ) -> None:
        _check_seeds(seeds)
        if pool not in POOLS:
            raise ValueError(f"pool must be one of {', '.join(POOLS)}, got {pool!r}")
        if n_envs < 1 or n_videos < 0:
            raise ValueError(
                f"n_envs must be at least 1 and n_videos at least 0, got {n_envs} and {n_videos}"
            )
        self.spec = EnvSpec(env, n_obs_steps, n_action_steps, max_steps, fps, tuple(final_metrics))
        self.seeds = [int(seed) for seed in seeds]
        self.n_envs = min(n_envs, len(self.seeds))
        self.n_videos = n_videos
        self.pool = pool
        self.reset_options = reset_options
        self.noise_seed = noise_seed

    def run(
        self, policy: BasePolicy, output_dir: str | Path | None = None, progress: bool = True
    ) -> RolloutResult:
        """Roll out one episode per seed; the policy's training mode is as before when this returns.

        Args:
            policy: On the device where it is to run.
            output_dir: Where videos go; needed only for them.
            progress: Show a progress bar.

        Raises:
            ValueError: Videos are asked for without `output_dir`; or the policy predicts actions that are not
                finite or not (B, Ta, Da).
        """
        videos = self._video_paths(output_dir)
        episodes: list[EpisodeResult] = []
        n_steps = len(self.seeds) * self.spec.max_steps
        with (
            POOLS[self.pool](self.spec, self.n_envs) as pool,
            tqdm(
                total=n_steps,
                desc="rollout",
                unit="step",
                mininterval=seconds_between_draws(),
                disable=not progress,
            ) as bar,
            _evaluation_mode(policy),
        ):
            start = time.perf_counter()
            for first in range(0, len(self.seeds), self.n_envs):
                seeds = self.seeds[first : first + self.n_envs]
                batch = _Batch(seeds, self.noise_seed)
                batch.begin(policy, pool, self.reset_options, [videos.get(seed) for seed in seeds])
                while batch.active:
                    batch.advance(policy, pool, self.spec.n_action_steps)
                    bar.update(first * self.spec.max_steps + batch.steps_behind(self.spec.max_steps) - bar.n)
                episodes += batch.results(videos)
            wall_time_s = time.perf_counter() - start
        return RolloutResult(tuple(episodes), wall_time_s)

    def check(self, dataset: Demonstrations, shape_meta: Mapping[str, Any]) -> None:
        """See that the environment shows and takes what the demonstrations do; it is reset once.

        Raises:
            ValueError: an observation is missing, or its shape or the action's is another.
        """
        with POOLS[self.pool](self.spec, 1) as pool:
            (observation,) = pool.reset(self.seeds[:1], self.reset_options)
            check_observation(observation, shape_meta)
            bounds = pool.action_bounds()
        if bounds is not None:
            recorded = dataset.get_normalizer()["action"]
            check_actions(bounds, (recorded.input_min.cpu().numpy(), recorded.input_max.cpu().numpy()))

    def _video_paths(self, output_dir: str | Path | None) -> dict[int, Path]:
        if self.n_videos == 0:
            return {}
        if output_dir is None:
            raise ValueError(f"n_videos={self.n_videos} needs an output_dir to write to; pass it to run()")
        directory = Path(output_dir) / VIDEO_DIRECTORY
        directory.mkdir(parents=True, exist_ok=True)
        return {seed: directory / f"{seed}.mp4" for seed in self.seeds[: self.n_videos]}


class _Batch:
    """The episodes that run together; row i is environment i of the pool."""

    def __init__(self, seeds: Sequence[int], noise_seed: int) -> None:
        self._seeds = seeds
        self._generators = [derived_generator(noise_seed, seed) for seed in seeds]
        self._outcomes = [Outcome() for _ in seeds]
        self._obs: list[Observation] = []
        self.active: list[int] = []

    def begin(
        self,
        policy: BasePolicy,
        pool: EnvPool,
        options: Mapping[str, Any] | None,
        video_paths: Sequence[Path | None],
    ) -> None:
        policy.reset(self._seeds)
        self._obs = pool.reset(self._seeds, options, video_paths)
        self.active = list(range(len(self._seeds)))

    def steps_behind(self, max_steps: int) -> int:
        """Of all its episodes' `max_steps` each; an episode that ended early counts as whole."""
        return len(self._seeds) * max_steps - sum(max_steps - self._outcomes[i].n_steps for i in self.active)

    def advance(self, policy: BasePolicy, pool: EnvPool, n_action_steps: int) -> None:
        """Predict and execute one chunk in every active episode."""
        obs = _stack([self._obs[i] for i in self.active], policy.device)
        prediction = policy.predict_action(obs, generator=[self._generators[i] for i in self.active])
        actions = prediction["action"].float().cpu().numpy()  # (B, Ta, Da)
        self._check(actions, n_action_steps)
        n_actions = prediction.get("n_actions", torch.full((len(actions),), n_action_steps)).tolist()

        chunks = {i: a[:n] for i, a, n in zip(self.active, actions, n_actions, strict=True) if n > 0}
        done = set(self.active) - set(chunks)  # the policy has nothing more to do there
        for i, result in zip(chunks, pool.step(list(chunks), list(chunks.values())), strict=True):
            self._obs[i], self._outcomes[i] = result.obs, result.outcome
            if result.done:
                done.add(i)
        going_on = [row for row, i in enumerate(self.active) if i not in done]
        if 0 < len(going_on) < len(self.active):
            policy.retain(going_on)
        self.active = [self.active[row] for row in going_on]

    def _check(self, actions: NDArray[np.float32], n_action_steps: int) -> None:
        expected = (len(self.active), n_action_steps)
        if actions.ndim != 3 or actions.shape[:2] != expected:
            raise ValueError(
                f"the policy returned actions of shape {actions.shape}, but the runner executes {expected} + "
                "(Da,): give policy and runner the same n_action_steps"
            )
        for i, chunk in zip(self.active, actions, strict=True):
            for k, action in enumerate(chunk):
                if not np.isfinite(action).all():
                    raise ValueError(
                        f"the policy predicted {action.tolist()} in the episode with seed {self._seeds[i]} "
                        f"at step {self._outcomes[i].n_steps + k}; check the weights and the normaliser"
                    )

    def results(self, videos: Mapping[int, Path]) -> Iterator[EpisodeResult]:
        for seed, outcome in zip(self._seeds, self._outcomes, strict=True):
            video = f"{VIDEO_DIRECTORY}/{videos[seed].name}" if seed in videos else None
            yield EpisodeResult(seed=seed, video=video, **asdict(outcome))


def _stack(observations: Sequence[Observation], device: torch.device) -> dict[str, Tensor]:
    """`{key: (B, To, ...)}` tensors on `device`; floating-point values become float32."""
    return {key: _as_tensor(np.stack([obs[key] for obs in observations]), device) for key in observations[0]}


def _as_tensor(array: NDArray[Any], device: torch.device) -> Tensor:
    if np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float32, copy=False)
    return torch.from_numpy(array).to(device)


@contextmanager
def _evaluation_mode(policy: BasePolicy) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in policy.modules()]
    policy.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _check_seeds(seeds: Sequence[int]) -> None:
    if len(seeds) == 0 or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds must be one or more distinct integers >= 0, got {list(seeds)}")

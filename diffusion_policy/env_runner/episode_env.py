"""One environment that runs episode after episode and keeps count of how each goes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.gym_util.multistep_wrapper import MultiStepWrapper
from diffusion_policy.gym_util.video_recording_wrapper import VideoRecordingWrapper

# After gym_util, whose import names the extra to install where gymnasium is missing.
import gymnasium  # isort: skip

Observation = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class EnvSpec:
    """How to build an environment and its wrappers; crosses to worker processes, so `env` must be picklable.

    Attributes:
        env: Called without arguments, returns a `gymnasium.Env`.
        n_obs_steps: Observation steps To that the policy sees.
        n_action_steps: Actions Ta executed per prediction.
        max_steps: An episode is truncated after so many steps.
        fps: Frames per second of videos.
        final_metrics: Names of the scalars in `info` to report from an episode's last step.
    """

    env: Callable[[], gymnasium.Env]
    n_obs_steps: int
    n_action_steps: int
    max_steps: int
    fps: float = 10
    final_metrics: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """How an episode went so far; the fields are those of `EpisodeResult`."""

    score: float = -np.inf
    n_steps: int = 0
    success: bool | None = None
    steps_to_success: int | None = None
    final: dict[str, float | bool] = field(default_factory=dict)

    def after_step(self, reward: float, info: Mapping[str, Any], final_metrics: Sequence[str]) -> "Outcome":
        """The outcome after one more environment step.

        The score is `info["score"]` where the environment says so, else the largest reward.
        """
        n_steps = self.n_steps + 1
        success = self.success
        if "is_success" in info:
            success = bool(success or info["is_success"])
        return Outcome(
            score=float(info["score"]) if "score" in info else max(self.score, float(reward)),
            n_steps=n_steps,
            success=success,
            steps_to_success=n_steps if success and not self.success else self.steps_to_success,
            final={name: _number(info[name]) for name in final_metrics if name in info},
        )


class StepResult(NamedTuple):
    """What comes back from executing one chunk of actions."""

    obs: Observation
    done: bool
    outcome: Outcome


class EpisodeEnv:
    """An environment with observation stacking, action chunks, bookkeeping and, on demand, a video.

    The environment is built at the first reset, and used for all episodes.

    Args:
        spec: How to build it.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self._spec = spec
        self._env: MultiStepWrapper | None = None

    def reset(self, seed: int, options: Mapping[str, Any] | None, video_path: Path | None) -> Observation:
        """Begin an episode.

        Args:
            seed: Of the environment.
            options: Of the environment's `reset`.
            video_path: Where to record the episode, or None.

        Returns:
            `{key: (To, ...)}`, the first observation repeated.
        """
        if self._env is None:
            self._env = self._build()
        self._video.path = video_path
        obs, _ = self._env.reset(seed=seed, options=None if options is None else dict(options))
        return _as_dict(obs)

    def _build(self) -> MultiStepWrapper:
        spec = self._spec
        self._video = VideoRecordingWrapper(spec.env(), None, spec.fps)
        self._monitor = _Monitor(self._video, spec.final_metrics)
        return MultiStepWrapper(self._monitor, spec.n_obs_steps, spec.n_action_steps, spec.max_steps)

    def step(self, actions: NDArray[np.float32]) -> StepResult:
        """Execute actions (Ta, Da), fewer if the episode ends."""
        assert self._env is not None, "reset begins an episode"
        obs, _, terminated, truncated, _ = self._env.step(actions)
        done = bool(terminated or truncated)
        if done:
            self._video.finish_recording()
        return StepResult(_as_dict(obs), done, self._monitor.outcome)

    def action_bounds(self) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Least and greatest values of the action space, (Da,) each; None where it is no Box."""
        assert self._env is not None, "reset begins an episode"
        space = self._env.unwrapped.action_space
        return (space.low, space.high) if isinstance(space, gymnasium.spaces.Box) else None

    def close(self) -> None:
        """Finish the video and close the environment."""
        if self._env is not None:
            self._env.close()
            self._env = None


class _Monitor(gymnasium.Wrapper):
    """Sees every environment step, also those inside a chunk of actions."""

    def __init__(self, env: gymnasium.Env, final_metrics: Sequence[str]) -> None:
        super().__init__(env)
        self._final_metrics = final_metrics
        self.outcome = Outcome()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self.outcome = Outcome()
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self.outcome = self.outcome.after_step(float(reward), info, self._final_metrics)
        return obs, reward, terminated, truncated, info


def _number(value: Any) -> float | bool:
    return bool(value) if isinstance(value, bool | np.bool_) else float(value)


def _as_dict(obs: Any) -> Observation:
    return obs if isinstance(obs, dict) else {"obs": obs}

"""Policies that do not learn: what a results table must show beside every learned policy.

A score means little alone. These say what it is worth to do nothing, to move at random, to repeat a
demonstration without looking, and to look up the most similar moment in the demonstrations.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_policy.common.noise import Generators, randn
from diffusion_policy.model.common.normalizer import LinearNormalizer
from diffusion_policy.policy.base_policy import BasePolicy, Demonstrations


class ControlPolicy(BasePolicy):
    """Base of the controls; arguments as in `BasePolicy`.

    What `fit` keeps of the demonstrations lies in buffers, so that a control is saved and loaded as any
    policy is. Their sizes depend on the demonstrations and are taken over on loading.
    """

    def compute_loss(self, batch: Mapping[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """There is none.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{type(self).__name__} does not learn: call fit(dataset) and evaluate it")

    def predict_action(
        self,
        obs: Mapping[str, Tensor],
        *,
        generator: Generators = None,
        noise: Tensor | None = None,
        committed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """See `BasePolicy.predict_action`."""
        action_pred = self._action_pred(obs, generator, noise)
        if committed is not None:
            first = self.first_action_step
            action_pred[:, first : first + committed.shape[1]] = committed
        return self.executed_part(action_pred)

    @abstractmethod
    def _action_pred(self, obs: Mapping[str, Tensor], generator: Generators, noise: Tensor | None) -> Tensor:
        """The actions (B, T, Da), in memory of their own."""

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
        for name, buffer in self._buffers.items():
            if buffer is not None and prefix + name in state_dict:
                self._buffers[name] = buffer.new_empty(state_dict[prefix + name].shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


class ZeroPolicy(ControlPolicy):
    """Always predicts the action whose normalised value is 0.

    With a normaliser that maps the recorded range to [-1, 1] this is the centre of the range (on Push-T the
    pusher goes to the middle of the table and stays); with an identity normaliser it is the zero action.
    """

    def _action_pred(self, obs: Mapping[str, Tensor], generator: Generators, noise: Tensor | None) -> Tensor:
        zeros = torch.zeros(_batch_size(obs), self.horizon, self.action_dim, device=self.device)
        return self.normalizer["action"].unnormalize(zeros)


class RandomPolicy(ControlPolicy):
    """Predicts actions drawn uniformly, step by step, from the range of the training actions.

    Arguments as in `BasePolicy`.
    """

    action_low: Tensor
    action_high: Tensor

    def __init__(
        self, shape_meta: Mapping[str, Any], horizon: int, n_obs_steps: int, n_action_steps: int
    ) -> None:
        super().__init__(shape_meta, horizon, n_obs_steps, n_action_steps)
        self.register_buffer("action_low", torch.full((self.action_dim,), torch.nan))
        self.register_buffer("action_high", torch.full((self.action_dim,), torch.nan))

    def fit(self, dataset: Demonstrations) -> None:
        """Keep the smallest and largest recorded value of each action dimension."""
        super().fit(dataset)
        actions = np.concatenate([episode["action"] for episode in dataset.train_episodes()])
        self.action_low = self._tensor(actions.min(axis=0))
        self.action_high = self._tensor(actions.max(axis=0))

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self.device)

    def _action_pred(self, obs: Mapping[str, Tensor], generator: Generators, noise: Tensor | None) -> Tensor:
        if noise is None:
            noise = randn((_batch_size(obs), self.horizon, self.action_dim), generator, self.device)
        uniform = torch.special.ndtr(noise)  # (B, T, Da), in [0, 1]: the distribution function of the noise
        return self.action_low + (self.action_high - self.action_low) * uniform


class RecordedActionsPolicy(ControlPolicy):
    """Base of the controls that give back recorded actions; arguments as in `BasePolicy`."""

    actions: Tensor  # (N, Da), all episodes one after the other
    episode_ends: Tensor  # (E,), index after the last step of each episode

    def __init__(
        self, shape_meta: Mapping[str, Any], horizon: int, n_obs_steps: int, n_action_steps: int
    ) -> None:
        super().__init__(shape_meta, horizon, n_obs_steps, n_action_steps)
        self.register_buffer("actions", torch.zeros(0, self.action_dim))
        self.register_buffer("episode_ends", torch.zeros(0, dtype=torch.int64))

    def _record(self, episodes: Sequence[NDArray[Any]]) -> None:
        """Keep the actions (L, Da) of each episode."""
        ends = np.cumsum([len(actions) for actions in episodes])
        self.actions = torch.as_tensor(np.concatenate(episodes), dtype=torch.float32, device=self.device)
        self.episode_ends = torch.as_tensor(ends, device=self.device)

    def _episode_starts(self) -> Tensor:
        """(E,), index of the first step of each episode."""
        return torch.cat([self.episode_ends.new_zeros(1), self.episode_ends[:-1]])

    def _actions_around(self, rows: Tensor, episodes: Tensor) -> Tensor:
        """The recorded actions with `actions[rows]` at index To-1: (B, T, Da).

        Before the first and after the last step of an episode its first and last action are repeated.

        Args:
            rows: (B,), may lie beyond the end of the episode.
            episodes: (B,), to which the rows belong.
        """
        offsets = torch.arange(self.horizon, device=self.device) - self.first_action_step
        first, last = self._episode_starts()[episodes], self.episode_ends[episodes] - 1  # (B,)
        return self.actions[(rows[:, None] + offsets).clamp(first[:, None], last[:, None])]


class ReplayPolicy(RecordedActionsPolicy):
    """Replays a demonstration without looking: in the episode with seed e the actions of demonstration e.

    Where an environment's reset with seed e repeats the start of demonstration e (human Push-T: seeds 0 to
    205), this says whether physics, actions and time line agree with the recordings; a good replay is no good
    policy. The episode ends with the demonstration.
    """

    def __init__(
        self, shape_meta: Mapping[str, Any], horizon: int, n_obs_steps: int, n_action_steps: int
    ) -> None:
        super().__init__(shape_meta, horizon, n_obs_steps, n_action_steps)
        self._episodes = torch.zeros(0, dtype=torch.int64)  # (B,)
        self._step = 0

    def fit(self, dataset: Demonstrations) -> None:
        """Keep the actions of all demonstrations, those for validation included."""
        super().fit(dataset)
        self._record([dataset.episode(index)["action"] for index in range(dataset.n_episodes)])

    def reset(self, episode_seeds: Sequence[int] | None = None) -> None:
        """Begin to replay the demonstrations with these numbers.

        Raises:
            ValueError: there is no demonstration with such a number, or no numbers are given.
        """
        n_episodes = len(self.episode_ends)
        if n_episodes == 0:
            raise ValueError("ReplayPolicy has no demonstrations: call fit(dataset) or load a checkpoint")
        if episode_seeds is None:
            raise ValueError("ReplayPolicy needs episode_seeds to know which demonstrations to replay")
        for seed in episode_seeds:
            if not 0 <= seed < n_episodes:
                raise ValueError(
                    f"there is no demonstration for episode seed {seed}: train with training.rollout_every=null and "
                    f"evaluate with --seeds 0:{n_episodes}"
                )
        super().reset(episode_seeds)
        self._episodes = torch.as_tensor(episode_seeds, dtype=torch.int64)
        self._step = 0

    def retain(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        self._episodes = self._episodes[list(rows)]

    def predict_action(
        self,
        obs: Mapping[str, Tensor],
        *,
        generator: Generators = None,
        noise: Tensor | None = None,
        committed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """See `BasePolicy.predict_action`; `n_actions` is 0 after the end of the demonstration."""
        episodes = self._episodes.to(self.device)
        n_left = self.episode_ends[episodes] - self._episode_starts()[episodes] - self._step  # (B,)
        result = super().predict_action(obs, generator=generator, noise=noise, committed=committed)
        return result | {"n_actions": n_left.clamp(0, self.n_action_steps)}

    def _action_pred(self, obs: Mapping[str, Tensor], generator: Generators, noise: Tensor | None) -> Tensor:
        n_rows = _batch_size(obs)
        if n_rows != len(self._episodes):
            raise ValueError(
                f"got observations of {n_rows} episodes but replays {len(self._episodes)}: call "
                "reset(episode_seeds) when episodes begin, retain(rows) when some end"
            )
        episodes = self._episodes.to(self.device)
        action_pred = self._actions_around(self._episode_starts()[episodes] + self._step, episodes)
        self._step += self.n_action_steps
        return action_pred


class NeighborPolicy(RecordedActionsPolicy):
    """Base of the controls that look up the most similar training step and return the actions that followed.

    Compared is the present step (index To-1) by Euclidean distance, each part of its description scaled as a
    whole so that its training range is [-1, 1]: its dimensions, often coordinates, keep their proportions. Beyond
    the end of the neighbour's episode its last action is repeated. The score depends on how many steps are
    executed per lookup: state n_action_steps.
    """

    observations: Tensor  # (N, D), scaled

    def __init__(
        self, shape_meta: Mapping[str, Any], horizon: int, n_obs_steps: int, n_action_steps: int
    ) -> None:
        super().__init__(shape_meta, horizon, n_obs_steps, n_action_steps)
        self.observation_range = LinearNormalizer()
        self.register_buffer("observations", torch.zeros(0, 0))

    @abstractmethod
    def described(self, obs: Mapping[str, Any]) -> dict[str, Tensor]:
        """What is compared of N observed steps `{key: (N, ...)}`, as `{part: (N, D)}`."""

    def fit(self, dataset: Demonstrations) -> None:
        """Keep what is compared, and the actions, of all training steps."""
        super().fit(dataset)
        actions: list[NDArray[Any]] = []
        described: list[dict[str, Tensor]] = []
        for episode in dataset.train_episodes():  # one by one: all images at once may not fit in memory
            actions.append(episode["action"])
            described.append(self.described(episode["obs"]))
        self._record(actions)
        stacked = {
            part: torch.cat([rows[part] for rows in described]) for part in described[0]
        }  # each (N, D)
        self.observation_range.fit(stacked, last_n_dims=0)
        self.observations = self._joined(stacked)

    def _action_pred(self, obs: Mapping[str, Tensor], generator: Generators, noise: Tensor | None) -> Tensor:
        present = self.described({key: values[:, self.n_obs_steps - 1] for key, values in obs.items()})
        distances = torch.cdist(  # (B, N); differences, not dot products, so that ties and zeros are exact
            self._joined(present),
            self.observations,
            compute_mode="donot_use_mm_for_euclid_dist",
        )
        rows = distances.argmin(dim=1)
        episodes = torch.searchsorted(self.episode_ends, rows, right=True)
        return self._actions_around(rows, episodes)

    def _joined(self, described: Mapping[str, Tensor]) -> Tensor:
        """Scaled parts `{part: (N, D)}` side by side."""
        return torch.cat(list(self.observation_range.normalize(described).values()), dim=-1)


class NearestNeighborPolicy(NeighborPolicy):
    """`NeighborPolicy` that compares the low-dim observations; images are not looked at.

    Raises:
        ValueError: `shape_meta` has no low-dim observation.
    """

    def __init__(
        self, shape_meta: Mapping[str, Any], horizon: int, n_obs_steps: int, n_action_steps: int
    ) -> None:
        super().__init__(shape_meta, horizon, n_obs_steps, n_action_steps)
        attributes = shape_meta["obs"]
        self._keys = [key for key in attributes if attributes[key].get("type", "low_dim") == "low_dim"]
        if not self._keys:
            raise ValueError(
                "NearestNeighborPolicy compares observations of type low_dim, but shape_meta has none among "
                f"{list(attributes)}: it cannot be the control of this task"
            )

    def described(self, obs: Mapping[str, Any]) -> dict[str, Tensor]:
        """The low-dim observations of N steps, each (N, D)."""
        return {key: torch.as_tensor(obs[key]).to(self.device).flatten(1) for key in self._keys}


def _batch_size(obs: Mapping[str, Tensor]) -> int:
    return len(next(iter(obs.values())))

"""Predictions of a policy at moments of recorded episodes, beside what was recorded there."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_policy.common.random_seed import derived_generator
from diffusion_policy.policy.base_policy import BasePolicy
from diffusion_policy.scripts.diagnosis.recordings import Array, Recordings, actions

MAX_ROWS = 192
BATCH_SIZE = 64
SLACK = 2  # steps before and after a chunk, to see whether a prediction fits them better

Obs = dict[str, NDArray[Any]]  # {key: (N, To, ...)}


@dataclass(frozen=True)
class Chunks:
    """Moments of recorded episodes: what the policy sees there, and what was done next.

    Attributes:
        obs: `{key: (N, To, ...)}`; before an episode its first step is repeated.
        recorded: (N, SLACK + Ta + SLACK, Da), the recorded actions around the executed steps, the ends of an
            episode repeated.
        previous: (N, Da), the action before.
        next_row: (N,), the row of the moment Ta steps later in the same episode, or -1.
        n_action_steps: Ta.
    """

    obs: Obs
    recorded: Array
    previous: Array
    next_row: NDArray[np.int64]
    n_action_steps: int

    @classmethod
    def of(cls, recordings: Recordings, policy: BasePolicy) -> "Chunks":
        """Chunks one after the other, and once more half a chunk later, up to `MAX_ROWS`.

        Raises:
            ValueError: every held-out episode is shorter than a chunk.
        """
        length = policy.n_action_steps
        lag = policy.first_action_step - (policy.n_obs_steps - 1)  # 0 but for checkpoints of the original
        obs: dict[str, list[NDArray[Any]]] = {key: [] for key in policy.shape_meta["obs"]}
        recorded: list[Array] = []
        previous: list[Array] = []
        next_row: list[int] = []
        for episode in recordings.held_out:
            action = actions(episode)
            for phase in dict.fromkeys((0, length // 2)):
                times = range(phase, len(action) - length - max(lag, 0) + 1, length)
                for t in times:
                    next_row.append(len(next_row) + 1 if t + length in times else -1)
                    around = np.arange(t + lag - SLACK, t + lag + length + SLACK)
                    recorded.append(action[around.clip(0, len(action) - 1)])
                    previous.append(action[max(t + lag - 1, 0)])
                    seen = np.arange(t - policy.n_obs_steps + 1, t + 1).clip(0)
                    for key, rows in obs.items():
                        rows.append(episode["obs"][key][seen])
            if len(recorded) >= MAX_ROWS:
                break
        if not recorded:
            raise ValueError(f"every episode to measure on is shorter than n_action_steps={length}")
        rows_after = np.array(next_row[:MAX_ROWS])
        return cls(
            obs={key: np.stack(rows[:MAX_ROWS]) for key, rows in obs.items()},
            recorded=np.stack(recorded[:MAX_ROWS]),
            previous=np.stack(previous[:MAX_ROWS]),
            next_row=np.where(rows_after < MAX_ROWS, rows_after, -1),
            n_action_steps=length,
        )

    def __len__(self) -> int:
        return len(self.recorded)

    @cached_property
    def executed(self) -> Array:
        """The recorded actions in place of which a prediction would be executed, (N, Ta, Da)."""
        return self.recorded_at(0)

    def recorded_at(self, lag: int) -> Array:
        """The recorded actions `lag` steps after the executed ones, (N, Ta, Da); |lag| <= SLACK."""
        return self.recorded[:, SLACK + lag : SLACK + lag + self.n_action_steps]


def predict(policy: BasePolicy, obs: Mapping[str, NDArray[Any]]) -> Array:
    """The actions (N, Ta, Da) that a policy would execute; row i always gets the same noise."""
    n_rows = len(next(iter(obs.values())))
    parts = []
    policy.reset()
    for start in range(0, n_rows, BATCH_SIZE):
        rows = slice(start, min(start + BATCH_SIZE, n_rows))
        batch = {key: torch.as_tensor(values[rows], device=policy.device) for key, values in obs.items()}
        generators = [derived_generator(0, row) for row in range(rows.start, rows.stop)]
        with torch.no_grad():
            parts.append(policy.predict_action(batch, generator=generators)["action"].cpu())
    return torch.cat(parts).numpy().astype(np.float64)

"""How long a policy takes for one chunk of actions on this device."""

import statistics
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from diffusion_policy.policy.diffusion_policy import DiffusionPolicy

N_WARM_UP = 3
MIN_REPEATS, MAX_REPEATS = 7, 50
BUDGET_S = 2.0  # after which no more than the least number of repeats is made


def ms_per_chunk(policy: DiffusionPolicy, obs: Mapping[str, Tensor]) -> float:
    """Median time of `predict_action` with its actions on the CPU, after warming up, in milliseconds.

    Args:
        policy: in evaluation mode.
        obs: `{key: (1, To, ...)}` on the policy's device.
    """
    with torch.inference_mode():
        for _ in range(N_WARM_UP):
            _predict(policy, obs)
        times_ms: list[float] = []
        while len(times_ms) < MIN_REPEATS or (
            len(times_ms) < MAX_REPEATS and sum(times_ms) < 1000 * BUDGET_S
        ):
            start = time.perf_counter()
            _predict(policy, obs)
            times_ms.append(1000 * (time.perf_counter() - start))
    return statistics.median(times_ms)


def _predict(policy: DiffusionPolicy, obs: Mapping[str, Tensor]) -> Tensor:
    return policy.predict_action(obs, generator=torch.Generator().manual_seed(0))["action"].cpu()

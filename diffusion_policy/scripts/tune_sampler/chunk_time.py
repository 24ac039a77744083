"""How long a policy takes for one chunk of actions on this device, with each of several samplers."""

import statistics
import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from diffusion_policy.model.diffusion.samplers import Sampler
from diffusion_policy.policy.diffusion_policy import DiffusionPolicy

MIN_ROUNDS, MAX_ROUNDS = 7, 30
BUDGET_S = 20.0  # after which no more than the least number of rounds is made


def ms_per_chunk(
    policy: DiffusionPolicy, obs: Mapping[str, Tensor], samplers: Sequence[Sampler]
) -> list[float]:
    """Median time of `predict_action` with its actions on the CPU, in milliseconds, of each sampler.

    Samplers take turns, so that what else the machine does slows all of them alike; a first round warms up.

    Args:
        policy: in evaluation mode; its sampler is set.
        obs: `{key: (1, To, ...)}` on the policy's device.
        samplers: to time.
    """
    rounds: list[list[float]] = []
    start = time.perf_counter()
    with torch.inference_mode(), tqdm(desc="time", unit="round") as bar:
        while len(rounds) <= MIN_ROUNDS or (
            len(rounds) <= MAX_ROUNDS and time.perf_counter() - start < BUDGET_S
        ):
            rounds.append([_chunk_ms(policy, obs, sampler) for sampler in samplers])
            bar.update()
    return [statistics.median(times) for times in zip(*rounds[1:], strict=True)]


def _chunk_ms(policy: DiffusionPolicy, obs: Mapping[str, Tensor], sampler: Sampler) -> float:
    policy.sampler = sampler
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    policy.predict_action(obs, generator=generator)["action"].cpu()
    return 1000 * (time.perf_counter() - start)

"""Random streams that are functions of what they are for, so that no stream depends on another's use."""

import numpy as np
import torch


def derived_seed(*entropy: int) -> int:
    """Mix non-negative integers (a run's seed, a step, an episode ...) into one well-spread 63-bit seed."""
    words = (len(entropy), *entropy)  # SeedSequence alone takes (5,) and (5, 0) for the same
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def derived_generator(*entropy: int) -> torch.Generator:
    """Return a CPU generator seeded by `derived_seed`."""
    return torch.Generator().manual_seed(derived_seed(*entropy))

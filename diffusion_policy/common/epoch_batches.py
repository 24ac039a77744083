"""Which windows form the batches of an epoch: a function of seed and epoch alone, so that resuming is exact."""

import numpy as np

from diffusion_policy.common.distributed import rank, world_size


class EpochBatches:
    """Shuffled batches of window rows; every epoch has its own order.

    With several processes each takes an equal part of every batch; rows of the last batch that cannot be shared
    out equally are left out.

    Args:
        n_windows: number of windows to draw from.
        batch_size: rows of a batch over all processes, a multiple of their number; the last batch of an epoch
            may be smaller.
        seed: of the order.
    """

    def __init__(self, n_windows: int, batch_size: int, seed: int):
        if n_windows < world_size():
            raise ValueError(
                f"the dataset has {n_windows} training windows for {world_size()} processes: "
                f"give it more episodes or a shorter horizon"
            )
        if batch_size < 1 or batch_size % world_size():
            raise ValueError(
                f"batch_size must be a positive multiple of the number of processes {world_size()}, got {batch_size}"
            )
        self.n_windows = n_windows
        self.batch_size = batch_size
        self.seed = seed

    def __len__(self) -> int:
        """Batches per epoch."""
        n_full, rest = divmod(self.n_windows, self.batch_size)
        return n_full + (rest >= world_size())

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """This process's rows of each batch of `epoch`, each (B,)."""
        order = np.random.default_rng([self.seed, epoch]).permutation(self.n_windows)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return [self._own_part(order[start : start + self.batch_size]) for start in starts]

    def _own_part(self, rows: np.ndarray) -> np.ndarray:
        n_own = len(rows) // world_size()
        return rows[rank() * n_own : (rank() + 1) * n_own]

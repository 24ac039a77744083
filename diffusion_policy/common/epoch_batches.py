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
        batches_per_epoch: end an epoch after so many full batches, however often that goes through the data;
            None: an epoch is one pass over the data.
    """

    def __init__(self, n_windows: int, batch_size: int, seed: int, batches_per_epoch: int | None = None):
        if n_windows < world_size():
            raise ValueError(
                f"the dataset has {n_windows} training windows for {world_size()} processes: "
                f"give it more episodes or a shorter horizon"
            )
        if not isinstance(batch_size, int) or batch_size < 1 or batch_size % world_size():
            raise ValueError(
                f"batch_size must be a positive multiple of the number of processes {world_size()}, "
                f"got {batch_size!r}"
            )
        if batches_per_epoch is not None and batches_per_epoch < 1:
            raise ValueError(f"batches_per_epoch must be null or at least 1, got {batches_per_epoch}")
        self.n_windows = n_windows
        self.batch_size = batch_size
        self.seed = seed
        self.batches_per_epoch = batches_per_epoch

    def __len__(self) -> int:
        """Batches per epoch."""
        if self.batches_per_epoch is not None:
            return self.batches_per_epoch
        n_full, rest = divmod(self.n_windows, self.batch_size)
        return n_full + (rest >= world_size())

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """This process's rows of each batch of `epoch`, each (B,)."""
        random = np.random.default_rng([self.seed, epoch])
        n_passes = -(-len(self) * self.batch_size // self.n_windows) if self.batches_per_epoch else 1
        order = np.concatenate([random.permutation(self.n_windows) for _ in range(n_passes)])
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        return [self._own_part(order[start : start + self.batch_size]) for start in starts]

    def _own_part(self, rows: np.ndarray) -> np.ndarray:
        n_own = len(rows) // world_size()
        return rows[rank() * n_own : (rank() + 1) * n_own]

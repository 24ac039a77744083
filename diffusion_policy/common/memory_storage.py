"""Episodes held in memory, as numpy arrays."""

from collections.abc import Mapping

import numpy as np

from diffusion_policy.common.chunking import Chunks, Compressors


class MemoryStorage:
    """Arrays of all steps that grow by doubling, so that recording N steps costs O(N).

    Args:
        where: What messages call this storage.
        data: Arrays (n_steps, ...) to start from; taken over, not copied.
        meta: Other arrays, with `episode_ends`; taken over.
    """

    def __init__(
        self,
        where: str = "replay buffer in memory",
        data: Mapping[str, np.ndarray] | None = None,
        meta: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.where = where
        self._rows = dict(data or {})  # each at least n_steps long
        self._meta = {"episode_ends": np.zeros(0, np.int64), **(meta or {})}

    @property
    def episode_ends(self) -> np.ndarray:
        """Exclusive end of every episode, (n_episodes,) int64."""
        return self._meta["episode_ends"]

    @property
    def data(self) -> Mapping[str, np.ndarray]:
        """Views of the steps of all episodes, (n_steps, ...)."""
        return {key: rows[: self._n_steps] for key, rows in self._rows.items()}

    @property
    def meta(self) -> Mapping[str, np.ndarray]:
        """All arrays that do not run along the steps."""
        return dict(self._meta)

    @property
    def _n_steps(self) -> int:
        return int(self.episode_ends[-1]) if len(self.episode_ends) else 0

    def append(self, episode: Mapping[str, np.ndarray], chunks: Chunks, compressors: Compressors) -> None:
        """Add one checked episode. `chunks` and `compressors` mean nothing in memory."""
        start = self._n_steps
        end = start + len(next(iter(episode.values())))
        for key, values in episode.items():
            if key not in self._rows or len(self._rows[key]) < end:
                grown = np.empty((max(end, 2 * start), *values.shape[1:]), self._dtype(key, values))
                grown[:start] = self._rows[key][:start] if start else 0
                self._rows[key] = grown
            self._rows[key][start:end] = values
        self._meta["episode_ends"] = np.append(self.episode_ends, np.int64(end))

    def _dtype(self, key: str, values: np.ndarray) -> np.dtype:
        return self._rows[key].dtype if key in self._rows else values.dtype

    def drop(self) -> None:
        """Forget the last episode; with the first one go the keys."""
        self._meta["episode_ends"] = self.episode_ends[:-1]
        if self._n_steps == 0:
            self._rows.clear()

    def write_meta(self, name: str, value: np.ndarray) -> None:
        """Set an array of `meta`."""
        self._meta[name] = value.copy()

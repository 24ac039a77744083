"""Windows of fixed length over episodes, and the split of episodes into training and validation."""

import numpy as np


class SequenceSampler:
    """All windows of T consecutive steps that lie in one episode, or stick out of it by a bounded padding.

    In an episode of length L windows start at -pad_before, ..., L - T + pad_after. Steps before the first
    and after the last are that first or last step again. `indices` (N, 4) int64 holds one row per window,
    episode by episode in order of start: (buffer_start, buffer_end, sample_start, sample_end), which says
    that steps sample_start to sample_end of the window are steps buffer_start to buffer_end of the buffer.

    Args:
        episode_ends: Exclusive end of every episode, (n_episodes,), increasing.
        sequence_length: T >= 1.
        pad_before: Steps that a window may stick out before an episode, taken as at most T - 1.
        pad_after: Steps that a window may stick out after an episode, taken as at most T - 1.
        episode_mask: Episodes to use, (n_episodes,) bool; by default all.

    Raises:
        ValueError: `sequence_length` is below 1 or `episode_mask` has another length than `episode_ends`.
    """

    def __init__(
        self,
        episode_ends: np.ndarray,
        sequence_length: int,
        pad_before: int = 0,
        pad_after: int = 0,
        episode_mask: np.ndarray | None = None,
    ) -> None:
        ends = np.asarray(episode_ends, np.int64)
        mask = np.ones(len(ends), bool) if episode_mask is None else np.asarray(episode_mask, bool)
        if sequence_length < 1:
            raise ValueError(f"sequence_length must be at least 1, got {sequence_length}")
        if mask.shape != ends.shape:
            raise ValueError(f"episode_mask must have shape {ends.shape} as episode_ends, got {mask.shape}")
        self.sequence_length = sequence_length
        pad_before = min(max(pad_before, 0), sequence_length - 1)
        pad_after = min(max(pad_after, 0), sequence_length - 1)
        self.indices = _windows(ends, mask, sequence_length, pad_before, pad_after)

    def __len__(self) -> int:
        return len(self.indices)

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Buffer positions of whole windows: `array[sampler.positions(rows)]` is a batch.

        Args:
            rows: Numbers of windows, (B,) int.

        Returns:
            Positions with the padding resolved, (B, T) int64.
        """
        start, end, sample_start, _ = self.indices[rows].T[..., None]  # each (B, 1)
        return np.clip(start - sample_start + np.arange(self.sequence_length), start, end - 1)  # (B, T)


def _windows(ends: np.ndarray, mask: np.ndarray, length: int, pad_before: int, pad_after: int) -> np.ndarray:
    episode_start = np.concatenate([[0], ends[:-1]])[: len(ends)][mask]
    episode_end = ends[mask]
    n_windows = np.maximum(episode_end - episode_start - length + pad_after + pad_before + 1, 0)
    first_row = np.cumsum(n_windows) - n_windows
    in_episode = np.arange(n_windows.sum()) - np.repeat(first_row, n_windows)
    start = np.repeat(episode_start, n_windows) - pad_before + in_episode
    buffer_start = np.maximum(start, np.repeat(episode_start, n_windows))
    buffer_end = np.minimum(start + length, np.repeat(episode_end, n_windows))
    return np.stack([buffer_start, buffer_end, buffer_start - start, buffer_end - start], axis=1)


def get_val_mask(n_episodes: int, val_ratio: float, seed: int = 0) -> np.ndarray:
    """Draw the episodes to validate on, (n_episodes,) bool.

    A positive ratio gives at least one, and leaves at least one to train on.

    Raises:
        ValueError: `val_ratio` is above 1.
    """
    if val_ratio > 1:
        raise ValueError(f"val_ratio must be at most 1, got {val_ratio}")
    mask = np.zeros(n_episodes, bool)
    if val_ratio > 0:
        n_val = min(max(1, round(n_episodes * val_ratio)), n_episodes - 1)
        mask[np.random.default_rng(seed).choice(n_episodes, n_val, replace=False)] = True
    return mask


def downsample_mask(mask: np.ndarray, max_n: int | None, seed: int = 0) -> np.ndarray:
    """Keep `max_n` of the True entries, drawn at random; all of them if `max_n` is None or not smaller."""
    chosen = np.flatnonzero(mask)
    if max_n is not None and max_n < len(chosen):
        chosen = chosen[np.random.default_rng(seed).choice(len(chosen), int(max_n), replace=False)]
    kept = np.zeros_like(mask, bool)
    kept[chosen] = True
    return kept

"""Where a row of all steps lies, in the words of messages."""

import numpy as np


def episode_step(row: int, episode_ends: np.ndarray) -> str:
    """The episode and the step in it, as in "episode 2, step 5", for a row before the last of `episode_ends`."""
    episode = int(np.searchsorted(episode_ends, row, side="right"))
    start = int(episode_ends[episode - 1]) if episode else 0
    return f"episode {episode}, step {row - start}"


def labelled_step(row: int, episode_index: np.ndarray) -> str:
    """The same for a row of a file, of which the episode of each row is known: (n,), ascending."""
    return (
        f"episode {episode_index[row]}, step {row - int(np.searchsorted(episode_index, episode_index[row]))}"
    )

"""Record episodes of known content into a replay buffer until someone kills this process.

Usage: record_until_killed.py PATH [KILL_AT], where KILL_AT is the number of the file operation (renaming
a finished file into place, deleting a file) before which the process kills itself.
"""

import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from diffusion_policy.common.replay_buffer import ReplayBuffer

CHUNKS = {
    "action": (16, 2),
    "image": (7, 4, 4, 3),
    "timestamp": (16,),
}  # episodes share chunks and span several


def make_episode(index: int) -> dict[str, np.ndarray]:
    """Episode `index` of every recording: (L, ...) with L from 1 to 40."""
    rng = np.random.default_rng(index)
    length = int(rng.integers(1, 41))
    return {
        "action": rng.normal(size=(length, 2)).astype(np.float32),
        "image": rng.integers(0, 256, (length, 4, 4, 3), dtype=np.uint8),
        "timestamp": index * 1000.0 + np.arange(length),
    }


def kill_self_at(n_operations: int) -> None:
    """Count renames and deletions and die before the n-th."""
    counter = itertools.count()

    def counted(operation: Callable[..., Any]) -> Callable[..., Any]:
        def perform(*args: Any, **kwargs: Any) -> Any:
            if next(counter) == n_operations:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return perform

    os.replace, os.rename, os.unlink = counted(os.replace), counted(os.rename), counted(os.unlink)


def main() -> None:
    if len(sys.argv) > 2:
        kill_self_at(int(sys.argv[2]))
    buffer = ReplayBuffer.create_from_path(sys.argv[1], mode="a")
    print("recording", "torch" in sys.modules, flush=True)
    for step in itertools.count():
        buffer.add_episode(make_episode(buffer.n_episodes), chunks=CHUNKS, compressors="disk")
        if step % 3 == 2:
            buffer.drop_episode()


if __name__ == "__main__":
    main()

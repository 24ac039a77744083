"""How often progress bars are drawn."""

import sys


def seconds_between_draws() -> float:
    """`mininterval` of tqdm: 0.1 on a terminal, and 10 where every drawing stays, as in a log file."""
    return 0.1 if sys.stderr.isatty() else 10.0

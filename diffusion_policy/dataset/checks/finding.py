"""What a check found."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

EPISODES_NAMED = 8  # in a message; the finding holds all


@dataclass(frozen=True)
class Finding:
    """One fault of a data set.

    Args:
        severity: "error" if training on it cannot be meant, "warning" if a person should look.
        check: Name of the check.
        key: The array, "" if it concerns the whole.
        episodes: Where it was found; empty if everywhere.
        message: What was found, with figures.
        advice: What to do.
    """

    severity: Literal["error", "warning"]
    check: str
    key: str
    episodes: tuple[int, ...]
    message: str
    advice: str

    def __str__(self) -> str:
        where = f" {self.key}:" if self.key else ""
        return f"{self.severity}: {self.check}:{where} {self.message}. {self.advice}"


def ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers in short, e.g. "0-2, 5"; not more than a few."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    named = [f"{first}-{last}" if last > first else f"{first}" for first, last in runs[:EPISODES_NAMED]]
    return ", ".join(named) + (", ..." if len(runs) > EPISODES_NAMED else "")


def in_episodes(episodes: Iterable[int]) -> str:
    """E.g. "in 3 episodes (0-1, 7)"."""
    listed = sorted(episodes)
    return f"in {len(listed)} episode{'s' if len(listed) > 1 else ''} ({ranges(listed)})"

"""Seeds of environments, in disjoint ranges, so that no number is reported on seeds that helped to choose it.

Demonstrations have their own: human Push-T 0 to 205, generated ones 500000 and up.
"""

SELECTION_SEEDS = range(200_000, 200_200)  # tuning, curves, choice of checkpoints
TEST_SEEDS = range(100_000, 100_500)  # run once for the reported number


def parse_seeds(text: str) -> range:
    """Read `START:STOP` as the seeds from START up to, not including, STOP.

    Raises:
        ValueError: for anything else, or an empty range.
    """
    start, separator, stop = text.partition(":")
    if not (separator and start.isdecimal() and stop.isdecimal() and int(start) < int(stop)):
        raise ValueError(f"seeds must be START:STOP with START < STOP, such as 100000:100500, got {text!r}")
    return range(int(start), int(stop))

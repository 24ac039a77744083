"""The report of a benchmark: values of several sides over rounds, as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Values = Mapping[
    str, Sequence[float | None]
]  # by row: one value per round, None where it could not be measured


@dataclass(frozen=True)
class Row:
    """A line of the table; `rate`: more is better, else less is."""

    title: str
    rate: bool = False


@dataclass
class Column:
    """One side: its name and version, and what was measured; an absent side has no values."""

    heading: str
    values: dict[str, list[float | None]] = field(default_factory=dict)


def table(rows: Mapping[str, Row], ours: Column, peers: Sequence[Column]) -> str:
    """Markdown: medians with the range over rounds, and how many times better ours is than each peer.

    Ratios are of the same round, whose sides ran one after the other: their median and range.
    """
    columns = [ours, *peers]
    headings = ["", *(c.heading for c in columns), *(f"ours against {_short(c)}" for c in peers)]
    lines = [headings, ["---"] * len(headings)]
    for name, row in rows.items():
        values = [column.values.get(name, []) for column in columns]
        ratios = [_ratios(row, values[0], other) for other in values[1:]]
        lines.append([row.title, *(_cell(v) for v in values), *(_cell(r, unit="x") for r in ratios)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(column: Column) -> str:
    return column.heading.split(" (")[0]


def _ratios(row: Row, ours: Sequence[float | None], other: Sequence[float | None]) -> list[float | None]:
    """How many times better ours is, round by round."""
    pairs = [(a, b) for a, b in zip(ours, other, strict=False) if a is not None and b is not None]
    return [a / b if row.rate else b / a for a, b in pairs]


def _cell(values: Sequence[float | None], unit: str = "") -> str:
    """Median and range; empty if nothing was measured."""
    present = [value for value in values if value is not None]
    if not present:
        return ""
    text = _number(median(present)) + unit
    if len(present) > 1:
        text += f" ({_number(min(present))} to {_number(max(present))})"
    return text


def _number(value: float) -> str:
    """Three significant digits, and all those before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if value >= 0.001 else f"{value:.2e}"

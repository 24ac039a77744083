"""Charts of the report: SVG drawn by hand, so that colours follow the page's light or dark scheme.

A chart is 420 units wide and is shown about that wide, so its 12-unit text stays readable on a phone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

try:
    from markupsafe import Markup, escape
except ImportError as error:
    raise ImportError('jinja2 is missing: pip install "diffusion_policy[report]"') from error

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 66, 24, 28, 42  # margins around the plotted area; the legend is at the top
MAX_POINTS = 200  # of a line; more cannot be told apart
MAX_DOTS = 40  # with a dot at each point

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        name: for the legend.
        x: (n,).
        y: (n,).
        low: (n,) lower end of a band, or None.
        high: (n,) upper end of it.
    """

    name: str
    x: Values
    y: Values
    low: Values | None = None
    high: Values | None = None

    @property
    def extent(self) -> tuple[float, float]:
        """Smallest and largest value drawn."""
        drawn = [part for part in (self.y, self.low, self.high) if part is not None]
        return float(min(np.min(part) for part in drawn)), float(max(np.max(part) for part in drawn))

    def thinned(self) -> "Line":
        """Averages over equal shares of the points; without a band, one that spans 80 % of each share."""
        if len(self.x) <= MAX_POINTS:
            return self
        shares = np.array_split(np.arange(len(self.x)), MAX_POINTS)

        def averaged(values: Values) -> Values:
            return np.array([values[rows].mean() for rows in shares])

        if self.low is not None and self.high is not None:
            band = averaged(self.low), averaged(self.high)
        else:
            low, high = (np.array([np.quantile(self.y[rows], q) for rows in shares]) for q in (0.1, 0.9))
            band = low, high
        return Line(self.name, averaged(self.x), averaged(self.y), *band)


class _Axes:
    """Maps data to the drawing and draws the frame."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], log_y: bool = False) -> None:
        self._x, self._y, self._log_y = _widened(x), _widened(y, log_y), log_y

    def left(self, x: float) -> float:
        low, high = self._x
        return round(LEFT + (x - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def top(self, y: float) -> float:
        scale: Callable[[float], float] = math.log10 if self._log_y else float
        low, high, value = (scale(v) for v in (*self._y, y))
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP), 1)

    def frame(self, x_label: str, y_label: str) -> str:
        parts = []
        for tick in log_ticks(*self._y) if self._log_y else ticks(*self._y):
            y = self.top(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{number(tick)}</text>')
        for tick in ticks(*self._x):
            x = self.left(tick)
            parts.append(
                f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(tick)}</text>'
            )
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
        height = (TOP + HEIGHT - BOTTOM) / 2
        turned = f'transform="rotate(-90 12 {height})"'
        parts.append(f'<text x="12" y="{height}" text-anchor="middle" {turned}>{escape(y_label)}</text>')
        return "".join(parts)


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    log_y: bool = False,
    y_range: tuple[float, float] | None = None,
) -> Markup:
    """Curves over common axes, with bands where they have them, and a legend where there are several.

    Args:
        lines: at least one, each with at least one point.
        x_label, y_label: of the axes.
        log_y: logarithmic, if all values are positive.
        y_range: of the axis, widened where values lie outside; by default what the values span.
    """
    lines = [line.thinned() for line in lines]
    lows, highs = zip(*(line.extent for line in lines), *([y_range] if y_range else []), strict=True)
    x_ends = [float(end) for line in lines for end in (line.x[0], line.x[-1])]
    axes = _Axes((min(x_ends), max(x_ends)), (min(lows), max(highs)), log_y and min(lows) > 0)
    parts = [axes.frame(x_label, y_label)]
    for i, line in enumerate(lines):
        parts += _curve(axes, line, f"c{i % 4}")
    if len(lines) > 1:
        parts.append(_legend([line.name for line in lines]))
    return _svg(parts, f"{y_label} against {x_label}")


def _curve(axes: _Axes, line: Line, color: str) -> list[str]:
    parts = []
    if line.low is not None and line.high is not None:
        edge = [*zip(line.x, line.high, strict=True), *reversed([*zip(line.x, line.low, strict=True)])]
        parts.append(f'<polygon class="band {color}" points="{_points(axes, edge)}"/>')
    points = _points(axes, [*zip(line.x, line.y, strict=True)])
    parts.append(f'<polyline class="line {color}" points="{points}"/>')
    if len(line.x) <= MAX_DOTS:
        parts += [
            f'<circle class="dot {color}" cx="{axes.left(x)}" cy="{axes.top(y)}" r="2.5">'
            f"<title>{escape(line.name)}: {number(y)} at {number(x)}</title></circle>"
            for x, y in zip(line.x, line.y, strict=True)
        ]
    return parts


def ranked_dots(values: Values, names: Sequence[str], marks: Mapping[int, str], y_label: str) -> Markup:
    """Episodes side by side, the worst first, some of them marked; pointing at one names it.

    Args:
        values: (n,), in the order of the ranks.
        names: (n,).
        marks: what to write at some of them, by rank.
        y_label: what the values are.
    """
    y_range = min(0.0, float(values.min())), max(1.0, float(values.max()))
    axes = _Axes((0.0, max(len(values) - 1.0, 1.0)), y_range)
    parts = [axes.frame("episodes, worst first", y_label)]
    for rank, (value, name) in enumerate(zip(values, names, strict=True)):
        title = f"<title>{escape(name)}: {value:.3f}</title>"
        place = f'cx="{axes.left(rank)}" cy="{axes.top(value)}"'
        parts.append(f'<circle class="dot c0" {place} r="2">{title}</circle>')
    parts += [_mark(axes.left(rank), axes.top(values[rank]), text) for rank, text in marks.items()]
    return _svg(parts, f"{y_label} of each episode, sorted")


def _mark(x: float, y: float, text: str) -> str:
    anchor = "start" if x < WIDTH / 3 else "end" if x > 2 * WIDTH / 3 else "middle"
    below = y < TOP + 10
    return (
        f'<circle class="ring" cx="{x}" cy="{y}" r="5"/>'
        f'<text class="mark" x="{x}" y="{y + 20 if below else y - 10}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def histogram(values: Values, x_label: str, y_label: str = "episodes", n_bins: int = 20) -> Markup:
    """How often values fall into equal ranges."""
    low, high = _widened((float(values.min()), float(values.max())))
    counts, edges = np.histogram(values, n_bins, (low, high))
    axes = _Axes((low, high), (0.0, float(counts.max())))
    parts = [axes.frame(x_label, y_label)]
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        x, y = axes.left(left), axes.top(count)
        size = f'width="{axes.left(right) - x - 1:.1f}" height="{HEIGHT - BOTTOM - y:.1f}"'
        title = f"<title>{number(left)} to {number(right)}: {count}</title>"
        parts.append(f'<rect class="bar c0" x="{x}" y="{y}" {size}>{title}</rect>')
    return _svg(parts, f"histogram of {x_label}")


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Round numbers in [low, high], about `n`, at steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / n
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in [low, high], with 2 and 5 times them where they are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1,) if last - first > 3 else (1, 2, 5)
    candidates = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [value for value in candidates if low <= value <= high]


def number(value: float) -> str:
    """A number in few characters: 0.25, 1e-5, 10000."""
    if 1000 <= abs(value) < 1e6:
        return f"{value:.0f}"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        digits, _, exponent = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:.3g}"


def _widened(ends: tuple[float, float], is_log: bool = False) -> tuple[float, float]:
    low, high = ends
    if high > low:
        return low, high
    margin = max(0.5, abs(low) / 2)  # so that ticks differ in the digits that are shown
    return (low / 2, high * 2) if is_log else (low - margin, high + margin)


def _points(axes: _Axes, pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{axes.left(x)},{axes.top(y)}" for x, y in pairs)


def _legend(names: Sequence[str]) -> str:
    """The names side by side above the plotted area."""
    parts, x = [], float(LEFT)
    for i, name in enumerate(names):
        parts.append(f'<line class="line c{i % 4}" x1="{x}" x2="{x + 18}" y1="12" y2="12"/>')
        parts.append(f'<text x="{x + 24}" y="16">{escape(name)}</text>')
        x += 44 + 7 * len(name)
    return "".join(parts)


def _svg(parts: Sequence[str], label: str) -> Markup:
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
    return Markup(head + "".join(parts) + "</svg>")

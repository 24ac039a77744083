"""A comparison as files: `compare.md` and a self-contained `report.html`."""

from pathlib import Path

import numpy as np

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.scripts.comparison.methods import Table
from diffusion_policy.scripts.comparison.sequential import SequentialComparison
from diffusion_policy.scripts.report.charts import Line, line_chart
from diffusion_policy.scripts.report.page import Chart, Grid, Page, write_page


def write_comparison(table: Table, comparison: SequentialComparison | None, output_dir: Path) -> Path:
    """Write both files and return the path of the page.

    Args:
        table: of scores.
        comparison: of two runs that were rolled out until decided, or None.
        output_dir: created if need be.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    said = [] if comparison is None else [str(comparison)]
    atomic_write_text(output_dir / "compare.md", "\n\n".join([*said, table.markdown()]) + "\n")
    page = Page("Comparison", " and ".join(row[0] for row in table.rows), "On equal episode seeds.")
    page.scores = Grid(table.columns, table.rows)
    page.notes = [
        *said,
        "Intervals are at 95 %, over episodes, and over training runs where there are several (two or three runs "
        "say little about others: then intervals are too narrow).",
    ]
    if comparison is not None:
        page.charts.append(_bounds(comparison))
    return write_page(page, output_dir)


def _bounds(comparison: SequentialComparison) -> Chart:
    """The interval of the difference against the number of episodes."""
    low, high = comparison.bounds.T
    episodes = np.arange(1, len(low) + 1, dtype=np.float64)
    line = Line("difference", episodes, (low + high) / 2, low, high)
    svg = line_chart([line], "episodes of each", comparison.metric)
    return Chart(
        "Difference, first minus second", svg, "The band holds whenever one stops; it may only shrink."
    )

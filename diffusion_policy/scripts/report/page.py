"""One self-contained web page for a training run or an evaluation, made from the files in its folder alone.

    diffusion-policy report FOLDER

The page loads nothing: styles, charts and videos are inside. What the folder does not hold is said on the page.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from diffusion_policy.common.atomic_write import atomic_write_text
from diffusion_policy.scripts.diagnosis.check import Diagnosis
from diffusion_policy.scripts.evaluation_files import DIAGNOSIS, REPORT
from diffusion_policy.scripts.report.charts import Markup

# After the charts, whose import names the extra to install where jinja2 is missing.
from jinja2 import Environment, StrictUndefined  # isort: skip

TEMPLATE = "template.html"


@dataclass(frozen=True)
class Figure:
    """A number at the top of the page."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """A table of texts."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A drawing with its heading."""

    title: str
    svg: Markup
    caption: str = ""


@dataclass(frozen=True)
class Video:
    """A recorded episode."""

    title: str
    caption: str
    source: str


@dataclass
class Page:
    """What the template shows, in its order.

    Attributes:
        kind: Training or Evaluation.
        name: of the folder.
        summary: a sentence under the title.
        figures: how good it is.
        scores: beside the controls, or None.
        notes: what to know about the scores.
        charts: of the training, or of the episodes.
        videos: of episodes.
        diagnosis: what may be wrong, or None.
        tables: further tables by heading.
        config: the resolved configuration as YAML, or "".
        provenance: what the run was made with.
        commands: to repeat it, and what to do next.
        missing: sentences about what could not be shown, and how to get it.
    """

    kind: str
    name: str
    summary: str
    figures: list[Figure] = field(default_factory=list)
    scores: Grid | None = None
    notes: list[str] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)
    diagnosis: Diagnosis | None = None
    tables: dict[str, Grid] = field(default_factory=dict)
    config: str = ""
    provenance: Grid | None = None
    commands: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def write_page(page: Page, folder: Path) -> Path:
    """Render a page to `report.html` in `folder`; the file appears whole or not at all."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = (
        resources.files("diffusion_policy.scripts.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    )
    path = folder / REPORT
    atomic_write_text(path, environment.from_string(template).render(page=page))
    return path


def add_diagnosis(page: Page, folder: Path, checkpoint: str | None) -> None:
    """Show `diagnosis.json`, or say that there is none, or that it is of another checkpoint."""
    path = folder / DIAGNOSIS
    if not path.is_file():
        page.missing.append(
            "No diagnosis: the checks of data and policy could not run (the log says why). Where the demonstrations "
            f"are at hand, this makes it: diffusion-policy report {folder}"
        )
        return
    page.diagnosis = Diagnosis.from_json(path.read_text())
    if checkpoint is not None and Path(page.diagnosis.checkpoint).name != Path(checkpoint).name:
        page.notes.append(f"The diagnosis is of another checkpoint: {page.diagnosis.checkpoint}")


def config_text(config: Mapping[str, Any] | None) -> str:
    """A configuration as YAML, in its own order."""
    return "" if config is None else yaml.safe_dump(dict(config), sort_keys=False)


def provenance_grid(record: Mapping[str, Any] | None) -> Grid | None:
    """What a run was made with, a row each; packages one by one."""
    if record is None:
        return None
    plain = {key: value for key, value in record.items() if key not in ("packages", "command")}
    packages = {name: version for name, version in record.get("packages", {}).items() if version is not None}
    rows = [(key.replace("_", " "), str(value)) for key, value in {**plain, **packages}.items()]
    return Grid(("what", "value"), rows)


def command_of(record: Mapping[str, Any] | None) -> list[str]:
    """The command that a provenance holds, with its first word made runnable."""
    words = list((record or {}).get("command", []))
    if not words:
        return []
    words = [*words[0].split(), *words[1:]]  # "diffusion-policy train" is one there
    if words[0].endswith(".py"):
        words = ["python", Path(words[0]).name, *words[1:]]
    return [" ".join(_quoted(word) for word in words)]


def _quoted(word: str) -> str:
    return f"'{word}'" if any(character in word for character in " []{}*$&;|<>()") else word


def embedded_video(path: Path) -> str:
    """An mp4 file as the source of a video element."""
    return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()

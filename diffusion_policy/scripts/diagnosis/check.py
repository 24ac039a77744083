"""What a diagnosis consists of: checks, each with a verdict, a figure and a sentence of advice; plain data."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Verdict = Literal["ok", "look", "bad", "not measured"]
Cell = str | int | float


@dataclass(frozen=True)
class Table:
    """Figures behind a verdict.

    Attributes:
        title: what is shown, with its unit.
        columns: headings.
        rows: as many cells each as there are headings.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Table":
        """Read a part of `Diagnosis.to_json`."""
        rows = tuple(tuple(row) for row in content["rows"])
        return cls(content["title"], tuple(content["columns"]), rows)


@dataclass(frozen=True)
class Check:
    """One question about data or policy, and its answer.

    Attributes:
        name: for programs, such as `alignment`.
        title: for people.
        verdict: `bad` names a fault, `look` asks for a second look.
        figure: what was measured.
        advice: the likely cause, and what to do.
        tables: the figures behind it.
    """

    name: str
    title: str
    verdict: Verdict
    figure: str
    advice: str
    tables: tuple[Table, ...] = ()

    @classmethod
    def not_measured(cls, name: str, title: str, reason: str) -> "Check":
        """An answer that the data do not allow."""
        return cls(name, title, "not measured", reason, "")


@dataclass(frozen=True)
class Diagnosis:
    """All checks of a checkpoint.

    Attributes:
        checkpoint: its folder.
        measured_on: which episodes the policy was tried on.
        checks: in the order of a pipeline, from the data to the policy.
    """

    checkpoint: str
    measured_on: str
    checks: tuple[Check, ...]

    def of(self, name: str) -> Check:
        """The check with this name.

        Raises:
            KeyError: there is none.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check {name!r}; there are {[check.name for check in self.checks]}")

    def with_verdict(self, *verdicts: Verdict) -> tuple[Check, ...]:
        """The checks that came out so, in the order of `verdicts`."""
        return tuple(check for verdict in verdicts for check in self.checks if check.verdict == verdict)

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Diagnosis":
        """Read what `to_json` wrote."""
        content = json.loads(text)
        checks = tuple(
            Check(**{**check, "tables": tuple(Table.from_dict(table) for table in check["tables"])})
            for check in content["checks"]
        )
        return cls(content["checkpoint"], content["measured_on"], checks)


def graded(value: float, look: float, bad: float) -> Verdict:
    """Verdict on a value that is worse the larger it is (`look` < `bad`), or the smaller (`look` > `bad`)."""
    sign = 1 if look < bad else -1
    if not sign * value < sign * bad:  # NaN is bad
        return "bad"
    return "look" if sign * value >= sign * look else "ok"


def worst(*verdicts: Verdict) -> Verdict:
    """The most alarming of some verdicts."""
    order: tuple[Verdict, ...] = ("bad", "look", "ok", "not measured")
    return min(verdicts, key=order.index)

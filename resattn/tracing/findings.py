"""What a trace found, as data and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from resattn.tracing.causes import Explanation
from weights import Difference
from weights.compare import columns

ORACLE = "oracle"


@dataclass(frozen=True)
class Finding:
    """A stage that computes something else than it should.

    model: whose. mode: "eval" or "train". stage: which. agrees: the last stage in front of it that
    is within its tolerance, with its relative difference. difference: between the stage and what
    the oracle makes of what the stage was given. where: in which part of the tensor. explanations:
    the causes that explain it, the best first; none if none does. backward: whether it is the
    gradient with respect to the stage that differs, while all that is computed forward agrees.
    """

    model: str
    mode: str
    stage: str
    agrees: tuple[str, float] | None
    difference: Difference
    where: str
    explanations: tuple[Explanation, ...] = ()
    backward: bool = False

    def lines(self, modes: str) -> list[str]:
        """As text. modes: in which it is so."""
        row = self.difference
        agrees = f"agrees up to {self.agrees[0]} ({self.agrees[1]:.0e}), " if self.agrees else ""
        what = f"gradient of {self.stage}" if self.backward else self.stage
        head = f"{self.model}, {modes}: {agrees}diverges at {what}: {row.absolute:.2g} at {row.place} ({row.axes})"
        explained = [f"    {each} (leaves {each.left:.0e})" for each in self.explanations]
        return [
            f"{head}, {self.where}",
            *(explained or ["    unexplained: none of the known causes computes this"]),
        ]


@dataclass(frozen=True)
class Trace:
    """The outcome: every stage of every model, and the stages that are wrong. `print(trace)` shows
    it.

    rows: differences from the oracle, or from the first model where the oracle has no such stage,
    in the order of execution; their quantity is "eval forward", "eval backward", "train statistics"
    and so on. notes: what besides a mistake may play a part.
    """

    title: str
    rows: tuple[Difference, ...]
    findings: tuple[Finding, ...]
    environment: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """True when something was compared and no stage computes something else."""
        return bool(self.rows) and not self.findings

    @property
    def first(self) -> Finding | None:
        """The first stage that is wrong, in the order of execution; forward before backward."""
        return self.findings[0] if self.findings else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "title": self.title,
            "ok": self.ok,
            "environment": list(self.environment),
            "notes": list(self.notes),
            "rows": [_plain(row) for row in self.rows],
            "findings": [
                {
                    "model": finding.model,
                    "mode": finding.mode,
                    "stage": finding.stage,
                    "backward": finding.backward,
                    "agrees_up_to": finding.agrees,
                    "difference": _plain(finding.difference),
                    "where": finding.where,
                    "explanations": [
                        {"cause": each.cause, "words": each.words, "left": each.left}
                        for each in finding.explanations
                    ],
                }
                for finding in self.findings
            ],
        }

    def lines(self, every: bool = False) -> list[tuple[str, str]]:
        """The report as text, each line with what it is: "bad", "good" or "". every: all stages,
        however many there are.
        """
        lines = [(self.title, ""), *((f"  {line}", "") for line in self.environment)]
        for mode in dict.fromkeys(row.quantity.split()[0] for row in self.rows):
            lines += [
                ("", ""),
                (f"{MODES[mode]}: relative difference from the oracle", ""),
                *self._table(mode, every),
            ]
        if any(row.expected != ORACLE for row in self.rows):
            lines.append(("  *: from the first model; the oracle has no such stage", ""))
        lines.append(("", ""))
        for finding in self.findings:
            same = [other for other in self.findings if _alike(finding, other)]
            if finding is same[0]:
                head, *rest = finding.lines(" and ".join(other.mode for other in same))
                lines += [(head, "bad"), *((line, "") for line in rest)]
        if not self.rows:
            lines.append(("FAILED: nothing was compared.", "bad"))
        elif self.ok:
            lines.append(("Every stage computes what it should.", "good"))
        return [*lines, *((f"note: {note}", "") for note in self.notes)]

    def _table(self, mode: str, every: bool) -> Iterator[tuple[str, str]]:
        """A row a stage, a column for each model and way; statistics stand among what is computed
        forward.
        """
        rows = {(*row.quantity.split(), row.tensor, row.actual): row for row in self.rows}
        heads = [
            (way, model)
            for way in ("forward", "backward")
            for model in dict.fromkeys(row.actual for row in self.rows)
            if any(key[:2] == (mode, way) and key[3] == model for key in rows)
        ]
        ways = [
            way if way not in [way for way, _ in heads[:place]] else ""
            for place, (way, _) in enumerate(heads)
        ]
        table = [("", *ways), ("stage", *(model for _, model in heads))]
        marks = ["", ""]
        for stage in _in_order(self.rows, mode):
            cells = []
            for way, model in heads:
                moved = rows.get((mode, "statistics", stage, model)) if way == "forward" else None
                cells.append(_cell(rows.get((mode, way, stage, model), moved)))
            table.append((stage, *cells))
            marks.append(self._mark(mode, stage))
        lines = list(zip(columns(table), marks, strict=True))
        shown = range(len(lines)) if every else _worth_showing(marks)
        for number, (line, mark) in enumerate(lines):
            if number in shown:
                yield line + mark, "bad" if mark else ""
            elif number - 1 in shown:
                hidden = next((place for place in shown if place > number), len(lines)) - number
                yield f"  ... {hidden} more (--all shows them)", ""

    def _mark(self, mode: str, stage: str) -> str:
        """Who diverges at a stage, and for whom it is the first."""
        firsts: dict[str, str] = {}
        for finding in self.findings:
            if finding.mode == mode:
                firsts.setdefault(finding.model, finding.stage)
        wrong = dict.fromkeys(
            finding.model
            for finding in self.findings
            if (finding.mode, finding.stage) == (mode, stage)
        )
        words = [f"{model} diverges{' first' if firsts[model] == stage else ''}" for model in wrong]
        return f"  <- {', '.join(words)}" if words else ""

    def __str__(self) -> str:
        return "\n".join(line for line, _ in self.lines())


def _alike(finding: Finding, other: Finding) -> bool:
    """Whether it is the same mistake, found in another mode."""
    first, second = ([str(each) for each in one.explanations] for one in (finding, other))
    return (finding.model, finding.stage, finding.backward, first) == (
        other.model,
        other.stage,
        other.backward,
        second,
    )


MODES = {"eval": "evaluation", "train": "training"}


def _worth_showing(marks: list[str], most: int = 45) -> list[int]:
    """The rows to show of many: those that are marked and what is around them, the first and the
    last.
    """
    marked = [place for place, mark in enumerate(marks) if mark][:10]
    near = (
        {place + step for place in marked for step in (-2, -1, 0, 1, 2)}
        | set(range(5))
        | {len(marks) - 1, len(marks) - 2}
    )
    return [place for place in range(len(marks)) if len(marks) <= most or place in near]


def _in_order(rows: tuple[Difference, ...], mode: str) -> list[str]:
    """The stages in the order of the model that has most of them, the statistics of a batch norm
    behind it.
    """
    by_model: dict[str, list[str]] = {}
    for row in rows:
        if row.quantity == f"{mode} forward":
            by_model.setdefault(row.actual, []).append(row.tensor)
    order = max(by_model.values(), key=len, default=[])
    order += [
        row.tensor for row in rows if row.quantity == f"{mode} forward" and row.tensor not in order
    ]
    statistics = dict.fromkeys(row.tensor for row in rows if row.quantity == f"{mode} statistics")
    return [
        name
        for stage in order
        for name in (stage, *(s for s in statistics if s.rpartition(".")[0] == stage))
    ]


def _cell(row: Difference | None) -> str:
    return "" if row is None else f"{row.relative:.1e}{'' if row.expected == ORACLE else '*'}"


def _plain(row: Difference) -> dict[str, Any]:
    """Without infinities, which JSON does not have."""
    values = {**asdict(row), "ok": row.ok}
    return values | {
        name: str(values[name])
        for name in ("absolute", "relative")
        if not np.isfinite(values[name])
    }


def where(actual: np.ndarray, right: np.ndarray, tolerance: float) -> str:
    """In which part of a tensor two versions differ by more than a tolerance, relative to the
    greatest magnitude.
    """
    with np.errstate(invalid="ignore"):
        apart = ~(
            np.abs(actual.astype(np.float64) - right) <= tolerance * (np.abs(right).max() or 1)
        )
    lines = _border(apart) if apart.ndim == 4 else ""
    if lines:
        return f"only in the {lines}"
    for axis, name in enumerate(
        ("image", "channel")[: apart.ndim] if apart.ndim > 1 else ("channel",)
    ):
        size = apart.shape[axis]
        hit = np.flatnonzero(
            apart.any(axis=tuple(other for other in range(apart.ndim) if other != axis))
        )
        if len(hit) <= size / 2:
            numbers = ", ".join(map(str, hit)) if len(hit) <= 6 else f"{len(hit)} of them"
            return f"only in {name} {numbers} of {size}"
    share = float(apart.mean())
    return (
        "everywhere"
        if share > 0.99
        else f"in {share:.0%} of the values"
        if share >= 0.01
        else "in a few values"
    )


def _border(apart: np.ndarray) -> str:
    """The first and last rows and columns in which all differences are, if so; not of maps smaller
    than 3 x 3.
    """
    kept = {
        "first row": np.s_[:, :, :1],
        "last row": np.s_[:, :, -1:],
        "first column": np.s_[:, :, :, :1],
        "last column": np.s_[:, :, :, -1:],
    }

    def without(places: Iterator[Any]) -> np.ndarray:
        rest = apart.copy()
        for place in places:
            rest[place] = False
        return rest

    if min(apart.shape[2:]) < 3 or without(iter(kept.values())).any():
        return ""
    for name in list(kept):
        if not without(place for other, place in kept.items() if other != name).any():
            del kept[name]
    *front, last = kept
    return f"{', '.join(front)} and {last}" if front else last

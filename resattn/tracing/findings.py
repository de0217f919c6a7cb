"""What a trace found, as data and as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resattn.checking.crosscheck import ORACLE
from resattn.checking.rounding import MODE_NAMES
from resattn.oracle.node import Array
from resattn.tracing.explanations import CauseExplanation
from weights import Difference
from weights.compare import columns, plain_values
from weights.language import in_english, join_texts, mark, say

MOST_PLACES = 3  # of one mistake in a report
STAGE_QUANTITIES = (
    *(mark("eval forward"), mark("eval backward")),
    *(mark("train forward"), mark("train backward")),
)


@dataclass(frozen=True)
class Finding:
    """A stage that computes something else than it should.

    mode: "eval" or "train". agrees: the last stage before it that is within its tolerance, with its
    relative difference. difference: from what the oracle computes from the same inputs. where: in
    which part of the tensor. explanations: the causes that explain it, the best first. bound: the
    smallest part of the model that holds the difference. backward: whether everything computed
    forward agrees, and only the gradient of the stage differs. searched: whether causes were tried.
    """

    model: str
    mode: str
    stage: str
    agrees: tuple[str, float] | None
    difference: Difference
    where: str
    explanations: tuple[CauseExplanation, ...] = ()
    bound: str = ""
    backward: bool = False
    searched: bool = True

    def lines(self, modes: str) -> list[str]:
        """The finding as text. modes: all modes in which it was found."""
        row = self.difference
        agrees = (
            say("agrees up to {stage} ({apart:.0e}), ", stage=self.agrees[0], apart=self.agrees[1])
            if self.agrees
            else ""
        )
        what = say("gradient of {stage}", stage=self.stage) if self.backward else self.stage
        head = say(
            "{model}, {modes}: {agrees}diverges at {what}: {absolute:.2g} at {place} "
            "({axes}), {where}",
            model=self.model,
            modes=modes,
            agrees=agrees,
            what=what,
            absolute=row.absolute,
            place=row.place,
            axes=row.axes,
            where=self.where,
        )
        explained = [
            say("{each} (leaves {left:.0e})", each=each, left=each.left)
            for each in self.explanations
        ]
        bound = f"; {self.bound}" if self.bound else ""
        unexplained = say("unexplained: no known cause computes this{bound}", bound=bound)
        if not self.searched:
            unexplained = say("its cause was not searched{bound}", bound=bound)
        return [head, *(f"    {line}" for line in explained or [unexplained])]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "mode": self.mode,
            "stage": self.stage,
            "backward": self.backward,
            "searched": self.searched,
            "agrees_up_to": self.agrees,
            "difference": plain_values(self.difference),
            "where": in_english(self.where),
            "bound": in_english(self.bound),
            "explanations": [
                {
                    "cause": in_english(each.cause),
                    "words": in_english(each.words),
                    "left": each.left,
                    "places": list(each.places or (self.stage,)),
                }
                for each in self.explanations
            ],
        }


@dataclass(frozen=True)
class Trace:
    """The outcome of a trace. `print(trace)` shows it.

    rows: the differences of all stages from the oracle, or from the first model where the oracle
    has no such stage, in the order of execution. Their quantities are "eval forward", "eval
    backward", "train statistics" and so on.
    findings: the stages that are wrong. notes: other things that may matter.
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
            "title": in_english(self.title),
            "ok": self.ok,
            "environment": list(self.environment),
            "notes": in_english(list(self.notes)),
            "rows": [plain_values(row) for row in self.rows],
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def lines(self, every: bool = False, width: int | None = None) -> list[tuple[str, str]]:
        """The report as text: each line with its kind, "bad", "good" or "".

        every: whether to show all stages, however many there are. width: of the tables.
        """
        lines = [(self.title, ""), *((f"  {line}", "") for line in self.environment)]
        for mode in dict.fromkeys(row.quantity.split()[0] for row in self.rows):
            lines += [
                ("", ""),
                (
                    say("{mode}: relative difference from the oracle", mode=say(MODE_NAMES[mode])),
                    "",
                ),
                *self._table(mode, every, width),
            ]
        if any(row.expected != ORACLE for row in self.rows):
            lines.append(
                (say("  *: relative to the first model, because the oracle has no such stage"), "")
            )
        lines.append(("", ""))
        lines += self._list_findings(every)
        if not self.rows:
            lines.append((say("FAILED: nothing was compared."), "bad"))
        elif self.ok:
            lines.append((say("Every stage computes what it should."), "good"))
        return [*lines, *((say("note: {note}", note=note), "") for note in self.notes)]

    def _list_findings(self, every: bool) -> Iterator[tuple[str, str]]:
        """Each mistake, in the modes in which it was found. One that is at many stages, such as the
        eps of all batch norms, is shown for the first ones.
        """
        places: Counter[tuple[str, ...]] = Counter()
        for finding in self.findings:
            same = [other for other in self.findings if _is_same_mistake(finding, other)]
            if finding is not same[0]:
                continue
            causes = [each.cause for each in finding.explanations]
            key = (finding.model, *(other.mode for other in same), *causes)
            places[key] += 1
            if every or not causes or places[key] <= MOST_PLACES:
                head, *rest = finding.lines(
                    join_texts((say(other.mode) for other in same), say(" and "))
                )
                yield head, "bad"
                yield from ((line, "") for line in rest)
        for (model, *words), count in places.items():
            if not every and count > MOST_PLACES and len(words) > 1:
                more = say(
                    "{model}: the last cause, or one like it, at {count} more stages (--all shows "
                    "them)",
                    model=model,
                    count=count - MOST_PLACES,
                )
                yield more, "bad"

    def _table(self, mode: str, every: bool, width: int | None) -> Iterator[tuple[str, str]]:
        """One row for each stage, one column for each model and way; a batch norm's statistics are
        shown with what is computed forward.
        """
        rows = {(*row.quantity.split(), row.tensor, row.actual): row for row in self.rows}
        heads = [
            (way, model)
            for way in (mark("forward"), mark("backward"))
            for model in dict.fromkeys(row.actual for row in self.rows)
            if any(key[:2] == (mode, way) and key[3] == model for key in rows)
        ]
        ways = [
            say(way) if way not in [way for way, _ in heads[:place]] else ""
            for place, (way, _) in enumerate(heads)
        ]
        table = [("", *ways), (say("stage"), *(model for _, model in heads))]
        marks = ["", ""]
        for stage in _order_stages(self.rows, mode):
            cells = []
            for way, model in heads:
                moved = rows.get((mode, "statistics", stage, model)) if way == "forward" else None
                cells.append(_format_cell(rows.get((mode, way, stage, model), moved)))
            table.append((stage, *cells))
            marks.append(self._mark(mode, stage))
        lines = list(zip(columns(table, width), marks, strict=True))
        return _shorten_table(lines, every)

    def _mark(self, mode: str, stage: str) -> str:
        """Which models diverge at a stage, and for which of them it is the first."""
        firsts: dict[str, str] = {}
        for finding in self.findings:
            if finding.mode == mode:
                firsts.setdefault(finding.model, finding.stage)
        wrong = dict.fromkeys(
            finding.model
            for finding in self.findings
            if (finding.mode, finding.stage) == (mode, stage)
        )
        words = [
            say("{model} diverges first", model=model)
            if firsts[model] == stage
            else say("{model} diverges", model=model)
            for model in wrong
        ]
        return f"  <- {', '.join(words)}" if words else ""

    def __str__(self) -> str:
        return "\n".join(line for line, _ in self.lines())

    def __repr__(self) -> str:
        verdict = "ok" if self.ok else f"{len(self.findings)} findings"
        return f"<Trace: {verdict}; {self.title}>"


def _is_same_mistake(finding: Finding, other: Finding) -> bool:
    """Whether two findings are the same mistake in two modes."""
    first, second = ([str(each) for each in one.explanations] for one in (finding, other))
    return (finding.model, finding.stage, finding.backward, first) == (
        other.model,
        other.stage,
        other.backward,
        second,
    )


def _shorten_table(lines: list[tuple[str, str]], every: bool) -> Iterator[tuple[str, str]]:
    """The lines of a table with their marks; rows that matter less are replaced by their number."""
    marks = [sign for _, sign in lines]
    shown = range(len(lines)) if every else _select_rows(marks)
    for number, (line, sign) in enumerate(lines):
        if number in shown:
            yield line + sign, "bad" if sign else ""
        elif number - 1 in shown:
            hidden = next((place for place in shown if place > number), len(lines)) - number
            yield say("  ... {hidden} more (--all shows them)", hidden=hidden), ""


def _select_rows(marks: list[str], most: int = 45) -> list[int]:
    """The rows to show of many: the marked ones and their neighbours, the first and the last."""
    marked = [place for place, mark in enumerate(marks) if mark][:10]
    near = (
        {place + step for place in marked for step in (-2, -1, 0, 1, 2)}
        | set(range(5))
        | {len(marks) - 1, len(marks) - 2}
    )
    return [place for place in range(len(marks)) if len(marks) <= most or place in near]


def _order_stages(rows: tuple[Difference, ...], mode: str) -> list[str]:
    """The stages in the order of the model that has most of them, each batch norm followed by its
    statistics.
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


def _format_cell(row: Difference | None) -> str:
    return "" if row is None else f"{row.relative:.1e}{'' if row.expected == ORACLE else '*'}"


def locate(actual: Array, right: Array, tolerance: float) -> str:
    """In which part of a tensor two versions differ.

    tolerance: relative to the greatest magnitude.
    """
    with np.errstate(invalid="ignore"):
        apart = ~(
            np.abs(actual.astype(np.float64) - right) <= tolerance * (np.abs(right).max() or 1)
        )
    border = _locate_border(apart) if apart.ndim == 4 else ""
    if border:
        return say("only in the {border}", border=border)
    names = ("image", "channel")[: apart.ndim] if apart.ndim > 1 else ("channel",)
    for axis, name in enumerate(names):
        size = apart.shape[axis]
        others = tuple(other for other in range(apart.ndim) if other != axis)
        hit = np.flatnonzero(apart.any(axis=others))
        if len(hit) <= size / 2:
            numbers = (
                ", ".join(map(str, hit))
                if len(hit) <= 6
                else say("{count} of them", count=len(hit))
            )
            if name == "image":
                return say("only in image {numbers} of {size}", numbers=numbers, size=size)
            return say("only in channel {numbers} of {size}", numbers=numbers, size=size)
    share = float(apart.mean())
    if share > 0.99:
        return say("everywhere")
    return (
        say("in {share:.0%} of the values", share=share)
        if share >= 0.01
        else say("in a few values")
    )


def _locate_border(apart: Array) -> str:
    """The first and last rows and columns that contain all differences; "" if there are others, and
    for maps smaller than 3 x 3.
    """
    kept = {
        mark("first row"): np.s_[:, :, :1],
        mark("last row"): np.s_[:, :, -1:],
        mark("first column"): np.s_[:, :, :, :1],
        mark("last column"): np.s_[:, :, :, -1:],
    }

    def differ_outside(places: Iterable[Any]) -> bool:
        rest = apart.copy()
        for place in places:
            rest[place] = False
        return bool(rest.any())

    if min(apart.shape[2:]) < 3 or differ_outside(kept.values()):
        return ""
    for name in list(kept):
        if not differ_outside(place for other, place in kept.items() if other != name):
            del kept[name]
    *front, last = map(say, kept)
    return say("{names} and {last}", names=join_texts(front, ", "), last=last) if front else last

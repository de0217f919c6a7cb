"""The cross-check as one self-contained page of HTML: `resattn check --html report.html`.

The page loads nothing. Failures are at the top. Colour is never the only sign. The cells of the
heat map can be reached by keyboard, and the page can be read without scripts.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from resattn.reporting.heat_map import map_errors
from resattn.reporting.plots import Curves
from resattn.reporting.rendering import fill_template, trust
from resattn.reporting.stages import choose_rows, list_bars, name_rows
from resattn.reporting.tables import CellTable, draw_plots, tabulate_curves
from resattn.reporting.wording import (
    describe_limit,
    describe_output,
    join_words,
    list_cells,
    list_column_heads,
    name_backend,
    name_mode,
    name_pair,
    name_quantity,
)
from resattn.tracing.findings import Finding, Trace
from weights import Difference, Report
from weights.distribution import tabulate
from weights.errors import MissingFramework
from weights.language import say

_MOST_FAILURES, _MOST_ROWS = 50, 200  # of a table


@dataclass(frozen=True)
class Page:
    """The contents of the page.

    reports: by the name of the configuration. trace: of one of them. drawing: its picture as SVG.
    command: the words of the command, for repeating it. flags: the settings of the precision. made:
    the time; by default now. subject: what was compared, where there are no reports. faults: what
    else is wrong, in sentences. losses: of training runs by their names, before each step.
    """

    reports: dict[str, Report]
    trace: Trace | None = None
    drawing: str = ""
    command: Sequence[str] = ()
    flags: Sequence[str] = ()
    made: datetime | None = None
    subject: str = ""
    faults: Sequence[str] = ()
    losses: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return (
            all(report.ok for report in self.reports.values())
            and (self.trace is None or self.trace.ok)
            and not self.faults
        )

    def html(self) -> str:
        """The whole page."""
        return fill_template(
            "check.html",
            ok=self.ok,
            headline=say("The same function") if self.ok else say("Not the same function"),
            subject=self._find_subject(),
            failures=self._collect_failures(),
            summary=self._summarise(),
            heat_map=map_errors(self.reports),
            drawing=trust(self.drawing),
            shown=name_rows(*choose_rows(self.trace)) if self.trace else "",
            bars=list(list_bars(self.trace)) if self.trace else [],
            losses=self._show_losses(),
            tables=list(self._tabulate_all()),
            origin=self._describe_origin(),
        )

    def _find_subject(self) -> str:
        if self.subject:
            return self.subject
        if len(self.reports) == 1:
            return next(iter(self.reports.values())).title
        return say("cross-check of {count} configurations", count=len(self.reports))

    @property
    def _rows(self) -> list[Difference]:
        return [row for report in self.reports.values() for row in report.rows]

    # What went wrong

    def _collect_failures(self) -> dict[str, object]:
        findings = self.trace.findings if self.trace else ()
        reports = self.reports.values()
        over = [(name, row) for name, report in self.reports.items() for row in report.failures]
        worst = max((row for _, row in over), key=lambda row: row.excess, default=None)
        return {
            "sentences": [*self.faults, *(r.undefined for r in reports if r.undefined)],
            "findings": [_describe_finding(*each) for each in _merge_modes(findings)],
            "worst": None if worst is None or findings else _describe_worst(worst),
            "over": _tabulate_over(over, len(self.reports) > 1) if over else None,
            "count": len(over),
            "nothing": not self._rows and not (self.trace and self.trace.rows),
            "notes": [note for report in reports if not report.ok for note in report.notes],
        }

    # What was found

    def _summarise(self) -> dict[str, object]:
        reports = list(self.reports.values())
        pairs = [(report, dtype) for report in reports for dtype in report.dtypes]
        outputs, precision = [], []
        if len(reports) == 1:
            outputs = [describe_output(*pair) for pair in pairs]
            precision = [
                report.precision(dtype)
                for report, dtype in pairs
                if not report.decides(report.worst(dtype=dtype))
            ]
        return {
            "count": len(self._rows),
            "over": sum(len(report.failures) for report in reports),
            "who": join_words([name_backend(x) for x in {row.actual: 0 for row in self._rows}]),
            "sentences": [each for each in (*outputs, *precision) if each],
            "agreements": [str(each) for report in reports for each in report.agreements],
        }

    def _show_losses(self) -> dict[str, object] | None:
        if not any(self.losses.values()):
            return None
        steps = range(1, max(map(len, self.losses.values())) + 1)
        curves = Curves(steps, self.losses)
        try:
            plots = draw_plots(curves)
        except MissingFramework as error:  # the table is enough
            plots = {"missing": str(error)}
        return {"plots": plots, "table": tabulate_curves(curves)}

    def _tabulate_all(self) -> Iterator[tuple[str, CellTable]]:
        """Every comparison: each table with its title."""
        for name, report in self.reports.items():
            rows = sorted(report.rows, key=lambda row: row.excess, reverse=True)
            title = say("{name}: {count} comparisons", name=name, count=len(rows))
            cells = [list_cells(row) for row in rows]
            yield title, CellTable(list_column_heads(), cells, _MOST_ROWS)
            if report.distributions:
                heads, *body = tabulate(report.distributions)
                title = say("{name}: quantiles of errors, and errors by magnitude", name=name)
                yield title, CellTable(heads, body, _MOST_ROWS)

    def _describe_origin(self) -> dict[str, object]:
        found: list[Report | Trace] = [*self.reports.values()]
        found += [self.trace] if self.trace else []
        lines = dict.fromkeys(line for each in found for line in (*each.environment, *each.notes))
        return describe_origin(self.command, (*self.flags, *lines), self.made)


def describe_origin(
    command: Sequence[str], lines: Sequence[str], made: datetime | None = None
) -> dict[str, object]:
    """How a page was made: the command, other lines and the time, by default now."""
    return {
        "command": " ".join(map(shlex.quote, command)),
        "lines": list(lines),
        "made": (made or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _merge_modes(findings: Iterable[Finding]) -> list[tuple[Finding, list[str]]]:
    """The findings with the modes in which they were made, without those of a second mode."""
    found: dict[tuple[str, str, bool], tuple[Finding, list[str]]] = {}
    for each in findings:
        _, modes = found.setdefault((each.model, each.stage, each.backward), (each, []))
        modes.append(name_mode(each.mode))
    return list(found.values())


def _describe_finding(finding: Finding, modes: Sequence[str]) -> dict[str, object]:
    row = finding.difference
    return {
        "model": name_backend(finding.model),
        "agrees": finding.agrees[0] if finding.agrees else "",
        "stage": finding.stage,
        "backward": finding.backward,
        "modes": join_words(list(dict.fromkeys(modes))),
        "absolute": f"{row.absolute:.2g}",
        "place": row.place,
        "axes": row.axes,
        "where": finding.where,
        "causes": [(say(each.cause), each.words) for each in finding.explanations],
        "searched": finding.searched,
    }


def _tabulate_over(over: Sequence[tuple[str, Difference]], several: bool) -> CellTable:
    """several: whether to say of which configuration each is."""
    heads = ((say("configuration"),) if several else ()) + list_column_heads()
    rows = [(*((name,) if several else ()), *list_cells(row)) for name, row in over]
    return CellTable(heads, rows, _MOST_FAILURES)


def _describe_worst(row: Difference) -> dict[str, object]:
    return {
        "tensor": row.tensor,
        "quantity": name_quantity(row.quantity),
        "pair": name_pair(row),
        "relative": row.relative,
        "limit": describe_limit(row),
    }

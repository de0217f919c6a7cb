"""The cross-check as one self-contained page of HTML: `resattn check --html report.html`.

The page loads nothing. Failures are at the top. Colour is never the only sign. The cells of the
heat map can be reached by keyboard, and the page can be read without scripts.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np

from resattn.checking.rounding import MODE_NAMES
from resattn.drawing.nodes import SceneNode
from resattn.drawing.pictures import scene_of
from resattn.drawing.scene import fold_blocks
from resattn.drawing.svg import svg
from resattn.tracing.findings import Finding, Trace
from weights import BlockConfig, Difference, Report
from weights.checks import printable
from weights.compare import format_times
from weights.config import Config
from weights.distribution import tabulate
from weights.files.atomic import write_atomically
from weights.graph import default_size, graph

QUANTITY_WORDS = {
    "weights": "weights, read back",
    "eval output": "output in evaluation",
    "eval gradient": "gradients in evaluation",
    "train output": "output in training",
    "train statistics": "running statistics after a training step",
    "train gradient": "gradients in training",
}
LABELS = {"torch": "PyTorch", "jax": "Flax", "tf": "Keras", "oracle": "NumPy oracle"}


@dataclass(frozen=True)
class Page:
    """The contents of the page.

    reports: by the name of the configuration. trace: of one of them. drawing: its picture as SVG.
    command: the words of the command, for repeating it. flags: the settings of the precision. made:
    the time; by default now. subject: what was compared, where there are no reports. faults: what
    else is wrong, in sentences.
    """

    reports: dict[str, Report]
    trace: Trace | None = None
    drawing: str = ""
    command: Sequence[str] = ()
    flags: Sequence[str] = ()
    made: datetime | None = None
    subject: str = ""
    faults: Sequence[str] = ()

    @property
    def ok(self) -> bool:
        return (
            all(report.ok for report in self.reports.values())
            and (self.trace is None or self.trace.ok)
            and not self.faults
        )

    def html(self) -> str:
        """The whole page."""
        sections = [
            self._summary(),
            self._heat_map(),
            self._stages(),
            self._comparisons(),
            self._environment(),
        ]
        if not self.ok:
            sections.insert(0, self._failures())
        page = TEMPLATE.format(
            title=escape(f"{self._headline()}: {self._subject()}"),
            style=STYLE,
            script=SCRIPT,
            body="\n".join(section for section in sections if section),
        )
        return printable(page)  # names of files and tensors may hold control characters

    def _headline(self) -> str:
        return "The same function" if self.ok else "Not the same function"

    def _subject(self) -> str:
        if self.subject:
            return self.subject
        if len(self.reports) == 1:
            return next(iter(self.reports.values())).title
        return f"cross-check of {len(self.reports)} configurations"

    def _rows(self) -> list[Difference]:
        return [row for report in self.reports.values() for row in report.rows]

    # What went wrong

    def _failures(self) -> str:
        findings = self.trace.findings if self.trace else ()
        over = [(name, row) for name, report in self.reports.items() for row in report.failures]
        heading = f'<h1 id="verdict">✗ {self._headline()}</h1>'
        parts = [f'<section class="verdict bad" aria-labelledby="verdict">{heading}']
        parts += [f'<p class="lead">{escape(fault)}</p>' for fault in self.faults]
        if findings:
            items = "".join(f"<li>{_describe(finding)}</li>" for finding in _select_once(findings))
            parts.append(f'<p class="lead">{_summarise(findings[0])}</p><ul>{items}</ul>')
        elif over:
            row = max((row for _, row in over), key=lambda row: row.excess)
            parts.append(
                f'<p class="lead"><b>{escape(row.tensor)}</b>, '
                f"{escape(QUANTITY_WORDS[row.quantity])}: the relative difference between "
                f"{_label(row.actual)} and {_label(row.expected)} is {row.relative:.1e}"
                f"{_describe_limit(row)}.</p>"
            )
        parts += [
            f'<p class="lead">{escape(report.undefined)}</p>'
            for report in self.reports.values()
            if report.undefined
        ]
        if over:
            cells = ((escape(name), *_list_cells(row)) for name, row in over)
            table = _make_table(("configuration", *COLUMN_HEADS), cells, most=50)
            parts.append(_fold_away(_count_over(len(over)), table, opened=not findings))
        if not self._rows() and not (self.trace and self.trace.rows):
            parts.append('<p class="lead">Nothing was compared.</p>')
        parts += [
            f"<p>{escape(note)}</p>"
            for report in self.reports.values()
            if not report.ok
            for note in report.notes
        ]
        return "".join([*parts, "</section>"])

    # What was found

    def _summary(self) -> str:
        rows = self._rows()
        if not rows:
            subject = f'<p class="quiet">{escape(self._subject())}</p>'
            heading = f"<h1>✓ {self._headline()}</h1>" if self.ok else ""
            return f'<section><div class="verdict good">{heading}{subject}</div></section>'
        backends = list(dict.fromkeys(row.actual for row in rows))
        heading = f'<div class="verdict good"><h1>✓ {self._headline()}</h1>'
        if not self.ok:
            heading = '<div class="verdict"><h2>What was compared</h2>'
        who = _join_words([_label(name) for name in backends])
        reports = self.reports.values()
        over = sum(len(report.failures) for report in reports)
        verdict = f"{_count_over(over)}." if over else "All are within what rounding explains."
        outputs = [_describe_output(report, dtype) for report in reports for dtype in report.dtypes]
        agreements = [each for report in reports for each in report.agreements]
        precision = [
            f"<p>{escape(report.precision(dtype))}</p>"
            for report in reports
            for dtype in report.dtypes
            if len(self.reports) == 1 and not report.decides(report.worst(dtype=dtype))
        ]
        return (
            f'<section>{heading}<p class="lead">The same weights were loaded into {who}. Outputs, '
            "gradients and running statistics were compared with each other and with a reference "
            f"in NumPy, in double precision. This made {len(rows):,} comparisons. {verdict}</p>"
            f"{''.join((outputs if len(self.reports) == 1 else []) + precision)}"
            f"{''.join(f'<p>{escape(str(each))}.</p>' for each in agreements)}"
            f'<p class="quiet">{escape(self._subject())}</p></div></section>'
        )

    def _heat_map(self) -> str:
        """One row for each configuration, or for each quantity if there is one configuration; one
        column for each pair.
        """
        pairs = list(dict.fromkeys((row.actual, row.expected) for row in self._rows()))
        if not pairs:
            return ""
        heads = "".join(f'<th scope="col">{_label(a)}<br>and {_label(b)}</th>' for a, b in pairs)
        body = []
        for name, rows in self._heat_map_rows().items():
            cells = []
            for pair in pairs:
                here = [row for row in rows if (row.actual, row.expected) == pair]
                worst = max(here, key=lambda row: row.excess, default=None)
                cells.append("<td></td>" if worst is None else _make_cell(worst))
            body.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
        what = "quantity" if len(self.reports) == 1 else "configuration"
        return (
            f'<section><h2 id="map">Error by {what} and pair</h2><p class="quiet">Each cell shows '
            "the greatest relative difference: that of the tensor nearest to its limit, or "
            "farthest over it. The nearer to the limit, which is five times what the rounding of "
            "the format explains, the darker the cell. The arrow keys move between the cells; "
            "details of a cell are shown below.</p>"
            '<div class="scroll"><table class="map" role="grid" aria-labelledby="map"><thead><tr>'
            f"<td></td>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
            f'<p id="details" role="status" aria-live="polite"></p>{LEGEND}</section>'
        )

    def _heat_map_rows(self) -> dict[str, list[Difference]]:
        if len(self.reports) > 1:
            return {
                f"{name}, {dtype}": report.select(dtype=dtype)
                for name, report in self.reports.items()
                for dtype in report.dtypes
            }
        found: dict[str, list[Difference]] = {}
        for row in self._rows():
            words = QUANTITY_WORDS.get(row.quantity, row.quantity)
            found.setdefault(f"{words}, {row.dtype}".removesuffix(", "), []).append(row)
        return found

    def _stages(self) -> str:
        if self.trace is None or not self.trace.rows:
            return ""
        parts = [
            '<section><h2>Stage by stage</h2><p class="quiet">The models get the same input; the '
            "stages are shown from the image to the output. The bar is the greatest difference "
            "from the oracle and the line is its tolerance, on a logarithmic scale. A grey bar is "
            "over its tolerance only because of an earlier stage.</p>"
        ]
        if self.drawing:
            parts.append(f'<figure class="scroll drawing">{self.drawing}</figure>')
        for mode, title in MODE_NAMES.items():
            rows = [row for row in self.trace.rows if row.quantity == f"{mode} forward"]
            if rows:
                findings = [finding for finding in self.trace.findings if finding.mode == mode]
                wrong = {(finding.model, finding.stage) for finding in findings}
                count = len({row.tensor for row in rows})
                opened = bool(wrong) or (mode == "eval" and count <= 40)
                summary = f"In {title}, forward ({count} stages)"
                parts.append(_fold_away(summary, _make_bars(rows, wrong), opened))
        return "".join([*parts, "</section>"])

    def _comparisons(self) -> str:
        parts = []
        for name, report in self.reports.items():
            rows = sorted(report.rows, key=lambda row: row.excess, reverse=True)
            table = _make_table(COLUMN_HEADS, map(_list_cells, rows), most=200)
            parts.append(_fold_away(f"{escape(name)}: {len(rows)} comparisons", table))
            if report.distributions:
                heads, *body = tabulate(report.distributions)
                cells = ([escape(cell) for cell in row] for row in body)
                summary = f"{escape(name)}: quantiles of errors, and errors by magnitude"
                parts.append(_fold_away(summary, _make_table(heads, cells, most=200)))
        return f"<section><h2>Every comparison</h2>{''.join(parts)}</section>" if parts else ""

    def _environment(self) -> str:
        found: list[Report | Trace] = [*self.reports.values()]
        found += [self.trace] if self.trace else []
        lines = dict.fromkeys(line for each in found for line in (*each.environment, *each.notes))
        command = " ".join(shlex.quote(word) for word in self.command)
        again = f"<p>To repeat it:</p><pre><code>{escape(command)}</code></pre>" if command else ""
        made = (self.made or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
        items = "".join(f"<li>{escape(line)}</li>" for line in (*self.flags, *lines))
        return (
            f"<section><h2>How this was made</h2>{again}<ul>{items}</ul>"
            f'<p class="quiet">{escape(made)}</p></section>'
        )


# Words


def _label(name: str) -> str:
    """The label of a backend, as in "torch cuda"."""
    framework, _, device = name.partition(" ")
    suffix = f" ({device.upper()})" if device not in ("", "cpu") else ""
    return escape(LABELS.get(framework, framework) + suffix)


def _count_over(count: int) -> str:
    if count == 1:
        return "1 comparison is over what rounding explains"
    return f"{count} comparisons are over what rounding explains"


def _describe_limit(row: Difference) -> str:
    """How a difference relates to its limit, as the end of a sentence."""
    if row.explained is None:
        return f"; {row.tolerance:.0e} is allowed"
    return f", {format_times(row.times)} what the rounding of {row.dtype} explains"


def _describe_output(report: Report, dtype: str) -> str:
    """The greatest difference of an output in a format, as a paragraph."""
    rows = report.select(dtype=dtype, quantity="eval output")
    if not rows:
        return ""
    worst = max(rows, key=lambda row: row.relative)
    part = "equal to the last bit"
    if worst.relative > 0:
        part = f"1 part in {_round(1 / worst.relative)}"
    return (
        f"<p>In {dtype}, the greatest difference of an output is {worst.relative:.1e} of its "
        f"greatest magnitude ({part}), between {_label(worst.actual)} and "
        f"{_label(worst.expected)}{_describe_limit(worst)}.</p>"
    )


def _join_words(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _round(number: float) -> str:
    names = {1e15: "quadrillion", 1e12: "trillion", 1e9: "billion", 1e6: "million"}
    for size, word in names.items():
        if number >= size:
            return f"{number / size:.0f} {word}"
    return f"{number:,.0f}"


def _summarise(finding: Finding) -> str:
    stage = f"<b>{escape(finding.stage)}</b>"
    what = f"the gradient of {stage}" if finding.backward else stage
    agrees = f"agrees up to <b>{escape(finding.agrees[0])}</b> and " if finding.agrees else ""
    return f"{_label(finding.model)} {agrees}computes something else at {what}."


def _select_once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """The findings, without those of another mode at the same stage."""
    seen = set()
    for finding in findings:
        key = (finding.model, finding.stage, finding.backward)
        if key not in seen:
            seen.add(key)
            yield finding


def _describe(finding: Finding) -> str:
    row = finding.difference
    causes = "; ".join(
        f"<b>{escape(each.cause)}</b>: {escape(each.words)}" for each in finding.explanations
    )
    why = f"Explained by {causes}." if causes else "No known cause computes this: unexplained."
    return (
        f"{_label(finding.model)}, <b>{escape(finding.stage)}</b>: off by {row.absolute:.2g} at "
        f"{escape(row.place)} ({escape(row.axes)}), {escape(finding.where)}. {why}"
    )


# Tables and bars

COLUMN_HEADS = ("format", "quantity", "tensor", "between", "relative", "x rounding", "at")


def _list_cells(row: Difference) -> tuple[str, ...]:
    """The HTML of a row's cells."""
    return (
        row.dtype,
        row.quantity,
        escape(row.tensor),
        f"{_label(row.actual)} and {_label(row.expected)}",
        f"{row.relative:.1e}",
        "" if row.explained is None else format_times(row.times).removesuffix(" times"),
        row.place,
    )


def _fold_away(summary: str, content: str, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>{content}</details>"


def _make_table(heads: Sequence[str], rows: Iterable[Sequence[str]], most: int) -> str:
    """heads: text. rows: HTML. most: the number of rows to show."""
    rows = list(rows)
    head = "".join(f'<th scope="col">{escape(word)}</th>' for word in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows[:most])
    more = ""
    if len(rows) > most:
        more = (
            f"<p>{len(rows) - most} more rows are not shown. Relative to their tolerance, their "
            "differences are smaller.</p>"
        )
    table = f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>{more}'


def _measure_fill(row: Difference) -> float:
    """0 without a difference, 1 at the limit and more."""
    return min(row.excess, 1.0)


def _make_cell(row: Difference) -> str:
    step = round(_measure_fill(row) * 8)
    details = (
        f"{QUANTITY_WORDS.get(row.quantity, row.quantity)}, {row.tensor}, "
        f"{LABELS.get(row.actual.split()[0], row.actual)} and "
        f"{LABELS.get(row.expected.split()[0], row.expected)}: greatest difference "
        f"{row.absolute:.2e}, relative {row.relative:.2e} at {row.place} ({row.axes})"
        f"{_describe_limit(row)}{'' if row.ok else ', OVER the limit'}"
    )
    mark = "" if row.ok else "✗ "
    value = "0" if row.relative == 0 else f"{row.relative:.0e}"
    kind = f"s{step}" if row.ok else "over"
    attributes = f'role="gridcell" tabindex="-1" class="{kind}" data-details="{escape(details)}"'
    return f"<td {attributes}>{mark}{value}</td>"


def _make_bars(rows: Sequence[Difference], wrong: set[tuple[str, str]]) -> str:
    """A row for each stage, with a bar for each model. wrong: models with their wrong stages."""
    order = {stage: place for place, stage in enumerate(dict.fromkeys(r.tensor for r in rows))}
    lines = []
    by_stage = sorted(rows, key=lambda row: order[row.tensor])
    for stage, group in groupby(by_stage, key=lambda row: row.tensor):
        bars = "".join(_make_bar(row, (row.actual, stage) in wrong) for row in group)
        lines.append(f'<tr><th scope="row">{escape(stage)}</th><td>{bars}</td></tr>')
    return f'<table class="bars"><tbody>{"".join(lines)}</tbody></table>'


def _make_bar(row: Difference, guilty: bool) -> str:
    low, high = math.log10(row.tolerance) - 3, 1.0
    share = 0.0
    if row.relative > 0:
        share = float(np.clip((math.log10(row.relative) - low) / (high - low), 0, 1))
    limit = (math.log10(row.tolerance) - low) / (high - low)
    kind = "bad" if guilty else "late" if not row.ok else ""
    return (
        f'<div class="bar {kind}"><span class="who">{_label(row.actual)}</span>'
        f'<span class="track"><span class="fill" style="width:{share:.1%}"></span>'
        f'<span class="limit" style="left:{limit:.1%}"></span></span>'
        f'<span class="value">{row.relative:.1e}{" ✗ diverges" if guilty else ""}</span></div>'
    )


LEGEND = (
    '<p class="legend" aria-hidden="true"><span class="s0">far within</span>'
    '<span class="s2"></span><span class="s4"></span><span class="s6"></span>'
    '<span class="s8">at the limit</span><span class="over">✗ over</span></p>'
)

STYLE, SCRIPT = (
    Path(__file__).with_name(f"page.{suffix}").read_text(encoding="utf-8")
    for suffix in ("css", "js")
)

TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def drawing(config: Config, trace: Trace) -> str:
    """The picture of the traced model as SVG, with the greatest difference of each stage in
    evaluation. Stages that diverge are marked.
    """
    scene = scene_of(config)
    node_of: Mapping[str, str] = {}
    if not isinstance(config, BlockConfig):
        node_of = fold_blocks(graph(config, default_size(config)))
    worst: dict[str, float] = {}
    for row in trace.rows:
        if row.quantity == "eval forward":
            name = node_of.get(row.tensor, row.tensor)
            worst[name] = max(worst.get(name, 0.0), row.relative)
    findings = [finding for finding in trace.findings if not finding.backward]
    wrong = {node_of.get(finding.stage, finding.stage) for finding in findings}
    nodes = tuple(_annotate(node, worst.get(node.name), node.name in wrong) for node in scene.nodes)
    notes = ("greatest relative difference in evaluation",)
    return svg(replace(scene, nodes=nodes, notes=notes))


def _annotate(node: SceneNode, relative: float | None, wrong: bool) -> SceneNode:
    """The node with its greatest relative difference, if there is one."""
    if relative is None:
        return node
    words = f"{relative:.1e}"
    if node.form in ("sum", "product"):
        return replace(node, shape=f"{'✗ ' if wrong else ''}{words}")
    lines = (*node.lines, f"✗ {words}, diverges" if wrong else words)
    return replace(node, lines=lines, form="wrong" if wrong else node.form)


def write_page(path: Path, page: Page) -> None:
    """Writes the page. An existing file is replaced only once the page is complete."""
    content = page.html()
    write_atomically(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))

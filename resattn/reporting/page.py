"""The cross-check as one page of HTML that holds all it needs: `resattn check --html report.html`.

Nothing is loaded from anywhere. What is a failure stands first. Colour is never the only sign; the
cells of the heat map can be reached and walked through by keyboard; without scripts everything can
still be read.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np

from resattn.drawing.scene import Node
from resattn.tracing.findings import Finding, Trace
from weights import BlockConfig, Difference, Report
from weights.config import Config

QUANTITIES = {
    "weights": "weights, read back",
    "eval output": "output in evaluation",
    "eval gradient": "gradients in evaluation",
    "train output": "output in training",
    "train statistics": "running statistics after a training step",
    "train gradient": "gradients in training",
}
NAMES = {"torch": "PyTorch", "jax": "Flax", "tf": "Keras", "oracle": "NumPy oracle"}


@dataclass(frozen=True)
class Page:
    """What the page tells.

    reports: of each configuration, by what to call it. trace: of one of them, with its drawing
    (SVG). command: what was typed, to type it again. flags: what was set for precision. made: when.
    """

    reports: dict[str, Report]
    trace: Trace | None = None
    drawing: str = ""
    command: Sequence[str] = ()
    flags: Sequence[str] = ()
    made: datetime | None = None

    @property
    def ok(self) -> bool:
        return all(report.ok for report in self.reports.values()) and (
            self.trace is None or self.trace.ok
        )

    def html(self) -> str:
        """The whole page."""
        sections = [
            self._summary(),
            self._heat_map(),
            self._stages(),
            self._quantities(),
            self._environment(),
        ]
        if not self.ok:
            sections.insert(0, self._failures())
        return TEMPLATE.format(
            title=escape(f"{'Equal' if self.ok else 'Not equal'}: {self._subject()}"),
            style=STYLE,
            script=SCRIPT,
            body="\n".join(section for section in sections if section),
        )

    def _subject(self) -> str:
        first = next(iter(self.reports.values()))
        return (
            first.title
            if len(self.reports) == 1
            else f"cross-check of {len(self.reports)} configurations"
        )

    def _rows(self) -> list[Difference]:
        return [row for report in self.reports.values() for row in report.rows]

    # What went wrong

    def _failures(self) -> str:
        findings = self.trace.findings if self.trace else ()
        over = [(name, row) for name, report in self.reports.items() for row in report.failures]
        parts = [
            '<section class="verdict bad" aria-labelledby="verdict"><h1 id="verdict">✗ Not equal</h1>'
        ]
        if findings:
            parts.append(f'<p class="lead">{_sentence(findings[0])}</p>')
            parts.append(
                f"<ul>{''.join(f'<li>{_finding(finding)}</li>' for finding in _once(findings))}</ul>"
            )
        elif over:
            row = max((row for _, row in over), key=lambda row: row.excess)
            parts.append(
                f'<p class="lead"><b>{escape(row.tensor)}</b>, {escape(QUANTITIES[row.quantity])}: {_who(row.actual)} is '
                f"{row.relative:.1e} from {_who(row.expected)}, relative; allowed is "
                f"{row.tolerance:.0e}.</p>"
            )
        if over:
            heads = ("configuration", "quantity", "tensor", "between", "relative", "allowed", "at")
            table = _table(heads, ((escape(name), *_told(row)) for name, row in over), most=50)
            parts.append(_folded(_are_over(len(over)), table, opened=not findings))
        if not self._rows():
            parts.append('<p class="lead">Nothing was compared.</p>')
        parts += [
            f"<p>{escape(note)}</p>" for report in self.reports.values() for note in report.notes
        ]
        return "".join([*parts, "</section>"])

    # What was found

    def _summary(self) -> str:
        rows = self._rows()
        if not rows:
            return ""
        backends = list(dict.fromkeys(row.actual for row in rows))
        outputs = [row for row in rows if row.quantity == "eval output"]
        worst = max(outputs, key=lambda row: row.relative)
        heading = '<div class="verdict good"><h1>✓ Equal</h1>'
        if not self.ok:
            heading = '<div class="verdict"><h2>What was compared</h2>'
        who = _and([_who(name) for name in backends])
        parts = (
            f"1 part in {_round(1 / worst.relative)}"
            if worst.relative > 0
            else "none at all, to the last bit"
        )
        over = sum(not row.ok for row in rows)
        verdict = f"{_are_over(over)}." if over else "All are within their tolerance."
        return (
            f'<section>{heading}<p class="lead">The same weights in {who}: outputs, gradients and running statistics were '
            "compared with each other and with a reference in NumPy, in double precision. "
            f"{len(rows):,} comparisons. {verdict}</p><p>The greatest difference of an output is "
            f"{worst.relative:.1e} of its greatest magnitude ({parts}), between "
            f"{_who(worst.actual)} and {_who(worst.expected)}; allowed is "
            f"{worst.tolerance:.0e}.</p>"
            f'<p class="quiet">{escape(self._subject())}</p></div></section>'
        )

    def _heat_map(self) -> str:
        """A row a configuration, or a quantity where there is one configuration; a column a
        pair.
        """
        pairs = list(dict.fromkeys((row.actual, row.expected) for row in self._rows()))
        if not pairs:
            return ""
        single = len(self.reports) == 1
        lines: list[tuple[str, list[Difference]]] = []
        for name, report in self.reports.items():
            if single:
                lines += [
                    (
                        QUANTITIES.get(quantity, quantity),
                        [row for row in report.rows if row.quantity == quantity],
                    )
                    for quantity in dict.fromkeys(row.quantity for row in report.rows)
                ]
            else:
                lines.append((name, list(report.rows)))
        heads = "".join(f'<th scope="col">{_who(a)}<br>and {_who(b)}</th>' for a, b in pairs)
        body = []
        for name, rows in lines:
            cells = []
            for pair in pairs:
                here = [row for row in rows if (row.actual, row.expected) == pair]
                cells.append(_cell(max(here, key=lambda row: row.excess)) if here else "<td></td>")
            body.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
        what = "quantity" if single else "configuration"
        return (
            f'<section><h2 id="map">Error by {what} and pair</h2><p class="quiet">Each cell: the greatest relative '
            "difference of its tensors, the one nearest to its tolerance (or farthest over it), "
            "and filled the more the nearer, on a logarithmic scale. Arrow keys walk through the "
            "cells; what a cell stands for is told below.</p>"
            f'<div class="scroll"><table class="map" role="grid" aria-labelledby="map"><thead><tr><td></td>{heads}</tr>'
            f"</thead><tbody>{''.join(body)}</tbody></table></div>"
            f'<p id="told" role="status" aria-live="polite"></p>{LEGEND}</section>'
        )

    def _stages(self) -> str:
        if self.trace is None or not self.trace.rows:
            return ""
        parts = [
            '<section><h2>Stage by stage</h2><p class="quiet">The same input through the models, from the image to the '
            "output. The bar is the greatest difference from the oracle, the line its tolerance; "
            "logarithmic. Grey: over it only because of what came before.</p>"
        ]
        if self.drawing:
            parts.append(f'<figure class="scroll drawing">{self.drawing}</figure>')
        for mode, title in (("eval", "evaluation"), ("train", "training")):
            rows = [row for row in self.trace.rows if row.quantity == f"{mode} forward"]
            if rows:
                wrong = {
                    (finding.model, finding.stage)
                    for finding in self.trace.findings
                    if finding.mode == mode
                }
                count = len({row.tensor for row in rows})
                opened = bool(wrong) or (mode == "eval" and count <= 40)
                parts.append(
                    _folded(f"In {title}, forward ({count} stages)", _bars(rows, wrong), opened)
                )
        return "".join([*parts, "</section>"])

    def _quantities(self) -> str:
        """Every tensor, for those who want it."""
        heads = ("quantity", "tensor", "between", "relative", "allowed", "at")
        parts = []
        for name, report in self.reports.items():
            rows = sorted(report.rows, key=lambda row: row.excess, reverse=True)
            table = _table(heads, map(_told, rows), most=200)
            parts.append(_folded(f"{escape(name)}: {len(rows)} comparisons", table))
        return f"<section><h2>Every comparison</h2>{''.join(parts)}</section>" if parts else ""

    def _environment(self) -> str:
        told = [*self.reports.values(), *([self.trace] if self.trace else [])]
        lines = dict.fromkeys(line for each in told for line in (*each.environment, *each.notes))
        command = " ".join(shlex.quote(word) for word in self.command)
        again = f"<p>To repeat it:</p><pre><code>{escape(command)}</code></pre>" if command else ""
        made = (self.made or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
        items = "".join(f"<li>{escape(line)}</li>" for line in (*self.flags, *lines))
        return f'<section><h2>How this was made</h2>{again}<ul>{items}</ul><p class="quiet">{escape(made)}</p></section>'


def _who(name: str) -> str:
    framework, _, device = name.partition(" ")
    return escape(
        NAMES.get(framework, framework)
        + (f" ({device.upper()})" if device not in ("", "cpu") else "")
    )


def _are_over(count: int) -> str:
    return (
        "1 comparison is over its tolerance"
        if count == 1
        else f"{count} comparisons are over their tolerance"
    )


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def _round(number: float) -> str:
    for size, word in (
        (1e15, "quadrillion"),
        (1e12, "trillion"),
        (1e9, "billion"),
        (1e6, "million"),
    ):
        if number >= size:
            return f"{number / size:.0f} {word}"
    return f"{number:,.0f}"


def _sentence(finding: Finding) -> str:
    what = (
        f"the gradient of <b>{escape(finding.stage)}</b>"
        if finding.backward
        else f"<b>{escape(finding.stage)}</b>"
    )
    agrees = f"agrees up to <b>{escape(finding.agrees[0])}</b> and " if finding.agrees else ""
    return f"{_who(finding.model)} {agrees}computes something else at {what}."


def _once(findings: Iterable[Finding]) -> Iterator[Finding]:
    seen = set()
    for finding in findings:
        key = (finding.model, finding.stage, finding.backward)
        if key not in seen:
            seen.add(key)
            yield finding


def _finding(finding: Finding) -> str:
    row = finding.difference
    causes = "; ".join(
        f"<b>{escape(each.cause)}</b>: {escape(each.words)}" for each in finding.explanations
    )
    why = f"Explained by {causes}." if causes else "No known cause computes this: unexplained."
    return (
        f"{_who(finding.model)}, <b>{escape(finding.stage)}</b>: off by {row.absolute:.2g} at "
        f"{escape(row.place)} ({escape(row.axes)}), {escape(finding.where)}. {why}"
    )


def _told(row: Difference) -> tuple[str, ...]:
    between = f"{_who(row.actual)} and {_who(row.expected)}"
    return (
        row.quantity,
        escape(row.tensor),
        between,
        f"{row.relative:.1e}",
        f"{row.tolerance:.0e}",
        row.place,
    )


def _folded(summary: str, content: str, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>{content}</details>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], most: int) -> str:
    """heads: text; rows: HTML."""
    rows = list(rows)
    head = "".join(f'<th scope="col">{escape(word)}</th>' for word in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows[:most])
    more = (
        f"<p>and {len(rows) - most} more, all nearer to each other</p>" if len(rows) > most else ""
    )
    table = f'<table class="plain"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{table}</div>{more}'


def _fill(row: Difference) -> float:
    """0 for six orders of magnitude below the tolerance and less, 1 at the tolerance."""
    if row.relative == 0:
        return 0.0
    return (
        float(np.clip(1 + math.log10(max(row.excess, 1e-12)) / 4, 0, 1))
        if math.isfinite(row.excess)
        else 1.0
    )


def _cell(row: Difference) -> str:
    step = round(_fill(row) * 8)
    told = (
        f"{QUANTITIES.get(row.quantity, row.quantity)}, {row.tensor}, "
        f"{NAMES.get(row.actual.split()[0], row.actual)} and "
        f"{NAMES.get(row.expected.split()[0], row.expected)}: greatest difference "
        f"{row.absolute:.2e}, relative {row.relative:.2e} at {row.place} ({row.axes}), "
        f"{'within' if row.ok else 'OVER'} the tolerance {row.tolerance:.0e}"
    )
    mark = "" if row.ok else "✗ "
    value = "0" if row.relative == 0 else f"{row.relative:.0e}"
    kind = f"s{step}" if row.ok else "over"
    return f'<td role="gridcell" tabindex="-1" class="{kind}" data-told="{escape(told)}">{mark}{value}</td>'


def _bars(rows: Sequence[Difference], wrong: set[tuple[str, str]]) -> str:
    """A row a stage, a bar a model."""
    lines = []
    for stage, group in groupby(
        sorted(rows, key=lambda row: _first(rows, row.tensor)), key=lambda row: row.tensor
    ):
        bars = []
        for row in group:
            guilty = (row.actual, stage) in wrong
            low, high = math.log10(row.tolerance) - 3, 1.0
            share = (
                float(np.clip((math.log10(row.relative) - low) / (high - low), 0, 1))
                if row.relative > 0
                else 0.0
            )
            limit = (math.log10(row.tolerance) - low) / (high - low)
            kind = "bad" if guilty else "late" if not row.ok else ""
            marks = f'<span class="fill" style="width:{share:.1%}"></span><span class="limit" style="left:{limit:.1%}"></span>'
            bars.append(
                f'<div class="bar {kind}"><span class="who">{_who(row.actual)}</span><span class="track">{marks}</span>'
                f'<span class="value">{row.relative:.1e}{" ✗ diverges" if guilty else ""}</span></div>'
            )
        lines.append(f'<tr><th scope="row">{escape(stage)}</th><td>{"".join(bars)}</td></tr>')
    return f'<table class="bars"><tbody>{"".join(lines)}</tbody></table>'


def _first(rows: Sequence[Difference], tensor: str) -> int:
    return next(place for place, row in enumerate(rows) if row.tensor == tensor)


LEGEND = (
    '<p class="legend" aria-hidden="true"><span class="s0">far within</span><span class="s2"></span><span class="s4"></span>'
    '<span class="s6"></span><span class="s8">at the tolerance</span><span class="over">✗ over</span></p>'
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
    """The picture of what was traced, with the greatest difference of each stage in evaluation;
    what diverges is marked.
    """
    from resattn.drawing.pictures import scene_of
    from resattn.drawing.scene import folding
    from resattn.drawing.svg import svg
    from weights.graph import graph

    scene = scene_of(config)
    stands_for = (
        {}
        if isinstance(config, BlockConfig)
        else folding(graph(config, config.input_size or (224, 224)))
    )
    worst: dict[str, float] = {}
    for row in trace.rows:
        if row.quantity == "eval forward":
            name = stands_for.get(row.tensor, row.tensor)
            worst[name] = max(worst.get(name, 0.0), row.relative)
    wrong = {
        stands_for.get(finding.stage, finding.stage)
        for finding in trace.findings
        if not finding.backward
    }

    def annotated(node: Node) -> Node:
        if node.name not in worst:
            return node
        words = f"{worst[node.name]:.1e}"
        bad = node.name in wrong
        if node.form in ("sum", "product"):
            return replace(node, shape=f"{'✗ ' if bad else ''}{words}")
        lines = (*node.lines, f"✗ {words}, diverges" if bad else words)
        return replace(node, lines=lines, form="wrong" if bad else node.form)

    return svg(
        replace(
            scene,
            nodes=tuple(map(annotated, scene.nodes)),
            notes=("greatest relative difference in evaluation",),
        )
    )


def write(path: Path, page: Page) -> None:
    """Writes the page; what stood there before is replaced only once it is complete."""
    from weights.files.atomic import write_atomically

    content = page.html()
    write_atomically(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))

"""A report of benchmarks as a picture: a bar for each function, a panel for each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resattn.benchmarks.tables import describe_task, format_ms, format_ratio, name_function
from resattn.benchmarks.timings import BenchReport, Timing, ratio
from resattn.drawing.canvas import Canvas
from resattn.drawing.geometry import Position
from resattn.drawing.printing import check_drawn_suffix, png
from resattn.drawing.sizes import measure_text
from resattn.drawing.svg import MARGIN, make_document
from weights.errors import ArgumentError
from weights.files.atomic import write_atomically

CHART_SUFFIXES = (".svg", ".png")
DRAWN_PARTS = ("blocks", "networks", "training")
# The classes of `PALETTE` in which the bars of a framework are painted; others are grey.
COLOURS_OF = {"torch": "activation", "jax": "convolution", "tf": "normalization"}

COLUMNS, GUTTER, LINE_HEIGHT, BAR = 2, 36, 19, 11
NAMES, BARS, VALUES = 152, 190, 118  # the widths of the three parts of a panel
PANEL_TITLE, HEAD = 30, 62
MOST = 4.0  # longer bars are cut off, and the number says how long they are

CHART_TITLE = "Time of one call, as a multiple of ONNX Runtime's"
CHART_NOTE = (
    "Bars: median of the rounds; thin lines: from the first to the third quartile. Shorter is "
    "faster."
)


@dataclass(frozen=True)
class _Panel:
    """The timings of one task. base: the timing of length 1."""

    timings: Sequence[Timing]
    base: Timing

    @property
    def height(self) -> float:
        return PANEL_TITLE + LINE_HEIGHT * len(self.timings)


def chart(report: BenchReport, theme: str = "auto") -> str:
    """The picture as SVG. theme: "light", "dark", or "auto", which follows the page.

    Raises ArgumentError for a report without models.
    """
    panels = _list_panels(report)
    if not panels:
        raise ArgumentError(
            f"--picture: shows {', '.join(DRAWN_PARTS)}, and none of them was measured; add one to "
            "--groups"
        )
    canvas = Canvas()
    width, heights = NAMES + BARS + VALUES, [0.0] * COLUMNS
    for index, panel in enumerate(panels):
        column = index % COLUMNS
        _draw_panel(canvas, panel, (column * (width + GUTTER), heights[column]))
        heights[column] += panel.height + GUTTER / 2
    canvas.text(0, -HEAD, CHART_TITLE, "ink heading")
    canvas.text(0, -HEAD + 22, _explain(panels))
    panes = (width + GUTTER) * min(COLUMNS, len(panels)) - GUTTER
    right = max(panes, measure_text(_explain(panels)))
    bounds = (-MARGIN, -HEAD - MARGIN, right + MARGIN, max(heights))
    return make_document(canvas, (CHART_TITLE, _describe(panels)), bounds, theme)


def _explain(panels: Sequence[_Panel]) -> str:
    if all(panel.base.by == "onnxruntime" for panel in panels):
        return CHART_NOTE
    return f"{CHART_NOTE} Without ONNX Runtime: of the fastest."


def _describe(panels: Sequence[_Panel]) -> str:
    """The numbers in words."""
    return " ".join(
        f"{describe_task(panel.base)}: "
        + ", ".join(f"{name_function(t)} {format_ratio(ratio(t, panel.base))}"
                    for t in panel.timings) + "."
        for panel in panels
    )  # fmt: skip


def _list_panels(report: BenchReport) -> list[_Panel]:
    tasks: dict[tuple[str, ...], list[Timing]] = {}
    for timing in report.measured:
        if timing.part in DRAWN_PARTS:
            tasks.setdefault(timing.task, []).append(timing)
    found = []
    for timings in tasks.values():
        runtime = [timing for timing in timings if timing.by == "onnxruntime"]
        base = runtime[0] if runtime else min(timings, key=lambda timing: timing.median)
        found.append(_Panel(timings, base))
    return found


def _draw_panel(canvas: Canvas, panel: _Panel, at: Position) -> None:
    x, y = at
    first, start = panel.timings[0], x + NAMES
    usual = (first.device, first.form) == ("cpu", "float32")
    setting = "" if usual else f", {first.form} on {first.device}"
    canvas.text(x, y, f"{describe_task(first)}{setting}", "ink name")
    top = y + PANEL_TITLE - LINE_HEIGHT / 2
    bottom = top + LINE_HEIGHT * len(panel.timings)
    for number, timing in enumerate(panel.timings):
        _draw_bar(canvas, panel, timing, (start, top + LINE_HEIGHT * (number + 0.5)))
    one = start + BARS / MOST
    canvas.mark("path", "main", d=f"M {one:g} {top:g} V {bottom:g}", stroke_dasharray="3 3")


def _draw_bar(canvas: Canvas, panel: _Panel, timing: Timing, at: Position) -> None:
    """The name, the bar with its spread, and the numbers of one function."""
    x, y = at
    times = ratio(timing, panel.base)
    colour = COLOURS_OF.get(timing.framework if timing.by in _OWN else "", "stage")
    canvas.text(x - 8, y, name_function(timing), "ink", "end")
    length = BARS * min(times, MOST) / MOST
    canvas.mark("rect", colour, x=x, y=y - BAR / 2, width=length, height=BAR)
    ends = [each / timing.median * times for each in timing.quartiles]
    low, high = (x + BARS * min(each, MOST) / MOST for each in ends)
    if low < high:
        canvas.mark("path", "operation", d=f"M {low:g} {y:g} H {high:g}")
    if times > MOST:
        for shift in (-14, -9):
            slash = f"M {x + BARS + shift:g} {y + 0.8 * BAR:g} l 4 {-1.6 * BAR:g}"
            canvas.mark("path", "operation", d=slash)
    canvas.text(x + BARS + VALUES * 0.4, y, format_ratio(times), "ink", "end")
    canvas.text(x + BARS + VALUES, y, f"{format_ms(timing.median)} ms", "quiet", "end")


_OWN = ("plain", "deploy", "native")


def check_chart(target: Path) -> None:
    """Raises ArgumentError for the name of a file that is no picture of ours."""
    check_drawn_suffix(target, CHART_SUFFIXES)


def save_chart(report: BenchReport, target: Path) -> None:
    """Writes the picture in the format of the suffix of `target`; a .png is for a light page.

    Raises what `check_chart`, `chart`, `png` and `write_atomically` raise.
    """
    check_chart(target)
    if target.suffix.lower() == ".png":
        content = png(chart(report, "light"), 2)
    else:
        content = chart(report).encode()
    write_atomically(target, lambda temporary: temporary.write_bytes(content))

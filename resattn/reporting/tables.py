"""Tables of a page, and the plots of training runs with their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resattn.reporting.plots import Curves, plot_for_page
from resattn.reporting.rendering import trust
from weights.language import say

_MOST_STEPS = 500  # rows of a table of curves
_WIDE, _NARROW = 8.0, 3.7  # inches of a plot on a screen and on a phone


@dataclass(frozen=True)
class CellTable:
    """heads: of the columns. rows: of text. most: how many rows to show."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    most: int

    @property
    def hidden(self) -> int:
        """The number of rows that are not shown."""
        return max(len(self.rows) - self.most, 0)


def draw_plots(curves: Curves) -> dict[str, object]:
    """The plots of a page as SVG, for a screen and for a phone.

    Raises what `plot_for_page` raises.
    """
    return {
        "wide": trust(plot_for_page(curves, "wide", _WIDE)),
        "narrow": trust(plot_for_page(curves, "narrow", _NARROW)),
    }


def tabulate_curves(curves: Curves) -> CellTable:
    """The numbers of the curves, a row for each step; of many steps, evenly chosen ones and the
    last.
    """
    columns = [*((".7g", each) for each in curves.losses.values())]
    columns += [(".1e", each) for each in curves.apart.values()]
    heads = [
        say("step"),
        *(say("loss of {run}", run=name) for name in curves.losses),
        *curves.apart,
    ]
    shown = _choose_steps(len(curves.steps))
    rows = [
        (str(curves.steps[n]), *(_format_value(form, values, n) for form, values in columns))
        for n in shown
    ]
    return CellTable(heads, rows, len(rows))


def _choose_steps(count: int) -> list[int]:
    stride = -(-count // _MOST_STEPS)
    return [n for n in range(count) if (n + 1 - count) % stride == 0]


def _format_value(form: str, values: Sequence[float], place: int) -> str:
    return format(values[place], form) if place < len(values) else ""

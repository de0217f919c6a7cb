"""The heat map of a page: how far each quantity is from its limit, for each pair."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from resattn.checking.crosscheck import LIMIT
from resattn.reporting.wording import describe_cell, name_pair, name_quantity, say_times
from weights import Difference, Report
from weights.language import say

# The ends of the scale, in units of what rounding explains.
LEAST_TIMES, MOST_TIMES = 0.01, 100.0
_SHADES = 8  # of a cell that is within its limit


@dataclass(frozen=True)
class Cell:
    """The worst difference of a pair.

    value: the relative difference. times: in units of what rounding explains, in words. share, end:
    places on the scale, from 0 to 1, of the difference and of its limit. shade: 0 without a
    difference, 8 at the limit.
    """

    pair: str
    value: str
    times: str
    share: float
    end: float
    shade: int
    ok: bool
    details: str


@dataclass(frozen=True)
class HeatMap:
    """by_quantity: whether the rows are quantities, else configurations. rows: the name of each,
    and a cell for each of `pairs`, or None.
    """

    by_quantity: bool
    pairs: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]


def map_errors(reports: Mapping[str, Report]) -> HeatMap | None:
    """One row for each configuration, or for each quantity if there is one configuration; one
    column for each pair. None if nothing was compared.
    """
    every = [row for report in reports.values() for row in report.rows]
    pairs = {(row.actual, row.expected): name_pair(row) for row in every}
    if not pairs:
        return None
    rows = []
    for name, found in _list_rows(reports, every).items():
        worst: dict[tuple[str, str], Difference] = {}
        for row in sorted(found, key=lambda row: row.excess):
            worst[row.actual, row.expected] = row
        cells = (_make_cell(worst[pair]) if pair in worst else None for pair in pairs)
        rows.append((name, tuple(cells)))
    return HeatMap(len(reports) == 1, tuple(pairs.values()), tuple(rows))


def place_on_scale(times: float) -> float:
    """Where a multiple of what rounding explains is on the logarithmic scale, from 0 to 1."""
    if times <= LEAST_TIMES:
        return 0.0
    decades = math.log10(MOST_TIMES / LEAST_TIMES)
    return min(math.log10(times / LEAST_TIMES) / decades, 1.0)


def _list_rows(
    reports: Mapping[str, Report], every: list[Difference]
) -> dict[str, list[Difference]]:
    if len(reports) > 1:
        return {
            f"{name}, {dtype}": report.select(dtype=dtype)
            for name, report in reports.items()
            for dtype in report.dtypes
        }
    found: dict[str, list[Difference]] = {}
    for row in every:
        name = name_quantity(row.quantity)
        if row.dtype:
            name = say("{quantity}, {dtype}", quantity=name, dtype=row.dtype)
        found.setdefault(name, []).append(row)
    return found


def _make_cell(row: Difference) -> Cell:
    limit = row.tolerance / row.explained if row.explained else float(LIMIT)
    times = row.times if row.explained else LIMIT * row.excess
    share, end = place_on_scale(times), place_on_scale(limit)
    words = say_times(row) if row.explained else ""
    return Cell(
        pair=name_pair(row),
        value="0" if row.relative == 0 else f"{row.relative:.0e}",
        times=words if row.relative else say("equal"),
        share=share,
        end=end,
        shade=round(min(share / end, 1.0) * _SHADES) if end else _SHADES,
        ok=row.ok,
        details=describe_cell(row),
    )

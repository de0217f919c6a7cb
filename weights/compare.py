"""Differences of arrays, and a report of them. NumPy only."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from weights.distribution import Agreement, Distribution, tabulate
from weights.errors import ArgumentError
from weights.language import count_cells, in_english, say


@dataclass(frozen=True)
class Difference:
    """The greatest difference between two versions of one tensor.

    quantity: what kind of tensor ("eval output", "train gradient", ...). tensor: which. actual,
        expected: whose.
    absolute: the greatest absolute difference. relative: that over `scale`, the greatest magnitude
        of the reference.
    index: where, one number for each of `axes`.
    distance: the root mean square of all differences, over `scale`.
    explained: how far rounding alone could take them apart, as a distance; None if it was not
        measured.
    tolerance: for the distance where `explained` is known, else for the relative difference.
    dtype: the format of the computation, "" if it does not matter.
    """

    quantity: str
    tensor: str
    actual: str
    expected: str
    absolute: float
    relative: float
    index: tuple[int, ...]
    axes: str
    tolerance: float
    distance: float = 0.0
    explained: float | None = None
    dtype: str = ""

    @property
    def ok(self) -> bool:
        return self.excess <= 1

    @property
    def excess(self) -> float:
        """The judged difference in units of the tolerance: over 1 is over."""
        judged = self.relative if self.explained is None else self.distance
        return _ratio(judged, self.tolerance)

    @property
    def times(self) -> float:
        """How many times as large as what rounding explains the distance is; 0 if not measured."""
        return 0.0 if self.explained is None else _ratio(self.distance, self.explained)

    @property
    def place(self) -> str:
        return f"({', '.join(map(str, self.index))})"

    def __str__(self) -> str:
        found = say(
            "{quantity} {tensor}, {actual} against {expected}: greatest difference "
            "{absolute:.2e}, relative {relative:.2e} at {place} ({axes})",
            **{**vars(self), "quantity": say(self.quantity), "place": self.place},
        )
        if self.explained is None:
            relation = say("within the tolerance") if self.ok else say("OVER the tolerance")
            limit = f"{self.tolerance:.0e}"
            return say("{found}, {relation} {limit}", found=found, relation=relation, limit=limit)
        limit = format_times(_ratio(self.tolerance, self.explained))
        relation = (
            say("within the limit of {limit}", limit=limit)
            if self.ok
            else say("OVER the limit of {limit}", limit=limit)
        )
        return say(
            "{found}; root mean square {distance:.1e}, {times} what rounding to {dtype} explains, "
            "{relation}",
            found=found,
            distance=self.distance,
            times=format_times(self.times),
            dtype=self.dtype,
            relation=relation,
        )


def format_times(times: float) -> str:
    """A factor, as in "0.42 times" or "3e+09 times"."""
    return say("{factor} times", factor=format_factor(times))


def format_factor(times: float) -> str:
    return f"{times:.2f}" if times < 1000 else f"{times:.0e}"


def _ratio(part: float, whole: float) -> float:
    if whole > 0:
        return part / whole if np.isfinite(whole) else 0.0
    return float("inf") if part > 0 else 0.0


def difference(
    actual: np.ndarray,
    expected: np.ndarray,
    *,
    tolerance: float,
    scale: float | None = None,
    quantity: str = "array",
    tensor: str = "",
    names: tuple[str, str] = ("actual", "expected"),
    axes: str = "",
    explained: float | None = None,
    dtype: str = "",
) -> Difference:
    """Where and how far two arrays differ most.

    scale: what the relative difference is relative to; by default the greatest magnitude of
    `expected`. A value that is not finite differs infinitely from every other value.
    explained: the root mean square of the differences that rounding explains, absolute. With it,
    the tolerance is the factor by which they may be greater.
    Raises ArgumentError when the shapes differ or the arrays are empty.
    """
    if actual.shape != expected.shape:
        raise ArgumentError(
            f"{f'{quantity} {tensor}'.strip()}: {names[0]} has shape {actual.shape}, {names[1]} "
            f"{expected.shape}"
        )
    if actual.size == 0:
        raise ArgumentError(
            f"{f'{quantity} {tensor}'.strip()}: empty arrays of shape {actual.shape} cannot be "
            "compared"
        )
    wide, reference = actual.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        distance = np.abs(wide - reference)
    distance[~(np.isfinite(wide) & np.isfinite(reference))] = np.inf
    position = np.unravel_index(int(distance.argmax()), distance.shape)
    absolute = float(distance[position])
    scale = float(np.abs(reference).max()) if scale is None else scale
    if explained is not None and scale == 0:
        scale = 1.0  # nothing but rounding: absolute numbers
    measurable = scale > 0 and np.isfinite(scale)

    def over_scale(size: float) -> float:
        return 0.0 if size == 0 else size / scale if measurable else float("inf")

    relative, spread = over_scale(absolute), over_scale(float(np.sqrt(np.square(distance).mean())))
    known = None if explained is None else over_scale(explained)
    limit = tolerance if known is None else tolerance * known
    place = tuple(map(int, position))
    found = (quantity, tensor, *names, absolute, relative, place, axes, limit)
    return Difference(*found, spread, known, dtype)


@dataclass(frozen=True)
class Report:
    """The outcome of a comparison. `print(report)` shows it.

    rows: the differences. environment: the versions. notes: other things that matter. undefined:
    why there is nothing to compare, where the numbers are not finite; else "". distributions: of
    the errors of each quantity. agreements: of classifiers, on images of the user.

    Where there are rows in float64, they decide whether two models are the same function: there the
    smallest real mistake is much greater than the greatest rounding error. Rows in lower formats
    say how precise each framework is.
    """

    title: str
    rows: tuple[Difference, ...]
    environment: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    undefined: str = ""
    distributions: tuple[Distribution, ...] = ()
    agreements: tuple[Agreement, ...] = ()

    @property
    def ok(self) -> bool:
        """True when something was compared and nothing that decides is over its tolerance."""
        return bool(self.rows) and not self.undefined and not self.failures

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The formats of the computations."""
        return tuple(dict.fromkeys(row.dtype for row in self.rows if row.dtype))

    def decides(self, row: Difference) -> bool:
        """Whether a row decides if two models are the same function.

        Rows in a lower format do where a framework has none in float64.
        """
        return row.dtype in ("", "float64") or row.actual not in self._computed_in_float64

    @cached_property
    def _computed_in_float64(self) -> set[str]:
        return {row.actual for row in self.rows if row.dtype == "float64"}

    @property
    def failures(self) -> tuple[Difference, ...]:
        """The deciding differences over their tolerance, the worst first."""
        return _worst_first(row for row in self.rows if self.decides(row) and not row.ok)

    @property
    def imprecise(self) -> tuple[Difference, ...]:
        """The other differences over their tolerance, the worst first."""
        return _worst_first(row for row in self.rows if not self.decides(row) and not row.ok)

    def select(self, **where: str) -> list[Difference]:
        """The rows whose fields equal `where`."""
        return [
            row
            for row in self.rows
            if all(getattr(row, name) == value for name, value in where.items())
        ]

    def worst(self, **where: str) -> Difference:
        """The row nearest to its tolerance (or farthest over it) among those of `select`.

        `report.worst(quantity="eval output", actual="torch cpu")`. Raises ArgumentError when there
        is none.
        """
        rows = self.select(**where)
        if not rows:
            raise ArgumentError(f"the report has no row with {where}")
        return max(rows, key=lambda row: row.excess)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "title": in_english(self.title),
            "ok": self.ok,
            "undefined": in_english(self.undefined),
            "environment": list(self.environment),
            "notes": in_english(list(self.notes)),
            "distributions": [_plain_fields(each) for each in self.distributions],
            "agreements": [_plain_fields(each) for each in self.agreements],
            "rows": [
                {**plain_values(row), "decides": self.decides(row), "times": _plain(row.times)}
                for row in self.rows
            ],
        }

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        verdict = "ok" if self.ok else _count(len(self.failures), "failure")
        return f"<Report: {verdict}, {_count(len(self.rows), 'comparison')}; {self.title}>"

    def lines(self, every: bool = False, failures: int = 10, width: int | None = None) -> list[str]:
        """The report as text: the worst row of each quantity, or every row; then the failures.

        width: of the tables, in characters; by default as wide as they are.
        """
        return [line for line, _ in self.styled_lines(every, failures, width)]

    def styled_lines(
        self, every: bool = False, failures: int = 10, width: int | None = None
    ) -> Iterator[tuple[str, str]]:
        """The same, each line with its kind, "bad", "good" or ""."""
        yield self.title, ""
        yield from ((f"  {line}", "") for line in self.environment)
        yield "", ""
        for dtype in self.dtypes or ("",):
            yield from self._heading(dtype)
            yield from self._style_table(dtype, every, width)
            yield "", ""
        if every and self.distributions:
            yield say("errors over the greatest magnitude: quantiles, and by magnitude:"), ""
            yield from ((line, "") for line in columns(tabulate(self.distributions), width))
            yield "", ""
        over = self.failures
        yield self.verdict(), "good" if self.ok else "bad"
        yield from ((f"  {row}", "bad") for row in over[:failures])
        if len(over) > failures:
            yield say("  and {count} more", count=len(over) - failures), ""
        for dtype in dict.fromkeys(row.dtype for row in self.rows if not self.decides(row)):
            yield self.precision(dtype), ""
            rows = [row for row in self.imprecise[:failures] if row.dtype == dtype]
            yield from ((f"  {row}", "bad") for row in rows)
        yield from ((str(each), "") for each in self.agreements)
        yield from ((say("note: {note}", note=note), "") for note in self.notes)

    def verdict(self) -> str:
        """Whether the models are the same function, in a sentence."""
        if self.undefined:
            return say("FAILED: {reason}", reason=self.undefined)
        rows, over = [row for row in self.rows if self.decides(row)], self.failures
        if not rows:
            return say("FAILED: nothing was compared.")
        if not self.dtypes:
            if over:
                return say(
                    "FAILED: {over} of {count} comparisons are over their tolerance.",
                    over=len(over),
                    count=len(rows),
                )
            return say("All {count} comparisons are within their tolerance.", count=len(rows))
        dtype = " and ".join(dict.fromkeys(row.dtype for row in rows if row.dtype))
        if "float64" not in self.dtypes:
            return self._conclude_alone(len(over), len(rows), dtype)
        if over:
            return say(
                "FAILED: not the same function: {over} of {count} comparisons in {dtype} are "
                "over what rounding explains.",
                over=len(over),
                count=len(rows),
                dtype=dtype,
            )
        return say(
            "The same function: all {count} comparisons in {dtype} are within what rounding "
            "explains.",
            count=len(rows),
            dtype=dtype,
        )

    def _conclude_alone(self, over: int, count: int, dtype: str) -> str:
        """The verdict where there is nothing in float64."""
        if over:
            return say(
                "FAILED: not the same function (as far as {dtype} can tell): {over} of {count} "
                "comparisons in {dtype} are over what rounding explains.",
                dtype=dtype,
                over=over,
                count=count,
            )
        return say(
            "The same function (as far as {dtype} can tell): all {count} comparisons in "
            "{dtype} are within what rounding explains.",
            dtype=dtype,
            count=count,
        )

    def precision(self, dtype: str) -> str:
        """How precise each framework is in a format that does not decide, in a sentence."""
        rows = [row for row in self.select(dtype=dtype) if not self.decides(row)]
        over = [row for row in rows if not row.ok]
        names = dict.fromkeys(row.actual for row in rows)
        reference = rows[0].expected
        each = (
            f"{name} {format_times(self.worst(dtype=dtype, actual=name, expected=reference).times)}"
            for name in names
        )
        figures = ", ".join(each)
        if over:
            return say(
                "In {dtype}, {over} of {count} comparisons are less precise than rounding "
                "explains ({figures} at most). That alone is no failure.",
                dtype=dtype,
                over=len(over),
                count=len(rows),
                figures=figures,
            )
        return say(
            "In {dtype}, all are as precise as rounding allows: {figures} at most what it "
            "explains.",
            dtype=dtype,
            figures=figures,
        )

    def _heading(self, dtype: str) -> Iterator[tuple[str, str]]:
        if dtype and "float64" not in self.dtypes:
            yield f"{dtype}:", ""
        elif dtype == "float64":
            yield say("{dtype}, which decides whether they are the same function:", dtype=dtype), ""
        elif dtype:
            yield say("{dtype}, which shows how precise each is:", dtype=dtype), ""

    def _style_table(self, dtype: str, every: bool, width: int | None) -> Iterator[tuple[str, str]]:
        shown = self._list_shown(dtype, every)
        lines = columns(_tabulate_rows(shown, bool(dtype), every), width, _SPARE)
        styles = ("", *("" if row.ok else "bad" for row in shown))
        yield from zip(lines, styles, strict=True)

    def _list_shown(self, dtype: str, every: bool) -> list[Difference]:
        """The rows of a format, those without one beside the first."""
        found = [
            row
            for row in self.rows
            if row.dtype == dtype or (not row.dtype and dtype == self.dtypes[0])
        ]
        if every:
            return found
        return [
            max((row for row in found if row.quantity == quantity), key=lambda row: row.excess)
            for quantity in dict.fromkeys(row.quantity for row in found)
        ]


def _tabulate_rows(rows: Iterable[Difference], derived: bool, every: bool) -> list[tuple[str, ...]]:
    """derived: whether the limits are derived from what rounding explains."""
    heads = (
        *(say("quantity"), say("relative"), say("absolute")),
        *(say("x rounding") if derived else say("tolerance"), "", say("worst tensor")),
        *(say("at"), say("between")),
    )
    return [
        heads,
        *(
            (
                say(row.quantity),
                f"{row.relative:.1e}",
                f"{row.absolute:.1e}",
                _describe_limit(row, derived),
                say("ok") if row.ok else say("OVER"),
                row.tensor if row.absolute or every else say("all equal"),
                row.place if row.absolute else "",
                say("{one} and {other}", one=row.actual, other=row.expected),
            )
            for row in rows
        ),
    ]


def _describe_limit(row: Difference, derived: bool) -> str:
    if not derived:
        return f"{row.tolerance:.0e}"
    return "" if row.explained is None else format_factor(row.times)


def _worst_first(rows: Iterable[Difference]) -> tuple[Difference, ...]:
    return tuple(sorted(rows, key=lambda row: row.excess, reverse=True))


def plain_values(row: Difference) -> dict[str, Any]:
    """A row as plain values; infinities, which JSON does not have, as strings."""
    return _plain_fields(row) | {"ok": row.ok}


def _plain_fields(held: Difference | Distribution | Agreement) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(held).items()}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    value = in_english(value)
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


_SPARE = (2, 6, 7)  # columns of `Report._table` that a narrow terminal does without
_LEAST_CELL = 12  # characters of a cell that is cut


def columns(
    table: Sequence[tuple[str, ...]], width: int | None = None, spare: Sequence[int] = ()
) -> Iterable[str]:
    """The lines of a table of text, its columns aligned.

    width: of a line, by default any. A wider table goes without the columns `spare`, the first one
    first, as far as it must; then the widest cells are cut in the middle.
    """
    if width is not None:
        table = _narrow(table, width, spare)
    sizes = _sizes(table)
    for row in table:
        cells = (
            cell + " " * (size - count_cells(cell)) for cell, size in zip(row, sizes, strict=True)
        )
        yield "  " + "  ".join(cells).rstrip()


def _sizes(table: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(map(count_cells, column)) for column in zip(*table, strict=True)]


def _narrow(
    table: Sequence[tuple[str, ...]], width: int, spare: Sequence[int]
) -> list[tuple[str, ...]]:
    sizes = _sizes(table)
    kept = list(range(len(sizes)))
    for place in spare:
        if sum(2 + sizes[each] for each in kept) > width:
            kept.remove(place)
    rows = [tuple(row[place] for place in kept) for row in table]
    left = [sizes[place] for place in kept]
    widest = left.index(max(left))
    room = max(_LEAST_CELL, max(left) - max(0, sum(left) + 2 * len(left) - width))
    return [
        tuple(cut_middle(cell, room) if place == widest else cell for place, cell in enumerate(row))
        for row in rows
    ]


def cut_middle(cell: str, room: int) -> str:
    """A name without its middle, of which the end says most. room: in characters."""
    head = (room - 1) // 3
    return cell if len(cell) <= room else f"{cell[:head]}…{cell[len(cell) - (room - 1 - head) :]}"

"""Differences of arrays, and a report of them. NumPy only."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from weights.errors import ArgumentError


@dataclass(frozen=True)
class Difference:
    """The greatest difference between two versions of one tensor.

    quantity: what kind of tensor ("eval output", "train gradient", ...). tensor: which. actual,
        expected: whose.
    absolute: the greatest absolute difference. relative: that over `scale`, the greatest magnitude
        of the reference.
    index: where, one number for each of `axes`. tolerance: for the relative difference.
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

    @property
    def ok(self) -> bool:
        return self.relative <= self.tolerance

    @property
    def excess(self) -> float:
        """The relative difference in units of the tolerance: over 1 is over."""
        if self.tolerance > 0:
            return self.relative / self.tolerance
        return float("inf") if self.relative > 0 else 0.0

    @property
    def place(self) -> str:
        return f"({', '.join(map(str, self.index))})"

    def __str__(self) -> str:
        relation = "within" if self.ok else "OVER"
        return (
            f"{self.quantity} {self.tensor}, {self.actual} against {self.expected}: greatest "
            f"difference {self.absolute:.2e}, relative {self.relative:.2e} at {self.place} "
            f"({self.axes}), {relation} the tolerance {self.tolerance:.0e}"
        )


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
) -> Difference:
    """Where and how far two arrays differ most.

    scale: what the relative difference is relative to; by default the greatest magnitude of
    `expected`. A value that is not finite differs infinitely, whatever stands on the other side.
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
    measurable = scale > 0 and np.isfinite(scale)
    relative = 0.0 if absolute == 0 else absolute / scale if measurable else float("inf")
    return Difference(
        quantity, tensor, *names, absolute, relative, tuple(map(int, position)), axes, tolerance
    )


@dataclass(frozen=True)
class Report:
    """The outcome of a comparison: `ok`, the differences, and what was compared. `print(report)`
    shows it.
    """

    title: str
    rows: tuple[Difference, ...]
    environment: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """True when something was compared and nothing is over its tolerance."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def failures(self) -> tuple[Difference, ...]:
        """The differences over their tolerance, the worst first."""
        over = (row for row in self.rows if not row.ok)
        return tuple(sorted(over, key=lambda row: row.excess, reverse=True))

    def worst(self, **where: str) -> Difference:
        """The row nearest to its tolerance (or farthest over it) among those whose fields equal
        `where`.

        `report.worst(quantity="eval output", actual="torch cpu")`. Raises ArgumentError when there
        is none.
        """
        rows = [
            row
            for row in self.rows
            if all(getattr(row, name) == value for name, value in where.items())
        ]
        if not rows:
            raise ArgumentError(f"the report has no row with {where}")
        return max(rows, key=lambda row: row.excess)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = [{**asdict(row), "ok": row.ok} for row in self.rows]
        for row in rows:  # JSON has no infinity
            row |= {
                name: str(row[name])
                for name in ("absolute", "relative")
                if not np.isfinite(row[name])
            }
        return {
            "title": self.title,
            "ok": self.ok,
            "environment": list(self.environment),
            "notes": list(self.notes),
            "rows": rows,
        }

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, every: bool = False, failures: int = 10) -> list[str]:
        """The report as text: the worst row of each quantity, or every row; then the failures."""
        quantities = list(dict.fromkeys(row.quantity for row in self.rows))
        rows = self.rows if every else [self.worst(quantity=quantity) for quantity in quantities]
        table = [
            ("quantity", "relative", "absolute", "tolerance", "", "worst tensor", "at", "between"),
            *(
                (
                    row.quantity,
                    f"{row.relative:.1e}",
                    f"{row.absolute:.1e}",
                    f"{row.tolerance:.0e}",
                    "ok" if row.ok else "OVER",
                    row.tensor if row.absolute or every else "all equal",
                    row.place if row.absolute else "",
                    f"{row.actual} and {row.expected}",
                )
                for row in rows
            ),
        ]
        lines = [self.title, *(f"  {line}" for line in self.environment), "", *columns(table), ""]
        over = self.failures
        if over:
            lines += [
                f"FAILED: {len(over)} of {len(self.rows)} comparisons are over their tolerance."
            ]
            lines += [f"  {row}" for row in over[:failures]]
            lines += [f"  and {len(over) - failures} more" for _ in [0] if len(over) > failures]
        elif self.rows:
            lines += [f"All {len(self.rows)} comparisons are within their tolerance."]
        else:
            lines += ["FAILED: nothing was compared."]
        return [*lines, *(f"note: {note}" for note in self.notes)]


def columns(table: Sequence[tuple[str, ...]]) -> Iterable[str]:
    """The lines of a table of text, its columns aligned."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        yield (
            "  "
            + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )

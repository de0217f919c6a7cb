"""What the pages call things: backends, quantities, modes, and how far a difference is from its
limit.
"""

from __future__ import annotations

from collections.abc import Sequence

from weights import Difference, Report
from weights.language import say

_LABELS = {"torch": "PyTorch", "jax": "Flax", "tf": "Keras"}


def name_backend(name: str) -> str:
    """The label of a backend, as in "torch cuda", or of a run of `drift`, as in "torch on 2". Other
    models keep their names.
    """
    framework, _, device = name.partition(" ")
    if name == "oracle":
        return say("NumPy oracle")
    if framework not in _LABELS:
        return name
    label = _LABELS[framework]
    if device.startswith("on "):
        return say("{framework} on {count}", framework=label, count=device.removeprefix("on "))
    return f"{label} ({device.upper()})" if device not in ("", "cpu") else label


def name_pair(row: Difference) -> str:
    """The two that a difference is between."""
    return say("{one} and {other}", one=name_backend(row.actual), other=name_backend(row.expected))


def name_quantity(quantity: str) -> str:
    words = {
        "weights": say("weights, read back"),
        "eval output": say("output in evaluation"),
        "eval gradient": say("gradients in evaluation"),
        "train output": say("output in training"),
        "train statistics": say("running statistics after a training step"),
        "train gradient": say("gradients in training"),
    }
    return words.get(quantity, quantity)


def name_mode(mode: str) -> str:
    return {"eval": say("evaluation"), "train": say("training")}[mode]


def join_words(words: Sequence[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return say("{all_but_last} and {last}", all_but_last=", ".join(words[:-1]), last=words[-1])


def describe_limit(row: Difference) -> str:
    """How a difference relates to its limit, as the end of a sentence."""
    if row.explained is None:
        return say("; {tolerance:.0e} is allowed", tolerance=row.tolerance)
    return say(
        ", {times} what the rounding of {dtype} explains",
        times=say_times(row),
        dtype=row.dtype,
    )


def say_times(row: Difference) -> str:
    """How many times as large as what rounding explains a difference is."""
    return say("{number} times", number=_format_times(row))


def _format_times(row: Difference) -> str:
    return f"{row.times:.2f}" if row.times < 1000 else f"{row.times:.0e}"


def describe_output(report: Report, dtype: str) -> str:
    """The greatest difference of an output in a format, as a sentence; "" if there is none."""
    rows = report.select(dtype=dtype, quantity="eval output")
    if not rows:
        return ""
    worst = max(rows, key=lambda row: row.relative)
    part = say("equal to the last bit")
    if worst.relative > 0:
        part = say("1 part in {number}", number=_round_number(1 / worst.relative))
    return say(
        "In {dtype}, the greatest difference of an output is {relative:.1e} of its greatest "
        "magnitude ({part}), between {pair}{limit}.",
        dtype=dtype,
        relative=worst.relative,
        part=part,
        pair=name_pair(worst),
        limit=describe_limit(worst),
    )


def _round_number(number: float) -> str:
    for size, sentence in (
        (1e15, say("{count:.0f} quadrillion")),
        (1e12, say("{count:.0f} trillion")),
        (1e9, say("{count:.0f} billion")),
        (1e6, say("{count:.0f} million")),
    ):
        if number >= size:
            return sentence.format(count=number / size)
    return f"{number:,.0f}"


def describe_cell(row: Difference) -> str:
    """All that is known of a difference, as one line."""
    return say(
        "{quantity}, {tensor}, {pair}: greatest difference {absolute:.2e}, relative "
        "{relative:.2e} at {place} ({axes}){limit}{over}",
        quantity=name_quantity(row.quantity),
        tensor=row.tensor,
        pair=name_pair(row),
        absolute=row.absolute,
        relative=row.relative,
        place=row.place,
        axes=row.axes,
        limit=describe_limit(row),
        over="" if row.ok else say(", OVER the limit"),
    )


def list_column_heads() -> tuple[str, ...]:
    """Of the cells that `list_cells` gives. What is seen first on a phone comes first."""
    return (
        say("tensor"),
        say("relative"),
        say("x rounding"),
        say("quantity"),
        say("between"),
        say("format"),
        say("at"),
    )


def list_cells(row: Difference) -> tuple[str, ...]:
    """A difference as the cells of a table."""
    return (
        row.tensor,
        f"{row.relative:.1e}",
        "" if row.explained is None else _format_times(row),
        say(row.quantity),
        name_pair(row),
        row.dtype,
        row.place,
    )

"""A card as Markdown, for the page of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from resattn.checking.card import Card
from weights.compare import format_factor

# What has a meaning in Markdown or HTML. An underscore within a word has none.
_MARKS = re.compile(r"[\\`*\[\]<>|#&~]|(?<![^\W_])_|_(?![^\W_])")


def to_markdown(card: Card) -> str:
    """The card as a page: the verdict, the distances, the classes, versions, hashes, the command.

    What the card says of a file stands in code spans and table cells, where it is shown as it is.
    """
    sections = [
        [f"# Check of {_plain_text(card.network)}"],
        [f"**{_plain_text(card.verdict)}**"],
        [f"- {_plain_text(each)}" for each in card.failures],
        [_say_how(card)],
        _distances(card),
        _classes(card),
        [f"- {_plain_text(each)}" for each in card.notes],
        ["## Environment"],
        [f"- {_plain_text(each)}" for each in card.environment],
        ["## Hashes (SHA-256)"],
        _hashes(card),
        ["## The command that repeats it"],
        [f"    {card.command}"],
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _say_how(card: Card) -> str:
    frameworks = dict.fromkeys(row.framework for row in card.rows)
    held = (
        "the weights of the file to the last bit" if card.exact else "OTHER weights than the file"
    )
    told = f"Each framework ({', '.join(frameworks)}) held {held}. " if frameworks else ""
    others = ", and with each other" if len(frameworks) > 1 else ""
    return (
        f"{told}Compared with a NumPy oracle in float64{others}: output and gradients in "
        "evaluation and in training, and the running statistics after a training step, on "
        f"{_plain_text(card.images)}."
    )


def _distances(card: Card) -> list[str]:
    if not card.rows:
        return []
    head = ("framework", "format", "output", "worst distance", "explained", "times", "limit")
    rows = [
        (
            row.framework,
            f"{row.dtype}, decides" if row.decides else row.dtype,
            _number(row.output),
            _number(row.distance),
            _number(row.explained),
            _times(row.times),
            "not finite" if row.limit is None else f"{row.limit:.3g}",
            row.tensor,
            "ok" if row.ok else "OVER",
        )
        for row in card.rows
    ]
    return [
        *_table((*head, "in", ""), rows),
        "",
        "Output: the greatest difference of the output in evaluation from that of the oracle, over "
        "its greatest magnitude. Worst distance: the root mean square of the differences of a "
        "tensor, over its greatest magnitude, for the tensor nearest to its limit. Explained: the "
        "distance that the rounding of the format alone explains. Times: the first over the "
        "second, which must be at most the limit.",
    ]


def _classes(card: Card) -> list[str]:
    if not card.agreements:
        return []
    head = ("framework", "format", "same top-1 class", "same top-5 classes")
    rows = [
        (
            each.framework,
            each.dtype,
            f"{each.first} of {each.images} images",
            f"{each.five} of {each.images} images",
        )
        for each in card.agreements
    ]
    return _table(head, rows)


def _hashes(card: Card) -> list[str]:
    what = f"{card.arrays:,} arrays, {card.numbers:,} numbers, {', '.join(card.dtypes)}"
    lines = [f"- weights ({_plain_text(what)}; the same in every format): `{card.weights_sha256}`"]
    if card.file_sha256 is not None:
        lines.append(f"- file {_plain_text(card.file)}: `{card.file_sha256}`")
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = (f"| {' | '.join(map(_plain_text, row))} |" for row in (head, *rows))
    first, *rest = lines
    return [first, f"|{' --- |' * len(head)}", *rest]


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"


def _times(value: float | None) -> str:
    return "not finite" if value is None else format_factor(value)


def _plain_text(text: str) -> str:
    """The text without a meaning in Markdown or HTML."""
    return _MARKS.sub(r"\\\g<0>", text)

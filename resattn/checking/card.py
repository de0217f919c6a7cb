"""A card: what a cross-check of a weights file found, to be published with the weights.

It is no signature: somebody who changes the weights can also write another card. It says which
weights it is about (by a hash), what was measured, and the command that measures it again.
"""

from __future__ import annotations

import json
import platform
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self, TypeVar

import numpy as np

from resattn.checking.crosscheck import LIMIT, ORACLE
from resattn.checking.tolerances import QUANTITIES
from weights import Difference, Report
from weights.checks import at_least, is_number, quote, truth
from weights.config import Config
from weights.errors import ArgumentError
from weights.fields import Checked, Plain, parse_json
from weights.fingerprint import fingerprint_weights
from weights.language import in_english

CARD_VERSION = 1
_LONGEST = 2000  # characters of a text
_MOST = 200  # entries of a list
_FAILURES = 5  # that a card lists
_COUNT = 2**63

Listed = TypeVar("Listed")


def _line(name: str, value: object) -> str:
    """A text of one line that prints as it is: what a card says is shown among lines of ours."""
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise ArgumentError(
            f"{name}: expected one line of at most {_LONGEST:,} characters that print, got "
            f"{quote(value, 60)}"
        )
    return value


def _digest(name: str, value: object) -> str:
    if (
        not isinstance(value, str)
        or len(value) != 64
        or not set(value) <= set(string.hexdigits.lower())
    ):
        raise ArgumentError(
            f"{name}: expected the 64 hexadecimal digits of a SHA-256, got {quote(value, 80)}"
        )
    return value


def _digest_or_none(name: str, value: object) -> str | None:
    return None if value is None else _digest(name, value)


def _amount(name: str, value: object) -> float | None:
    """A number of at least 0. None stands for NaN and infinity, which JSON does not have."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None
    if not is_number(value) or value < 0:
        raise ArgumentError(
            f"{name}: expected a number of at least 0, or none where it is not finite, got "
            f"{quote(value)}"
        )
    return float(value)


def _list_of(convert: Callable[[str, Any], Listed], name: str, value: object) -> tuple[Listed, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > _MOST:
        raise ArgumentError(
            f"{name}: expected a list of at most {_MOST} entries, got {quote(value, 100)}"
        )
    return tuple(convert(name, each) for each in value)


def _made_by(kind: type[Plain], name: str, value: object) -> Any:
    """An object of the class, which may come as plain values."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise ArgumentError(f"{name}: expected objects, got {quote(value, 100)}")
    try:
        return kind.from_dict(value)
    except ArgumentError as error:
        raise ArgumentError(f"{name}: {error}") from None


_count = partial(at_least, least=0, limit=_COUNT)
_lines = partial(_list_of, _line)


@dataclass(frozen=True)
class CardRow(Plain):
    """One framework against the oracle in one format: the tensor that is nearest to its limit.

    output: the greatest difference of the output in evaluation, over its greatest magnitude.
    distance: the root mean square of the tensor's differences, over its magnitude. explained: the
    distance that rounding alone explains. times: the first over the second. limit: the most times
    that are allowed. tensor: its quantity and name. ok: whether all tensors, `compared` many, are
    within their limits. decides: whether this format decides if it is the same function.
    """

    framework: Checked[str, str] = Checked(_line)
    dtype: Checked[str, str] = Checked(_line)
    output: Checked[float | None, float | None] = Checked(_amount)
    distance: Checked[float | None, float | None] = Checked(_amount)
    explained: Checked[float | None, float | None] = Checked(_amount)
    times: Checked[float | None, float | None] = Checked(_amount)
    limit: Checked[float | None, float | None] = Checked(_amount)
    tensor: Checked[str, str] = Checked(_line)
    compared: Checked[int, int] = Checked(_count)
    ok: Checked[bool, bool] = Checked(truth)
    decides: Checked[bool, bool] = Checked(truth)


@dataclass(frozen=True)
class CardAgreement(Plain):
    """Whether a framework finds the classes of the oracle: of how many images the most likely one
    is the same, and of how many the five most likely ones, in any order.
    """

    framework: Checked[str, str] = Checked(_line)
    dtype: Checked[str, str] = Checked(_line)
    images: Checked[int, int] = Checked(_count)
    first: Checked[int, int] = Checked(_count)
    five: Checked[int, int] = Checked(_count)


@dataclass(frozen=True)
class Card(Plain):
    """What a cross-check of a weights file found.

    network: what it is, in words. file: the name of the file. file_sha256: of its bytes; None for a
    card inside of the file, and for a folder. weights_sha256: of the canonical arrays, as
    `weights.fingerprint` computes it. arrays, numbers: how many. dtypes: of the arrays.
    ok, verdict: what was found. exact: whether each framework held the same weights to the last
    bit. failures: the worst comparisons that failed, in words. images: the input, in words.
    command: what repeats the check. environment: versions, a line each. agreements: none for a
    model without classes.
    Raises ArgumentError, naming the field, what was expected and what came.
    """

    version: Checked[int, int] = Checked(partial(at_least, least=1))
    network: Checked[str, str] = Checked(_line)
    file: Checked[str, str] = Checked(_line)
    file_sha256: Checked[str | None, str | None] = Checked(_digest_or_none)
    weights_sha256: Checked[str, str] = Checked(_digest)
    arrays: Checked[int, int] = Checked(_count)
    numbers: Checked[int, int] = Checked(_count)
    dtypes: Checked[tuple[str, ...], tuple[str, ...]] = Checked(_lines)
    ok: Checked[bool, bool] = Checked(truth)
    verdict: Checked[str, str] = Checked(_line)
    exact: Checked[bool, bool] = Checked(truth)
    failures: Checked[tuple[str, ...], tuple[str, ...]] = Checked(_lines)
    images: Checked[str, str] = Checked(_line)
    command: Checked[str, str] = Checked(_line)
    environment: Checked[tuple[str, ...], tuple[str, ...]] = Checked(_lines)
    notes: Checked[tuple[str, ...], tuple[str, ...]] = Checked(_lines)
    rows: Checked[tuple[CardRow, ...], tuple[CardRow, ...]] = Checked(
        partial(_list_of, partial(_made_by, CardRow))
    )
    agreements: Checked[tuple[CardAgreement, ...], tuple[CardAgreement, ...]] = Checked(
        partial(_list_of, partial(_made_by, CardAgreement))
    )

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str, source: str) -> Self:
        """Inverse of `to_json`. source: what to call the text in an error.

        Raises ArgumentError for a text that is too long or no card, or a card of a newer version.
        """
        values = parse_json(text, source)
        if not isinstance(values, dict):
            raise ArgumentError(f"{source}: expected an object, got {quote(values, 100)}")
        try:
            number = at_least("version", values.get("version"), 1)
            if number > CARD_VERSION:
                raise ArgumentError(
                    f"has version {number}, and this resattn reads version {CARD_VERSION}; read it "
                    "with a newer resattn"
                )
            return cls.from_dict(values)
        except ArgumentError as error:
            raise ArgumentError(f"{source}: {error}") from None


def make_card(
    report: Report,
    config: Config,
    arrays: Mapping[str, np.ndarray],
    *,
    file: str,
    file_sha256: str | None,
    images: str,
    command: str,
) -> Card:
    """The card of a cross-check in float64 and in the format of the weights, which are `arrays`.

    The other arguments are fields of the card.
    """
    held = report.select(quantity=QUANTITIES[0])
    return Card(
        version=CARD_VERSION,
        network=in_english(config.describe()),
        file=file,
        file_sha256=file_sha256,
        weights_sha256=fingerprint_weights(arrays),
        arrays=len(arrays),
        numbers=sum(array.size for array in arrays.values()),
        dtypes=tuple(sorted({array.dtype.name for array in arrays.values()})),
        ok=report.ok,
        verdict=in_english(report.verdict()),
        exact=bool(held) and all(row.ok for row in held),
        failures=tuple(in_english(str(each)) for each in report.failures[:_FAILURES]),
        images=images,
        command=command,
        environment=(*report.environment, _describe_machine()),
        notes=in_english(report.notes),
        rows=tuple(_summarize(report)),
        agreements=tuple(
            CardAgreement(each.actual, each.dtype, each.images, each.first, each.five)
            for each in report.agreements
        ),
    )


def _summarize(report: Report) -> list[CardRow]:
    """A row for each framework and format, against the oracle."""
    against: dict[tuple[str, str], list[Difference]] = {}
    for row in report.select(expected=ORACLE):
        if row.dtype:  # the weights have none
            against.setdefault((row.actual, row.dtype), []).append(row)
    found = []
    for (framework, dtype), rows in against.items():
        worst = max(rows, key=lambda row: row.excess)
        limit = worst.tolerance / worst.explained if worst.explained else LIMIT
        found.append(
            CardRow(
                framework=framework,
                dtype=dtype,
                output=max(row.relative for row in rows if row.quantity == QUANTITIES[1]),
                distance=worst.distance,
                explained=worst.explained,
                times=worst.times,
                limit=limit,
                tensor=f"{worst.quantity} {worst.tensor}",
                compared=len(rows),
                ok=all(row.ok for row in rows),
                decides=report.decides(worst),
            )
        )
    return found


def _describe_machine() -> str:
    try:
        own = version("resattn")
    except PackageNotFoundError:
        own = "not installed"
    system = f"{platform.system()} {platform.machine()}"
    return f"resattn {own}, numpy {np.__version__}, Python {platform.python_version()}, {system}"

"""Checks of single values, each with one message that names the value, the rule and what came."""

import math
from collections.abc import Collection, Iterable, Sequence
from heapq import nsmallest
from itertools import islice
from numbers import Integral, Real
from typing import Any, TypeGuard

from weights.errors import ArgumentError
from weights.language import join_texts, mark, say

Pair = tuple[int, int]
BELOW = 2**31  # no size, channel or count reaches it
LEAST, MOST = 2.0**-126, 2.0**127  # what float32 holds without loss: a positive number of ours
DEEPEST = 32  # lists and objects within each other
IMAGE_FORMATS = ("bfloat16", "float16", "float32", "float64")  # of images
SAME = "same"  # the padding of TensorFlow and JAX that depends on the size of the image


def quote(value: object, most: int = 200) -> str:
    """The repr of a value from a file or a user, cut where it is long. It has one line."""
    if isinstance(value, (str, bytes)) and len(value) > most:
        return f"{value[: most // 4]!r}... ({len(value):,} characters)"
    if is_integer(value) and abs(int(value)) >= 10**most:
        return f"an integer of {int(value).bit_length():,} bits"
    try:
        text = repr(_cut(value, most))
    except (RecursionError, ValueError):  # ValueError: an integer of more than 4300 digits
        return f"a {type(value).__name__} that is too large to show"
    text = printable(text).replace("\n", r"\n").replace("\t", r"\t")
    return text if len(text) <= most else f"{text[: most // 2]}... ({len(text):,} characters)"


def printable(text: str) -> str:
    r"""The text with every character that does not print, but newlines and tabs, as its escape:
    what comes from a file must not move the cursor of a terminal or turn the direction of a line.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text
    )


def _cut(value: object, most: int) -> object:
    """As much of a long list or mapping as is shown of it."""
    if not isinstance(value, (list, tuple, dict)) or len(value) <= most:
        return value
    if isinstance(value, dict):
        return dict(islice(value.items(), most))
    return tuple(value[:most]) if isinstance(value, tuple) else list(value[:most])


def list_names(names: Iterable[object], most: int = 6, quoted: bool = True) -> str:
    """The first of some names in sorted order, and how many more there are."""
    found = list(names)
    words = [quote(name, 60) for name in nsmallest(most, found, key=str)]
    shown = ", ".join(words if quoted else [word.strip("'") for word in words])
    more = len(found) - most
    return say("{names} and {count:,} more", names=shown, count=more) if more > 0 else shown


def is_integer(value: object) -> TypeGuard[int]:
    """NumPy's integers are welcome; True and False are not numbers."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """A finite real number of a size that arithmetic can use; True and False are not numbers."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and value < 1e300 and not value <= -1e300  # type: ignore[operator]


def _integers(least: int) -> str:
    if least == 1:
        return say("a positive integer")
    return say("an integer of at least {least}", least=least)


def _expect(name: str, kind: str, value: object) -> ArgumentError:
    """kind: what the value should be, in words."""
    words = say("{name}: expected {kind}, got {found}", name=name, kind=kind, found=quote(value))
    return ArgumentError(words)


def at_least(name: str, value: object, least: int, limit: int = BELOW) -> int:
    """The value as an int. Raises ArgumentError for what is no integer, is less, or reaches
    the limit.
    """
    if not is_integer(value) or int(value) < least:
        raise _expect(name, _integers(least), value)
    return below(name, int(value), limit)


def below(name: str, value: int, limit: int = BELOW) -> int:
    """The value itself. Raises ArgumentError for what reaches the limit."""
    if value >= limit:
        raise _expect(name, say("an integer below {limit:,}", limit=limit), value)
    return value


def at_most(name: str, number: int, most: int, what: str) -> None:
    """Raises ArgumentError for more of something than a config may ask for."""
    if number > most:
        raise _expect(name, say("at most {most:,} {what}", most=most, what=what), number)


def pair_of(name: str, value: object, least: int = 1) -> Pair:
    """An int or a (height, width) pair of ints -> a pair."""
    pair = (value, value) if is_integer(value) else value
    if isinstance(pair, (tuple, list)) and len(pair) == 2 and all(map(is_integer, pair)):
        rows, cols = int(pair[0]), int(pair[1])
        if min(rows, cols) >= least:
            return below(name, rows), below(name, cols)
    kind = say("{kind} or a (height, width) pair of them", kind=_integers(least))
    raise _expect(name, kind, value)


def odd(name: str, value: object) -> int:
    """The value as an int. Raises ArgumentError for what is no positive odd integer."""
    size = at_least(name, value, 1)
    if size % 2 == 0:
        raise ArgumentError(
            say(
                "{name}: expected an odd size, got {size}: an even kernel has no "
                "centre, so its output would be shifted or of another size; use "
                "{smaller} or {larger}",
                name=name,
                size=size,
                smaller=size - 1,
                larger=size + 1,
            )
        )
    return size


def plain(name: str, value: object, depth: int = 0) -> Any:
    """What JSON can hold, in Python's own types: NumPy's numbers become Python's, lists tuples."""
    if isinstance(value, (tuple, list)):
        if depth == DEEPEST:
            raise ArgumentError(
                say(
                    "{name}: expected at most {most} lists within each other",
                    name=name,
                    most=DEEPEST,
                )
            )
        return tuple(plain(name, item, depth + 1) for item in value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if type(value).__name__ in ("bool", "bool_") and hasattr(value, "item"):
        return bool(value)
    if is_integer(value):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    kind = type(value)
    raise ArgumentError(
        say(
            "{name}: expected a number, a word, True, False, None or a list of "
            "them, got {module}.{kind}",
            name=name,
            module=kind.__module__,
            kind=kind.__qualname__,
        )
    )


def positive(name: str, value: object) -> float:
    """The value as a float. Raises ArgumentError for what is no positive number, or one that
    float32 cannot hold: it would be 0 or infinite in a model.
    """
    if not is_number(value) or value <= 0:
        raise _expect(name, say("a positive number"), value)
    return _held(name, value)


def from_zero(name: str, value: object, below: float = math.inf) -> float:
    """A number of at least zero and under `below`. Raises ArgumentError as `positive` does."""
    if not is_number(value) or not 0 <= value < below:
        limit = "" if below == math.inf else say(" and under {limit:g}", limit=below)
        raise _expect(name, say("a number of at least 0{limit}", limit=limit), value)
    return _held(name, value) if value else 0.0


def _held(name: str, value: float) -> float:
    if not LEAST <= abs(value) <= MOST:
        words = mark("a number that float32 holds, from {least:.2g} to {most:.2g}")
        raise _expect(name, say(words, least=LEAST, most=MOST), value)
    return float(value)


def real_number(name: str, value: object, expected: str = mark("a number")) -> float:
    """The value as a float. Raises ArgumentError for what is no finite number, or one that float32
    cannot hold.
    """
    if not is_number(value):
        raise _expect(name, say(expected), value)
    return _held(name, value) if value else 0.0


def truth(name: str, value: object) -> bool:
    """The value itself. Raises ArgumentError for what is neither True nor False."""
    if not isinstance(value, bool):
        raise _expect(name, say("True or False"), value)
    return value


def one_of(name: str, value: object, choices: Collection[str]) -> str:
    """The value itself. Raises ArgumentError for what is none of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise _expect(name, say("one of {known}", known=", ".join(choices)), value)
    return value


def fraction(name: str, value: object, meaning: str = "") -> float:
    """The value as a float. Raises ArgumentError for what is no number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        error = _expect(name, say("a number from 0 to 1"), value)
        raise ArgumentError(join_texts((error.args[0], meaning)))
    return float(value) if value else 0.0


def decay_of(name: str, value: object) -> float:
    """The part of a running statistic that is kept at each step."""
    meaning = say(
        ": it is the part of a running statistic that is kept at each step "
        "(PyTorch's momentum m is bn_decay = 1 - m)"
    )
    return fraction(name, value, meaning)


def batch_norm_numbers(bn_eps: object, bn_decay: object) -> tuple[float, float]:
    """eps and decay of a batch norm, checked."""
    return positive("bn_eps", bn_eps), decay_of("bn_decay", bn_decay)


# What a model says about an input that it cannot use: the same words in all three frameworks.


def check_input(shape: Sequence[int | None], axes: str, channels: int) -> None:
    """Raises ArgumentError unless `shape` has the axes named in `axes` and that many channels,
    and one image and one pixel at least.

    None is a size that is not known yet.
    """
    names = axes.split()
    if len(shape) != len(names) or shape[names.index("channels")] not in (channels, None):
        expected = ", ".join(str(channels) if name == "channels" else name for name in names)
        raise ArgumentError(
            say("input: expected ({expected}), got {shape}", expected=expected, shape=tuple(shape))
        )
    sizes = {name: shape[names.index(name)] for name in ("batch", "height", "width")}
    if any(isinstance(size, int) and size == 0 for size in sizes.values()):
        found = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ArgumentError(
            say("input: expected one image or more, of one pixel or more, got {found}", found=found)
        )


def check_format(dtype: str, name: str = "input") -> None:
    """Raises ArgumentError unless images are in one of `IMAGE_FORMATS`. dtype: NumPy's name."""
    if dtype not in IMAGE_FORMATS:
        *others, last = IMAGE_FORMATS
        raise ArgumentError(
            say(
                "{name}: expected images in {known} or {last}, got {found}; convert them first",
                name=name,
                known=", ".join(others),
                last=last,
                found=dtype,
            )
        )


def check_sum(main: Sequence[Any], shortcut: Sequence[Any]) -> None:
    """Raises ArgumentError where main path and shortcut of a block end at different sizes.

    main, shortcut: (height, width); None, or a tensor, is a size that is not known yet.
    """
    for one, other in zip(main, shortcut, strict=True):
        if isinstance(one, int) and isinstance(other, int) and one != other:
            raise ArgumentError(
                f"input: the main path of a block ends at {main[0]} x {main[1]} (height x width), "
                f"its shortcut at {shortcut[0]} x {shortcut[1]}; a 2x2 average pooling drops an "
                "odd last row or column, so use images whose sizes are multiples of what the "
                "network divides them by"
            )


def check_statistics(count: int) -> None:
    """Raises ArgumentError when a batch norm in training has fewer than two values a channel:
    their variance is not defined.
    """
    if count < 2:
        raise ArgumentError(
            say(
                "batch norm in training: expected more than one value per channel, got "
                "batch x height x width = {count}; use a larger batch or image, or "
                "evaluation mode",
                count=count,
            )
        )


def check_map(
    what: str,
    rows: Any,
    cols: Any,
    *,
    size: tuple[int, int] | None = None,
    least: tuple[int, int] = (1, 1),
) -> None:
    """Raises ArgumentError unless an attention module can use a map of rows x cols.

    rows, cols: None, or a tensor, is a size that is not known yet.
    size: the only one it can use. least: (sizes along each axis, positions in all) that it needs.
    """
    if not isinstance(rows, int) or not isinstance(cols, int):
        return
    if size is not None and (rows, cols) != tuple(size):
        raise ArgumentError(
            f"{what}: was made for maps of {size[0]} x {size[1]} (height x width) by its option "
            f"size, got {rows} x {cols}"
        )
    if min(rows, cols) < least[0] or rows * cols < least[1]:
        axes, positions = f"{least[0]} or more along each axis", f"{least[1]} or more positions"
        need = axes if least[0] > 1 else f"maps of {positions}"
        raise ArgumentError(f"{what}: expected {need}, got {rows} x {cols} (height x width)")

"""Checks of single values, each with one message that names the value, the rule and what came."""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

Pair = tuple[int, int]


def is_integer(value: object) -> bool:
    """NumPy's integers are welcome; True and False are not numbers."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and -1e300 < value < 1e300  # type: ignore[operator]


def _integers(least: int) -> str:
    return "a positive integer" if least == 1 else f"an integer of at least {least}"


def at_least(name: str, value: object, least: int) -> int:
    if not is_integer(value) or value < least:  # type: ignore[operator]
        raise ValueError(f"{name}: expected {_integers(least)}, got {value!r}")
    return int(value)  # type: ignore[call-overload, no-any-return]


def pair_of(name: str, value: object, least: int = 1) -> Pair:
    """An int or a (height, width) pair of ints -> a pair."""
    pair = (value, value) if is_integer(value) else value
    if (
        not isinstance(pair, (tuple, list))
        or len(pair) != 2
        or not all(is_integer(size) and size >= least for size in pair)
    ):
        raise ValueError(
            f"{name}: expected {_integers(least)} or a (height, width) pair of them, got {value!r}"
        )
    return (int(pair[0]), int(pair[1]))


def odd(name: str, value: object) -> int:
    size = at_least(name, value, 1)
    if size % 2 == 0:
        raise ValueError(
            f"{name}: expected an odd size, got {size}: an even kernel has no centre, so its "
            f"output would be shifted or of another size; use {size - 1} or {size + 1}"
        )
    return size


def plain(name: str, value: object) -> Any:
    """What JSON can hold, in Python's own types: NumPy's numbers become Python's, lists become
    tuples.
    """
    if isinstance(value, (tuple, list)):
        return tuple(plain(name, item) for item in value)
    if value is None or isinstance(value, (bool, str)):
        return value
    if type(value).__name__ in ("bool", "bool_") and hasattr(value, "item"):
        return bool(value)
    if is_integer(value):
        return int(value)  # type: ignore[call-overload]
    if isinstance(value, Real):
        return float(value)
    kind = type(value)
    raise ValueError(
        f"{name}: expected a number, a word, True, False, None or a list of them, got "
        f"{kind.__module__}.{kind.__qualname__}"
    )


def positive(name: str, value: object) -> float:
    if not is_number(value) or not 0 < value < math.inf:  # type: ignore[operator]
        raise ValueError(f"{name}: expected a positive number, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected True or False, got {value!r}")
    return value


def one_of(name: str, value: object, choices: Collection[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return value


def batch_norm_numbers(bn_eps: object, bn_decay: object) -> tuple[float, float]:
    eps = positive("bn_eps", bn_eps)
    if not is_number(bn_decay) or not 0 <= bn_decay <= 1:  # type: ignore[operator]
        raise ValueError(
            f"bn_decay: expected a number from 0 to 1, got {bn_decay!r}: it is the part of a "
            "running statistic that is kept at each step (PyTorch's momentum m is bn_decay = 1 - "
            "m)"
        )
    return eps, float(bn_decay)  # type: ignore[arg-type]

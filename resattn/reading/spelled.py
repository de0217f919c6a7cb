"""Norms and PReLU that are spelled out with parameters, recognized by their values.

A norm is (x - mean) / sqrt(variance + eps) * weight + bias. It may be computed as
x * inv + (bias - mean * inv), the variance as mean(x^2) - mean(x)^2, and so on: only the values at
some numbers say what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from resattn.reading.form import Held, Primitive, merge_held
from resattn.reading.functions import FUNCTIONS, PROBES

_MOST = 40  # primitives that a norm is spelled out in
_ROOTS = ("root", "reciprocal root", "power")
_TAKEN = {"product": "weight", "sum": "bias"}  # what a parameter is, by what is computed with it
_RNG = np.random.default_rng(0)
_X, _MEAN, _WEIGHT, _BIAS = _RNG.uniform(-2, 2, (4, 7))
_VARIANCE = _RNG.uniform(0.5, 4, 7)


@dataclass(frozen=True)
class Norm:
    """A norm that several primitives compute.

    x: what is normalized. together: how many channels have one mean over positions, 0 for a mean of
    channels alone. groups: of channels, 0 without positions. roles: the names of the parameters by
    role. primitives: all of them in order.
    """

    x: Primitive
    eps: float
    together: int
    groups: int
    held: Held | None
    roles: Mapping[str, str]
    primitives: tuple[Primitive, ...]


def find_norm(last: Primitive) -> Norm | None:
    """The norm that a primitive is the end of, or None."""
    if last.op not in ("sum", "product", "quotient", "difference"):
        return None
    inside, leaves = _surroundings(last, ())
    if not any(each.op in _ROOTS for each in inside):
        return None
    means = [each for each in leaves if each.op == "average"]
    for mean in sorted(means, key=lambda each: -each.number)[:4]:
        found = _read_norm(last, mean.inputs[0], mean, means)
        if found is not None:
            return found
    return None


def _read_norm(
    last: Primitive, x: Primitive, mean: Primitive, averages: Iterable[Primitive]
) -> Norm | None:
    over = _over(mean)
    means = [each for each in averages if each.inputs == (x,) and _over(each) == over]
    inside, leaves = _surroundings(last, (x, *means))
    others = [each for each in leaves if each is not x and each not in means]
    variances = others or means
    if x not in leaves or len(others) > 1 or len(inside) > _MOST:
        return None
    roles = _roles(inside)
    held = [each.held for each in inside if each.held is not None]
    if roles is None or variances[0].op != "average" or _over(variances[0]) != over:
        return None
    at = {x: _X, **dict.fromkeys(means, _MEAN)}
    squares = _evaluate_squares(variances[0].inputs[0], x, over)
    if squares is None:
        return None
    raw = np.allclose(squares, _X**2)
    if not raw and not np.allclose(squares, (_X - _MEAN) ** 2):
        return None
    at[variances[0]] = _VARIANCE + _MEAN**2 if raw else _VARIANCE
    found = _evaluate(last, at, {"weight": _WEIGHT, "bias": _BIAS})
    eps = _find_eps(last, x, means, variances[0])
    weight = _WEIGHT if "weight" in roles else 1.0
    bias = _BIAS if "bias" in roles else 0.0
    with np.errstate(all="ignore"):
        expected = (_X - _MEAN) / np.sqrt(_VARIANCE + eps) * weight + bias
    if not np.allclose(found, expected, rtol=1e-6, atol=1e-9):
        return None
    together, groups = _count_channels(x, mean)
    parts = {*inside, *means, variances[0]}
    order = tuple(sorted(parts, key=lambda each: each.number))
    return Norm(x, eps, together, groups, merge_held(held), roles, order)


def _find_eps(
    last: Primitive, x: Primitive, means: Iterable[Primitive], variance: Primitive
) -> float:
    """Where x is 1 and mean and variance are 0, a norm is 1 / sqrt(eps)."""
    at = {x: np.array([1.0]), variance: np.array([0.0]), **dict.fromkeys(means, np.array([0.0]))}
    (root,) = _evaluate(last, at, {"weight": np.array([1.0]), "bias": np.array([0.0])})
    return float(1 / root**2) if root else np.inf


def _evaluate_squares(squares: Primitive, x: Primitive, over: set[Any]) -> np.ndarray | None:
    """The values of what a variance is the average of; None if it is no function of x and of its
    mean over these axes.
    """
    inside, leaves = _surroundings(squares, (x,))
    means = [each for each in leaves if each.op == "average" and each.inputs == (x,)]
    others = {*leaves} - {x, *means}
    if not inside or others or any(each.held for each in inside):
        return None
    if any(_over(each) != over for each in means):
        return None
    return _evaluate(squares, {x: _X, **dict.fromkeys(means, _MEAN)}, {})


def _over(average: Primitive) -> set[Any]:
    return {*average.settings["axes"]}


def _count_channels(x: Primitive, mean: Primitive) -> tuple[int, int]:
    atoms = [atom for axis in mean.settings["axes"] for atom in axis]
    if not {"rows", "cols"} & {name for name, _ in atoms}:
        return 0, 0
    together = prod(size for name, size in atoms if name == "channels")
    channels = prod(size for axis in x.axes for name, size in axis if name == "channels")
    return together, channels // together


@dataclass(frozen=True)
class Rectifier:
    """A PReLU: x above 0, and below it x times a parameter."""

    x: Primitive
    held: Held
    roles: Mapping[str, str]
    primitives: tuple[Primitive, ...]


def find_prelu(last: Primitive) -> Rectifier | None:
    """The PReLU that a primitive is the end of, or None."""
    if last.op not in ("sum", "choice", "difference"):
        return None
    inside, _ = _surroundings(last, ())
    products = [each for each in inside if each.held is not None and each.op == "product"]
    if not products:
        return None
    held, (x, *others) = products[-1].held, products[-1].inputs
    assert held is not None
    if others:
        return None
    while True:
        inside, leaves = _surroundings(last, (x,))
        roles = _roles(inside)
        if roles and leaves == [x]:
            weight = np.full(len(PROBES), 0.37)
            found = _evaluate(last, {x: PROBES}, {"weight": weight})
            if np.allclose(found, np.where(PROBES > 0, PROBES, weight * PROBES)):
                return Rectifier(x, held, roles, tuple(inside))
        if x.function is None or len({*x.inputs}) != 1:
            return None
        x = x.inputs[0]


def _surroundings(
    last: Primitive, stops: Iterable[Primitive]
) -> tuple[list[Primitive], list[Primitive]]:
    """What computes a primitive value by value, in order, and what it is computed from."""
    inside: dict[Primitive, None] = {}
    leaves: dict[Primitive, None] = {}
    waiting = [last]
    while waiting:
        one = waiting.pop()
        if one in inside or one in leaves:
            continue
        plain = one.function is not None or (one.held is not None and one.op in _TAKEN)
        if plain and one not in stops and len(inside) <= 8 * _MOST:
            inside[one] = None
            waiting += one.inputs
        else:
            leaves[one] = None
    return sorted(inside, key=lambda each: each.number), list(leaves)


def _roles(inside: Iterable[Primitive]) -> dict[str, str] | None:
    """Which parameters are used as a weight and as a bias; None if others are used as well."""
    roles: dict[str, str] = {}
    for each in inside:
        if each.held is None:
            continue
        plain = len(each.held.names) == len(each.inputs) == 1
        changed = {function for _, function in each.held.functions} - {"negative"}
        if not plain or changed or each.held.numbers or _TAKEN[each.op] in roles:
            return None
        roles[_TAKEN[each.op]] = next(iter(each.held.names))
    return roles


def _evaluate(
    last: Primitive, at: Mapping[Primitive, np.ndarray], held: Mapping[str, np.ndarray]
) -> np.ndarray:
    """The values of a primitive. at: those of what it is computed from. held: of parameters."""
    known = dict(at)
    for each in _surroundings(last, [*at])[0]:
        inputs = [known[given] for given in each.inputs]
        function = each.function if each.held is None else FUNCTIONS[each.op]
        if each.held is not None:
            sign = -1 if each.held.functions else 1  # their only function is "negative"
            inputs.append(sign * held[_TAKEN[each.op]])
        assert function is not None
        with np.errstate(all="ignore"):
            known[each] = function(*inputs)
    return np.asarray(known[last], float)

"""Computations that a framework spells out in several primitives."""

from __future__ import annotations

from math import prod

import numpy as np

from resattn.reading.form import Primitive
from resattn.reading.functions import PROBES, evaluate_primitive, source_of


def softmax_input(quotient: Primitive) -> Primitive | None:
    """x if this is exp(x - greatest) divided by its total over the same axes."""
    if [quotient.op, *(given.op for given in quotient.inputs)] != ["quotient", "exp", "total"]:
        return None
    exps, total = quotient.inputs
    (centred,) = exps.inputs
    if total.inputs != (exps,) or [centred.op, *_ops(centred)[1:]] != ["difference", "maximum"]:
        return None
    x, greatest = centred.inputs
    same_axes = greatest.settings["axes"] == total.settings["axes"]
    return x if greatest.inputs == (x,) and same_axes else None


def _ops(primitive: Primitive) -> list[str]:
    return [given.op for given in primitive.inputs]


def standardized(quotient: Primitive) -> tuple[Primitive, float] | None:
    """x and eps if this is (x - mean) / sqrt(variance + eps)."""
    if quotient.op != "quotient" or len(quotient.inputs) != 2:
        return None
    centred, divisor = quotient.inputs
    variance = source_of(divisor)
    if variance is None or variance.op != "average" or not _subtracts_average(centred):
        return None
    x, mean = centred.inputs
    (squares,) = variance.inputs
    same_axes = {*mean.settings["axes"]} == {*variance.settings["axes"]}
    if mean.inputs != (x,) or not same_axes or not _is_square(squares, centred):
        return None
    at = np.array([0.0, 1.0, 4.0])
    roots = evaluate_primitive(divisor, variance, at)
    eps = float(roots[0] ** 2)
    return (x, eps) if np.allclose(roots, np.sqrt(at + eps)) else None


def _subtracts_average(centred: Primitive) -> bool:
    return centred.op == "difference" and _ops(centred)[1:] == ["average"]


def _is_square(squares: Primitive, x: Primitive) -> bool:
    if squares.function is None or set(squares.inputs) != {x}:
        return False
    arrays = [PROBES] * len(squares.inputs)
    return np.allclose(squares.function(*arrays), PROBES**2)


def greater_inputs(choice: Primitive) -> tuple[Primitive, ...] | None:
    """x and y if this is x where x > y, and y elsewhere."""
    if choice.op != "choice" or choice.inputs[0].op != "is greater":
        return None
    condition, *chosen = choice.inputs
    same = len(condition.inputs) == 2 and condition.inputs == tuple(chosen)
    return condition.inputs if same else None


def channels_together(quotient: Primitive) -> int:
    """How many channels a standardization takes the mean of together with positions; 0 if it is of
    channels alone.
    """
    _, mean = quotient.inputs[0].inputs
    atoms = [atom for axis in mean.settings["axes"] for atom in axis]
    if not {"rows", "cols"} & {name for name, _ in atoms}:
        return 0
    return prod(size for name, size in atoms if name == "channels")

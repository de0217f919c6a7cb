"""Computations that a framework spells out in several primitives."""

from __future__ import annotations

from resattn.reading.form import Primitive


def softmax_input(quotient: Primitive) -> Primitive | None:
    """x if this is exp(x - greatest) divided by its total over the same axes."""
    if [quotient.op, *(given.op for given in quotient.inputs)] != ["quotient", "exp", "total"]:
        return None
    exps, total = quotient.inputs
    (centred,) = exps.inputs
    if total.inputs != (exps,) or [
        centred.op,
        *(given.op for given in centred.inputs[1:]),
    ] != ["difference", "maximum"]:
        return None
    x, greatest = centred.inputs
    same_axes = greatest.settings["axes"] == total.settings["axes"]
    return x if greatest.inputs == (x,) and same_axes else None


def greater_inputs(choice: Primitive) -> tuple[Primitive, ...] | None:
    """x and y if this is x where x > y, and y elsewhere."""
    if choice.op != "choice" or choice.inputs[0].op != "is greater":
        return None
    condition, *chosen = choice.inputs
    same = len(condition.inputs) == 2 and condition.inputs == tuple(chosen)
    return condition.inputs if same else None

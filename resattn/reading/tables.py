"""What the tables of all graph languages share.

A table says what each primitive of a graph language means: by its name, a function that takes a
machine, the primitive as the framework holds it, and the operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from resattn.reading.form import Operand
from resattn.reading.machine import Machine

Table = dict[str, Callable[..., Any]]


def same(machine: Machine, primitive: Any, x: Operand, *rest: Any) -> Operand:
    """What copies or casts its first operand."""
    return x


def elementwise(names: Mapping[str, str]) -> Table:
    """Functions value by value. names: of FUNCTIONS, by the names of the graph language."""
    return {own: _elementwise(name) for own, name in names.items()}


def _elementwise(name: str) -> Callable[..., Operand]:
    return lambda machine, primitive, *operands: machine.elementwise(name, *operands)

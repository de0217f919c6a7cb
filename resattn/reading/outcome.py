"""A model that cannot be run to its end."""

from __future__ import annotations

from collections.abc import Sequence

from resattn.reading.form import ImageValues, Operand
from resattn.reading.machine import Machine
from resattn.reading.sources import Failed


def join_failed(machine: Machine, failed: Failed, operands: Sequence[Operand]) -> ImageValues:
    """An unknown operation that takes the values that could not be joined."""
    values = [x for x in operands if isinstance(x, ImageValues)]
    name = f"{failed.operation or 'operation'} that fails"
    found = machine.leave_unknown(name, values, values[0].shape)
    assert isinstance(found, ImageValues)
    machine.note_axes(found)
    return found

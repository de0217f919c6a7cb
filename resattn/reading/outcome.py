"""A model that cannot be run to its end."""

from __future__ import annotations

from collections.abc import Sequence

from resattn.reading.form import ImageValues, Operand, Origin
from resattn.reading.machine import Machine
from resattn.reading.sources import Failed


def join_failed(
    machine: Machine, failed: Failed, operands: Sequence[Operand], origin: Origin | None = None
) -> ImageValues:
    """An unknown operation that takes the values that could not be joined.

    origin: of the operation, where more is known of it than the place in the code.
    """
    machine.origin = origin or Origin(file=failed.file, line=failed.line)
    values = [x for x in operands if isinstance(x, ImageValues)]
    name = f"{failed.operation or 'operation'} that fails"
    found = machine.leave_unknown(name, values, values[0].shape)
    assert isinstance(found, ImageValues)
    machine.note_axes(found)
    return found

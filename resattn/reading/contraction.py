"""Products of two operands over some of their axes, as einsum writes them."""

from __future__ import annotations

from math import prod

from resattn.reading.form import ImageValues, Operand
from resattn.reading.machine import Machine


def contract(machine: Machine, equation: str, x: Operand, y: Operand) -> Operand:
    """equation: of einsum, one letter an axis: "bhwc,cd->bhwd". Letters that the result lacks are
    summed over; they must be in both operands.
    """
    terms, result = equation.replace(" ", "").split("->")
    of_x, of_y = terms.split(",")
    if not isinstance(x, ImageValues):
        (x, y), (of_x, of_y) = (y, x), (of_y, of_x)
    shared = [one for one in of_x if one in of_y and one in result]
    summed = [one for one in of_x if one in of_y and one not in result]
    free_x, free_y = ([one for one in own if one not in shared + summed] for own in (of_x, of_y))
    assert set(result) == {*shared, *free_x, *free_y}
    if not summed and not free_y:
        y = machine.transpose(y, [of_y.index(one) for one in of_x if one in of_y])
        sizes = zip(of_x, x.shape, strict=True)
        y = machine.reshape(y, [size if one in of_y else 1 for one, size in sizes])
        found: Operand = machine.elementwise("product", x, y)
        return machine.transpose(found, [of_x.index(one) for one in result])
    assert summed
    x = machine.transpose(x, [of_x.index(one) for one in (*shared, *free_x, *summed)])
    y = machine.transpose(y, [of_y.index(one) for one in (*shared, *summed, *free_y)])
    first, last = len(shared), len(shared) + len(summed)
    batch, total = x.shape[:first], prod(y.shape[first:last])
    rows, cols = x.shape[first : first + len(free_x)], y.shape[last:]
    # Several axes are one axis for as long as they are summed over.
    x = machine.reshape(x, (*batch, prod(rows), total))
    y = machine.reshape(y, (*batch, total, prod(cols)))
    product = machine.matrix_product(x, y, (*batch, prod(rows), prod(cols)))
    found = machine.reshape(product, (*batch, *rows, *cols))
    order = [*shared, *free_x, *free_y]
    return machine.transpose(found, [order.index(one) for one in result])

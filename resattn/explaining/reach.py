"""Receptive fields of a graph that exists for one size of images only.

Every output at place i of an axis sees the rows from step * i + low to step * i + high of an image
without borders. Whatever the image's size is, that is what a place far from the borders sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from resattn.explaining.analysis import EVERYWHERE, WINDOWS, Field, window
from resattn.reading.kinds import IMAGE_AXES
from weights.graph import OperationGraph
from weights.operations import CHANNELS, Operation

# What these see is not known, so they count as seeing the whole image.
UNKNOWN = ("unknown", "failure", "standardize", "attention")


@dataclass(frozen=True)
class Reach:
    """What places along an axis see of the image, as this file's docstring says."""

    low: Fraction
    high: Fraction
    step: Fraction

    @property
    def width(self) -> int:
        return int(self.high - self.low) + 1


Reaches = tuple[Reach | None, Reach | None]  # along rows and cols; None for the whole image


def executed_fields(found: OperationGraph) -> dict[str, Field]:
    """The receptive field of each operation, as `analysis.receptive_fields` has them."""
    reaches: dict[str, Reaches] = {}
    for operation in found:
        one, other = (_find_reach(found, reaches, operation, side) for side in (0, 1))
        reaches[operation.name] = (one, other)
    return {name: (_width(rows), _width(cols)) for name, (rows, cols) in reaches.items()}


def _width(reach: Reach | None) -> int | None:
    return None if reach is None else reach.width


def _find_reach(
    found: OperationGraph, reaches: Mapping[str, Reaches], operation: Operation, side: int
) -> Reach | None:
    kind, settings = operation.kind, operation.settings
    if kind == "input":
        return Reach(Fraction(0), Fraction(0), Fraction(1))
    given = [reaches[name][side] for name in operation.inputs]
    first = given[0] if given else None
    if kind == "slice":
        return _of_slice(found, reaches, operation, side)
    if first is None or kind in UNKNOWN:
        return None
    if kind == "linear" and len(operation.shape) > 1:
        return first  # of each position alone
    if kind in EVERYWHERE or IMAGE_AXES[side] in settings.get("axes", ()):
        return None
    if kind == "concatenate" and settings["axis"] != CHANNELS:
        return None
    if kind in WINDOWS:
        return _through(first, operation, side)
    if kind == "nearest":
        sizes = [
            shape[side + 1].size for shape in (found[operation.inputs[0]].shape, operation.shape)
        ]
        return Reach(first.low, first.high, first.step * Fraction(*sizes))
    return _unite_reaches(given)


def _of_slice(
    found: OperationGraph, reaches: Mapping[str, Reaches], operation: Operation, side: int
) -> Reach | None:
    """A part of a concatenation sees what it saw before."""
    each = operation
    while each.inputs:
        each = found[each.inputs[0]]
        if each.kind == "concatenate":
            return reaches[each.inputs[operation.settings["start"] > 0]][side]
    return reaches[operation.inputs[0]][side]


def _through(reach: Reach, operation: Operation, side: int) -> Reach:
    """What a window sees that moves along the axis."""
    along = operation.settings.get("along", IMAGE_AXES)
    if IMAGE_AXES[side] not in along:
        return reach
    length, stride, margin = window(operation, along.index(IMAGE_AXES[side]) + 1)
    low = reach.low - margin * reach.step
    return Reach(low, reach.high + (length - 1 - margin) * reach.step, reach.step * stride)


def _unite_reaches(given: Sequence[Reach | None]) -> Reach | None:
    known = [reach for reach in given if reach is not None]
    if len(known) < len(given):
        return None
    return Reach(
        min(reach.low for reach in known),
        max(reach.high for reach in known),
        known[0].step,
    )

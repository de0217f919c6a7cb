"""Why a model could not be run to its end, as data."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import prod

from resattn.reading.blocks import ExecutedBlock
from resattn.reading.executed import ExecutedGraph
from resattn.reading.reading import Failure
from weights.operations import Operation

AxisSizes = tuple[int, ...]


@dataclass(frozen=True)
class ShapeChange:
    """An operation whose output has another shape than its input. stride: None without one."""

    name: str
    kind: str
    stride: tuple[int, int] | None
    before: AxisSizes
    after: AxisSizes


@dataclass(frozen=True)
class FailedPath:
    """How one value came to its shape.

    name: of the operation that gives it. role: "main", "shortcut" or "input", if it is on none of
    these paths. start, shape: of the value where the paths part, and here. changes: in the order of
    execution.
    """

    name: str
    role: str
    start: AxisSizes
    shape: AxisSizes
    changes: tuple[ShapeChange, ...]

    @property
    def shrinks(self) -> tuple[Fraction, Fraction]:
        """By how much rows and columns become less."""
        rows, cols = (
            Fraction(prod(each.stride[side] for each in self.changes if each.stride))
            for side in (0, 1)
        )
        return rows, cols


@dataclass(frozen=True)
class ExplainedFailure:
    """failure: as it was read. paths: to the values that could not be joined, with where they part;
    empty if that is not known. at_fault: the convolution whose stride is one too many, "" if there
    is none.
    """

    failure: Failure
    fork: str
    paths: tuple[FailedPath, ...]
    at_fault: str


def explain_failure(
    found: ExecutedGraph, blocks: tuple[ExecutedBlock, ...]
) -> ExplainedFailure | None:
    """Why the model of a graph failed; None if it did not."""
    if found.failure is None:
        return None
    last = found.operations[-1]
    fork = _find_fork(found, last)
    if last.kind != "failure" or not fork:
        return ExplainedFailure(found.failure, "", (), "")
    block = next((block for block in blocks if block.join == last.name), None)
    paths = tuple(_follow(found, name, fork, block) for name in last.inputs)
    ordered = tuple(sorted(paths, key=lambda path: path.role == "shortcut"))
    return ExplainedFailure(found.failure, fork, ordered, _find_fault(ordered))


def _above(found: ExecutedGraph, name: str) -> set[str]:
    """An operation and all that it is computed from."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in seen:
            seen.add(each)
            waiting += found[each].inputs
    return seen


def _find_fork(found: ExecutedGraph, last: Operation) -> str:
    """The last operation that all inputs are computed from; "" for fewer than two inputs."""
    if len(last.inputs) < 2:
        return ""
    common = set.intersection(*(_above(found, name) for name in last.inputs))
    order = [each.name for each in found]
    return max(common, key=order.index, default="")


def _follow(found: ExecutedGraph, name: str, fork: str, block: ExecutedBlock | None) -> FailedPath:
    """The way from the fork to an operation, along the inputs that have the shapes of maps."""
    changes: list[ShapeChange] = []
    each = name
    while each != fork:
        operation = found[each]
        given = [source for source in operation.inputs if fork in _above(found, source)]
        each = max(given, key=lambda source: found[source].numbers)
        before, after = sizes_of(found[each]), sizes_of(operation)
        if before != after:
            stride = operation.settings.get("stride")
            changes.append(ShapeChange(operation.name, operation.kind, stride, before, after))
    role = "input"
    if block is not None:
        role = "main" if name == block.main[-1] else "shortcut"
    start = sizes_of(found[fork])
    return FailedPath(name, role, start, sizes_of(found[name]), tuple(reversed(changes)))


def sizes_of(operation: Operation) -> AxisSizes:
    return tuple(extent.size for extent in operation.shape)


def _find_fault(paths: tuple[FailedPath, ...]) -> str:
    """The last strided operation of the main path, if its stride is what makes the difference."""
    if [path.role for path in paths] != ["main", "shortcut"]:
        return ""
    main, shortcut = paths
    strided = [each for each in main.changes if each.stride and each.stride != (1, 1)]
    if len(strided) < 2:
        return ""
    last = strided[-1].stride or (1, 1)
    without = tuple(size / step for size, step in zip(main.shrinks, last, strict=True))
    return strided[-1].name if without == shortcut.shrinks else ""

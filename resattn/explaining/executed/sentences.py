"""Blocks and failures of a live model in words."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from resattn.explaining.executed.entries import block_stride
from resattn.explaining.executed.failures import AxisSizes, ExplainedFailure, FailedPath
from resattn.explaining.wording import Wording, format_pair
from resattn.reading.blocks import ExecutedBlock
from resattn.reading.executed import ExecutedGraph
from weights.operations import AXES


def describe_block(wording: Wording, found: ExecutedGraph, block: ExecutedBlock) -> dict[str, Any]:
    """The values in the sentences about a block."""
    given, made = found[block.fork].shape[0], found[block.end].shape[0]
    stride = format_pair(block_stride(found, block))
    shortcut = _describe_shortcut(wording, found, block)
    return {"in": given.size, "out": made.size, "stride": stride, "shortcut": shortcut}


def _describe_shortcut(wording: Wording, found: ExecutedGraph, block: ExecutedBlock) -> str:
    operations = [found[name] for name in block.shortcut]
    kinds = [each.kind for each in operations]
    kernels = [each.settings["kernel"] for each in operations if each.kind == "convolution"]
    if not kinds:
        return wording.words["shortcut.identity"]
    if kinds == ["subsample"]:
        return wording.words["shortcut.subsample"]
    if len(kernels) != 1:
        return wording.say("executed.shortcut", count=len(kinds))
    key = "shortcut.average" if kinds[0] == "average_pool" else "shortcut.projection"
    return wording.say(key, kernel="×".join(map(str, kernels[0])))


def say_failure(wording: Wording, explained: ExplainedFailure) -> Iterator[str]:
    """The sentences that explain a failure, the first of them what failed."""
    failure = explained.failure
    what = wording.failed(failure.operation)
    shapes = [path.shape for path in explained.paths] or list(failure.shapes)
    yield wording.say("failure.what", what=what, shapes=[_format(shape) for shape in shapes])
    if len({len(shape) for shape in shapes}) == 1 and len(shapes) > 1:
        differ = [
            wording.say(f"failure.{axis}", sizes=[str(shape[place]) for shape in shapes])
            for place, axis in enumerate(AXES[: len(shapes[0])])
            if len({shape[place] for shape in shapes}) > 1
        ]
        yield wording.say("failure.differ", differ=differ)
    if explained.paths:
        start = _format(explained.paths[0].start)
        yield wording.say("failure.fork", name=explained.fork, shape=start)
    for path in explained.paths:
        sentence = _say_path(wording, path)
        yield sentence[0].upper() + sentence[1:]
    if len({path.shrinks for path in explained.paths}) > 1:
        parts = [
            wording.say(
                "failure.shrinks",
                path=_name_path(wording, path),
                factor=_format_factor(path.shrinks),
            )
            for path in explained.paths
        ]
        yield wording.say("failure.so", parts=wording.words["comma"].join(parts))
    if explained.at_fault:
        yield wording.say("failure.fault", name=explained.at_fault)
    if failure.message:
        yield wording.say("failure.message", message=failure.message.strip().splitlines()[0])
    if failure.line:
        yield wording.words["failure.place"]


def _say_path(wording: Wording, path: FailedPath) -> str:
    name = _name_path(wording, path)
    if not path.changes:
        return wording.say("failure.keeps", path=name, shape=_format(path.shape))
    changes = []
    for each in path.changes:
        stride = ""
        if each.stride and each.stride != (1, 1):
            stride = wording.say("set.stride", value=format_pair(each.stride))
        values = {"name": each.name, "before": _format(each.before), "after": _format(each.after)}
        key = "failure.change.strided" if stride else "failure.change"
        changes.append(wording.say(key, stride=stride, **values))
    return wording.say("failure.path", path=name, changes=wording.words["comma"].join(changes))


def _name_path(wording: Wording, path: FailedPath) -> str:
    return wording.say(f"failure.path.{path.role}", name=path.name)


def _format(shape: AxisSizes) -> str:
    return f"({', '.join(map(str, shape))})"


def _format_factor(shrinks: tuple[Fraction, Fraction]) -> str:
    rows, cols = shrinks
    return str(rows) if rows == cols else f"{rows} × {cols}"


def values_of_failure(explained: ExplainedFailure) -> dict[str, Any]:
    """A failure as plain values, for JSON."""
    failure = explained.failure
    return {
        "operation": failure.operation,
        "shapes": [list(shape) for shape in failure.shapes],
        "message": failure.message,
        "file": failure.file,
        "line": failure.line,
        "fork": explained.fork,
        "paths": [
            {
                "name": path.name,
                "role": path.role,
                "start": list(path.start),
                "shape": list(path.shape),
                "shrinks": list(map(str, path.shrinks)),
                "changes": [
                    {
                        "name": each.name,
                        "kind": each.kind,
                        "stride": list(each.stride) if each.stride else None,
                        "before": list(each.before),
                        "after": list(each.after),
                    }
                    for each in path.changes
                ],
            }
            for path in explained.paths
        ],
        "at_fault": explained.at_fault,
    }

"""The operations of the common form in the words of `weights.operations`: kinds and settings.

The inverse of `drawn.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isclose
from typing import Any

from resattn.reading.form import label_of, size_of
from resattn.reading.functions import FUNCTIONS, RECOGNIZED
from resattn.reading.steps import CommonStep
from resattn.reading.windows import Window
from weights.operations import AXES, CHANNELS, COLS, ELEMENTWISE, ROWS

KindOfStep = tuple[str, dict[str, Any]]  # with its settings
ArrayShapes = Mapping[str, tuple[int, ...]]  # the shapes of a model's arrays, by its own names

IMAGE_AXES = (ROWS, COLS)


def unknown(primitive: str) -> KindOfStep:
    """An operation that has no kind. primitive: what the framework calls it."""
    return "unknown", {"primitive": primitive}


def kind_of(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
    """The kind and the settings of a step."""
    if step.op in READERS_OF_OPS:
        return READERS_OF_OPS[step.op](step, sizes)
    if step.op in SAME_NAME:
        return step.op, {}
    if step.op in RECOGNIZED:
        return "function", {"function": step.op}
    primitive = step.settings.get("primitive", step.op)
    if primitive in FUNCTIONS and len(step.inputs) == 1 and step.held is None:
        return "function", {"function": primitive}
    return unknown(primitive)


def tidy(value: float) -> float:
    """A number that a framework rounded to float32: the simple number that it was before.

    Simple are whole numbers, their inverses and the inverses of their roots; of any other number
    six digits are kept.
    """
    if value == 0:
        return 0.0
    sign, size = (-1.0 if value < 0 else 1.0), abs(float(value))
    candidates = [float(round(size)), 1 / max(round(1 / size), 1), max(round(size**-2), 1) ** -0.5]
    simple = (each for each in candidates if isclose(each, size, rel_tol=2e-7))
    return sign * next(simple, float(f"{size:.6g}"))


# Windows


def window_settings(step: CommonStep) -> dict[str, Any] | None:
    """The settings of a two-dimensional window; None if the table of kinds has no such window."""
    window: Window = step.settings["window"]
    if len(window.size) != 2 or window.fill not in ("", "0", "zeros"):
        return None
    before, after = (_whole(side) for side in zip(*window.padding, strict=True))
    found: dict[str, Any] = {"kernel": _whole(window.size), "stride": _whole(window.stride)}
    found["padding"] = before
    if after != before:
        found["after"] = after
    along = _axes_along(step, window)
    if along != IMAGE_AXES:
        found["along"] = along
    return found


def _whole(numbers: Sequence[Any]) -> tuple[int, ...]:
    return tuple(map(int, numbers))


def _axes_along(step: CommonStep, window: Window) -> tuple[str, ...]:
    """The axes that a window moves along. An axis that has lost its name is where it is in the
    image.
    """
    axes = step.primitives[0].axes
    names = [label_of(axes[dim]) if dim < len(axes) else "" for dim in window.dims]
    if len(names) == 1:
        return (names[0] or next(iter(window.along), CHANNELS),)
    return tuple(
        name if name in AXES else place for name, place in zip(names, IMAGE_AXES, strict=True)
    )


def _convolution(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
    window: Window = step.settings["window"]
    bias = "bias" in step.roles
    if len(window.size) == 1 and _axes_along(step, window) == (CHANNELS,):
        padding = "circular" if window.fill == "around" else "zero"
        held = {"bias": True} if bias else {}
        return "convolution_1d", {"kernel": _whole(window.size), "padding": padding, **held}
    settings = window_settings(step)
    if settings is None or len({*window.dilation}) != 1:
        return unknown(f"{len(window.size)}-d convolution")
    groups, dilation = int(step.settings["groups"]), int(window.dilation[0])
    return "convolution", {**settings, "dilation": dilation, "groups": groups, "bias": bias}


def _pooling(kind: str) -> Callable[[CommonStep, ArrayShapes], KindOfStep]:
    """A pooling without dilation. kind: "max_pool" or "average_pool"."""

    def read(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
        window: Window = step.settings["window"]
        settings = window_settings(step)
        if settings is None or {*window.dilation} != {1}:
            return unknown(f"{len(window.size)}-d pooling")
        if kind == "max_pool" and window.fill == "zeros":
            settings["counts_padding"] = True
        if kind == "average_pool":
            settings = _of_average(step, settings)
            return "average_around" if "extent" in settings else kind, settings
        return kind, settings

    return read


def _of_average(step: CommonStep, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of an average_pool, or the extent of an average_around."""
    reach, stride, before = (settings[name] for name in ("kernel", "stride", "padding"))
    after = settings.pop("after", before)
    if step.op == "average_around":
        extent = stride[0]
        around = ((2 * extent - 1,) * 2, (extent,) * 2, (extent - 1,) * 2, (extent - 1,) * 2)
        if (reach, stride, before, after) == around:
            return {"extent": extent}
    elif any(before) or any(after):
        settings["counts_padding"] = True
    if not any(before):
        del settings["padding"]
    return {**settings, "after": after}


def _blur(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
    window: Window = step.settings["window"]
    return "blur_pool", {"stride": _whole(window.stride)}


def _move(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
    """Zeros around a map, or every n-th position with channels of zeros."""
    margins, strides = step.settings["margins"], step.settings["strides"]
    filled = {margin[2] for margin in margins.values()}
    if filled - {"0"}:
        return unknown(f"padding with {', '.join(sorted(filled))}")
    sides = {name: (int(low), int(high)) for name, (low, high, _) in margins.items()}
    if not strides and set(sides) <= {*IMAGE_AXES}:
        pairs = [sides.get(name, (0, 0)) for name in IMAGE_AXES]
        before, after = zip(*pairs, strict=True)
        return "pad", {"before": before, "after": after}
    if set(sides) <= {CHANNELS} and set(strides) <= {*IMAGE_AXES}:
        added = sides.get(CHANNELS, (0, 0))
        stride = _whole([strides.get(name, 1) for name in IMAGE_AXES])
        return "subsample", {"stride": stride, "before": added[0], "after": added[1]}
    return unknown(step.op)


# The rest


def _norm(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
    settings = {"groups": int(step.settings["groups"])} if "groups" in step.settings else {}
    return step.op, {**settings, "eps": tidy(step.settings.get("eps", 0))}


def _reduction(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
    names = step.settings["axes"]
    if not {*names} <= {*AXES}:
        return unknown(f"{step.op} over {', '.join(filter(None, names)) or 'an axis'}")
    return step.op, {"axes": tuple(name for name in AXES if name in names)}


def _linear(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
    """A linear layer; with one table of offsets for rows and one for columns relative positions."""
    assert step.held is not None
    tables = [sizes[name] for name in step.held.names if name in sizes]
    tables = sorted(table for table in tables if len(table) == 2)
    if len(tables) < 2:
        return "linear", {"bias": "bias" in step.roles}
    size, feature = _find_sides(step.inputs[0]), size_of(step.inputs[0].axes[-1])
    offsets = [offsets_first(table, feature)[0] for table in tables]
    if sorted(offsets) == sorted(2 * side - 1 for side in size):
        return "relative_positions", {"size": size}
    return unknown("a product with several parameters")


def offsets_first(table: tuple[int, ...], feature: int) -> tuple[int, int]:
    """The shape of a table of relative positions as (offset, feature).

    A reading may have taken it for the kernel of a linear layer, and exchanged its axes.
    """
    first, second = table
    return (first, second) if second == feature else (second, first)


def _find_sides(step: CommonStep) -> tuple[int, ...]:
    """The sizes of rows and columns, wherever the axes of the values hold them."""
    found = dict(reversed([atom for axis in step.axes for atom in axis]))
    return tuple(found[name] for name in IMAGE_AXES if name in found)


def _part(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
    part, parts = step.settings["part"], step.settings["parts"]
    merged = any(len(axis) > 1 for axis in step.axes)
    if merged and parts == 3:
        return "head_part", {"part": part, "parts": parts}
    source = step.primitives[-1].settings
    axis = label_of(source["axis"])
    if parts == 2 and (axis in AXES or "+" in axis):
        along = axis if axis in AXES else ROWS
        return "slice", {"axis": along, "start": int(source["start"])}
    return "part", {"part": part, "parts": parts}


def _concatenate(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
    """Two maps side by side along a new axis take the place of channels."""
    labels = [label_of(axis) for axis in step.axes[1:]]
    joined = next((label for label in labels if "+" in label), "")
    sides = {*joined.split("+")} - {CHANNELS}
    return "concatenate", {"axis": ROWS if sides & {*IMAGE_AXES} else CHANNELS}


def _affine(step: CommonStep, sizes: ArrayShapes) -> KindOfStep:
    return "affine", {"factor": tidy(step.settings["a"]), "offset": tidy(step.settings["b"])}


READERS_OF_OPS: dict[str, Callable[[CommonStep, ArrayShapes], KindOfStep]] = {
    "image": lambda step, sizes: ("input", {}),
    "convolution": _convolution,
    "depthwise convolution": _convolution,
    "max_pool": _pooling("max_pool"),
    "window average": _pooling("average_pool"),
    "average_around": _pooling("average_pool"),
    "binomial filter": _blur,
    "padding or thinning out": _move,
    "batch_norm": _norm,
    "group_norm": _norm,
    "layer_norm": _norm,
    "standardised": lambda step, sizes: ("standardize", {"eps": tidy(step.settings["eps"])}),
    "average": _reduction,
    "maximum": _reduction,
    "total": _reduction,
    "linear": _linear,
    "part": _part,
    "concatenate": _concatenate,
    "a x + b": _affine,
}
# What has the same name in both tables, and no settings.
SAME_NAME = (
    *ELEMENTWISE,
    *("softmax", "sum", "product", "difference", "quotient", "greater"),
    *("nearest", "matrix_product", "scale"),
)

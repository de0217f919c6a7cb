"""What follows from a graph: receptive fields, the memory of activations, biases that training does
not move.

Everything is computed from `weights.graph.Graph`; no framework is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from weights.config import Config
from weights.graph import Graph, graph
from weights.operations import AXES, CHANNELS, Operation

ROWS, COLS = 1, 2
CORRELATED = ("convolution", "max_pool", "average_around")
# What sees everything; a kind of a user's own may.
EVERYWHERE = ("matrix_product", "softmax", "relative_positions", "linear", "attention")


@dataclass(frozen=True)
class Sight:
    """Which rows (or columns) of the image an operation's output sees, for each place along one of
    its axes.

    axis: that axis of the output; None where every value sees the whole image. low, high: the first
    and the last seen, both included, for each place.
    """

    axis: int | None
    low: np.ndarray
    high: np.ndarray

    @property
    def widest(self) -> int:
        return int((self.high - self.low).max()) + 1


def sights(found: Graph) -> dict[str, tuple[Sight, Sight]]:
    """What each operation's output sees, by its name: along the image's rows and along its columns,
    inside the image.
    """
    image = next(iter(found)).shape
    seen: dict[str, tuple[Sight, Sight]] = {}
    for operation in found:
        pair = [_sight(found, seen, operation, along, image[along].size) for along in (ROWS, COLS)]
        seen[operation.name] = (pair[0], pair[1])
    return seen


def _sight(
    found: Graph,
    seen: Mapping[str, tuple[Sight, Sight]],
    operation: Operation,
    along: int,
    size: int,
) -> Sight:
    if operation.kind == "input":
        places = np.arange(size)
        return Sight(along, places, places)
    whole = Sight(None, np.array([0]), np.array([size - 1]))
    given = [name for name in operation.inputs if found[name].kind != "parameter"]
    if not given:
        return whole
    inputs = [seen[name][along - 1] for name in given]
    first, shapes = inputs[0], [found[name].shape for name in given]
    if operation.kind == "slice":
        # What was put side by side is apart again: each part sees what it saw.
        parts = next(each for each in _path_to(found, operation.name) if each.kind == "concatenate")
        return seen[parts.inputs[operation.settings["start"] > 0]][along - 1]
    if first.axis is None or operation.kind in EVERYWHERE or _gathers(operation, first.axis):
        return whole
    if operation.kind == "concatenate" and operation.settings["axis"] != CHANNELS:
        return whole
    if operation.kind in CORRELATED:
        return _correlated(first, operation, shapes[0][first.axis].size)
    if operation.kind == "swap_axes":
        one, other = (AXES.index(axis) for axis in operation.settings["axes"])
        turned = {one: other, other: one}
        return Sight(turned.get(first.axis, first.axis), first.low, first.high)
    if operation.kind == "head_part":
        _, rows, cols = (extent.size for extent in shapes[0])
        by_row, by_col = (np.arange(rows * cols) // cols, np.arange(rows * cols) % cols)
        place = by_row if along == ROWS else by_col
        return Sight(1, first.low[place], first.high[place])
    if operation.kind == "nearest":
        rows = operation.shape[first.axis].size
        nearest = np.arange(rows) * len(first.low) // rows
        return Sight(first.axis, first.low[nearest], first.high[nearest])
    return _united(inputs, whole)


def _path_to(found: Graph, name: str) -> list[Operation]:
    """The operations that led to one, along first inputs, the nearest first."""
    chain = []
    while found[name].inputs:
        name = found[name].inputs[0]
        chain.append(found[name])
    return chain


def _gathers(operation: Operation, axis: int) -> bool:
    """Whether it makes one value of all places along an axis of its input."""
    if operation.kind in ("average", "maximum"):
        return AXES[axis] in operation.settings["axes"]
    if operation.kind != "convolution" or axis == 0:
        return False
    # A kernel as large as the map, without a margin.
    return operation.shape[axis].formula == "1" and operation.settings["kernel"][axis - 1] > 1


def _correlated(sight: Sight, operation: Operation, size: int) -> Sight:
    """Behind a window that moves over the map: what lies outside of the map adds nothing."""
    reach, step, margin = window(operation, sight.axis or 0)
    count = operation.shape[sight.axis or 0].size
    starts = np.arange(count) * step - margin
    dilation = operation.settings.get("dilation", 1)
    # The taps that lie on the map.
    first = starts + -(np.minimum(starts, 0) // dilation) * dilation
    last = starts + np.minimum((size - 1 - starts) // dilation * dilation, reach - 1)
    return Sight(sight.axis, sight.low[first], sight.high[last])


def window(operation: Operation, axis: int) -> tuple[int, int, int]:
    """Length (from the first tap to the last), stride and padding, in pixels, along an axis (1:
    rows, 2: columns).
    """
    settings, side = operation.settings, axis - ROWS
    if operation.kind == "average_around":
        extent = settings["extent"]
        return 2 * extent - 1, extent, extent - 1
    dilation = settings.get("dilation", 1)
    return (
        dilation * (settings["kernel"][side] - 1) + 1,
        settings["stride"][side],
        settings["padding"][side],
    )


def _united(inputs: list[Sight], whole: Sight) -> Sight:
    if any(sight.axis is None for sight in inputs):
        return whole
    low, high = inputs[0].low, inputs[0].high
    for sight in inputs[1:]:
        low, high = np.minimum(low, sight.low), np.maximum(high, sight.high)
    return Sight(inputs[0].axis, low, high)


def receptive_fields(found: Graph) -> dict[str, tuple[int | None, int | None]]:
    """Rows and columns of the image that a value of each operation's output sees at most, if the
    image is large enough.

    None where it sees all of them, whatever the image's size.
    """
    return _far(found.config)


@lru_cache(maxsize=256)
def _far(config: Config) -> dict[str, tuple[int | None, int | None]]:
    """From an image so large that no border comes near its middle."""
    side = 64
    while True:
        seen = sights(graph(config, (side, side)))
        widths = [
            sight.widest for pair in seen.values() for sight in pair if sight.axis is not None
        ]
        if max(widths) * 4 <= side:
            return {name: (_widest(rows), _widest(cols)) for name, (rows, cols) in seen.items()}
        side *= 4


def _widest(sight: Sight) -> int | None:
    return None if sight.axis is None else sight.widest


# What an operation's slopes are computed from: "inputs", "first" of them, its "output", or nothing.
KEPT_FOR = {
    "convolution": "first",
    "convolution_1d": "first",
    "linear": "first",
    "relative_positions": "first",
    "batch_norm": "first",
    "layer_norm": "first",
    "hard_sigmoid": "first",
    "hard_swish": "first",
    "max_pool": "first",
    "square": "first",
    "relu": "output",
    "sigmoid": "output",
    "softmax": "output",
    "product": "inputs",
    "quotient": "inputs",
    "greater": "inputs",
    "matrix_product": "inputs",
    "attention": "first",
}


def kept(found: Graph) -> tuple[str, ...]:
    """The operations whose outputs the gradients are computed from, each once, in the order of
    execution.

    What PyTorch keeps, but for copies in another memory order; a compiler may compute some of it a
    second time instead. Not counted: the indices of maxima, and the means and deviations of norms.
    """
    names: set[str] = set()
    for operation in found:
        what = KEPT_FOR.get(operation.kind, "")
        names |= set(
            {
                "inputs": operation.inputs,
                "first": operation.inputs[:1],
                "output": (operation.name,),
            }.get(what, ())
        )
    held = {_viewed(found, name) for name in names}
    return tuple(operation.name for operation in found if operation.name in held)


def _viewed(found: Graph, name: str) -> str:
    """The operation whose numbers it shows, in another order or in part: itself, if it made numbers
    of its own.
    """
    while found[name].kind in ("head_part", "slice", "swap_axes"):
        name = found[name].inputs[0]
    return name


def training_numbers(found: Graph) -> int:
    """How many numbers `kept` has, for one image."""
    return sum(found[name].numbers for name in kept(found))


def peak(found: Graph) -> tuple[int, str]:
    """The greatest number of activations held at once in evaluation, for one image, and the
    operation that is running then.

    An output is held from its operation to the last that takes it; nothing is fused or overwritten.
    """
    last = {name: place for place, operation in enumerate(found) for name in operation.inputs}
    held: dict[str, int] = {}
    greatest, where = 0, ""
    for place, operation in enumerate(found):
        held[operation.name] = operation.numbers
        if sum(held.values()) > greatest:
            greatest, where = sum(held.values()), operation.name
        held = {name: count for name, count in held.items() if last.get(name, place) > place}
    return greatest, where


def biases(found: Graph) -> tuple[str, ...]:
    """The convolutions that have a bias."""
    return tuple(operation.name for operation in found if operation.settings.get("bias"))

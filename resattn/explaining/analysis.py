"""What follows from a graph: receptive fields and the memory of activations.

Everything is computed from `weights.graph.Graph`. No framework is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weights.checks import Pair
from weights.config import BlockConfig
from weights.graph import Graph, OperationGraph, graph
from weights.operations import AXES, CHANNELS, Operation

ROWS, COLS = 1, 2
BLUR = (3, 3)  # the filter of blur_pool
NOWHERE = 2**40  # the first row that a place of padding sees; the last is -1
WINDOWS = (
    "convolution",
    "max_pool",
    "average_pool",
    "blur_pool",
    "subsample",
    "pad",
    "average_around",
)
# Every output of these sees the whole image. A module that is not opened may do so, too.
EVERYWHERE = ("matrix_product", "softmax", "relative_positions", "linear", "attention")

Field = tuple[int | None, int | None]  # rows and columns of the image, None for all of them


@dataclass(frozen=True)
class Sight:
    """Which rows (or columns) of the image each output of an operation sees.

    axis: the axis of the output along which this differs, or None if every output sees the whole
    image. low, high: for each place along that axis the first and the last row seen, inclusive.
    """

    axis: int | None
    low: np.ndarray
    high: np.ndarray

    @property
    def widest(self) -> int:
        return int((self.high - self.low).max()) + 1


def find_sights(found: Graph) -> dict[str, tuple[Sight, Sight]]:
    """What the outputs of each operation see, by its name: rows and columns inside the image."""
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
    first, shape = inputs[0], found[given[0]].shape
    if operation.kind == "slice":
        # A part of a concatenation sees what it saw before.
        joined = next(
            each for each in _path_to(found, operation.name) if each.kind == "concatenate"
        )
        return seen[joined.inputs[operation.settings["start"] > 0]][along - 1]
    if first.axis is None or operation.kind in EVERYWHERE or _reduces(operation, first.axis):
        return whole
    if operation.kind == "concatenate" and operation.settings["axis"] != CHANNELS:
        return whole
    if operation.kind in WINDOWS:
        return _through_window(first, operation, shape[first.axis].size)
    if operation.kind == "swap_axes":
        one, other = (AXES.index(axis) for axis in operation.settings["axes"])
        swapped = {one: other, other: one}
        return Sight(swapped.get(first.axis, first.axis), first.low, first.high)
    if operation.kind == "head_part":
        _, rows, cols = (extent.size for extent in shape)
        by_row, by_col = (np.arange(rows * cols) // cols, np.arange(rows * cols) % cols)
        place = by_row if along == ROWS else by_col
        return Sight(1, first.low[place], first.high[place])
    if operation.kind == "nearest":
        rows = operation.shape[first.axis].size
        nearest = np.arange(rows) * len(first.low) // rows
        return Sight(first.axis, first.low[nearest], first.high[nearest])
    return _unite(inputs, whole)


def _path_to(found: Graph, name: str) -> list[Operation]:
    """The operations that lead to one, along first inputs, the nearest first."""
    chain = []
    while found[name].inputs:
        name = found[name].inputs[0]
        chain.append(found[name])
    return chain


def _reduces(operation: Operation, axis: int) -> bool:
    """Whether it makes one value of all places along an axis of its input."""
    if operation.kind in ("average", "maximum"):
        return AXES[axis] in operation.settings["axes"]
    if operation.kind != "convolution" or axis == 0:
        return False
    # A kernel as large as the map, without padding.
    return operation.shape[axis].formula == "1" and bool(operation.settings["kernel"][axis - 1] > 1)


def _through_window(sight: Sight, operation: Operation, size: int) -> Sight:
    """What a window sees that moves over a map of that size. Outside the map it sees nothing; a
    reflected edge shows it what it sees anyway.
    """
    reach, step, margin = window(operation, sight.axis or 0)
    count = operation.shape[sight.axis or 0].size
    low, high = np.full(count, NOWHERE), np.full(count, -1)
    for tap in range(0, reach, operation.settings.get("dilation", 1)):
        places = np.arange(count) * step - margin + tap
        inside = (places >= 0) & (places < size)
        low[inside] = np.minimum(low[inside], sight.low[places[inside]])
        high[inside] = np.maximum(high[inside], sight.high[places[inside]])
    return Sight(sight.axis, low, high)


def window(operation: Operation, axis: int) -> tuple[int, int, int]:
    """Length, stride and padding of a window along an axis (1: rows, 2: columns), in pixels.

    The length counts from the first tap to the last.
    """
    settings, side = operation.settings, axis - ROWS
    if operation.kind == "average_around":
        extent = settings["extent"]
        return 2 * extent - 1, extent, extent - 1
    dilation = settings.get("dilation", 1)
    return (
        dilation * (_kernel(operation)[side] - 1) + 1,
        settings.get("stride", (1, 1))[side],
        margins(operation, axis)[0],
    )


def _kernel(operation: Operation) -> Pair:
    """That of the operation; of one that only moves or drops pixels 1 x 1."""
    fixed = BLUR if operation.kind == "blur_pool" else (1, 1)
    kernel: Pair = operation.settings.get("kernel", fixed)
    return kernel


def margins(operation: Operation, axis: int) -> Pair:
    """What a window operation pads before and after an axis (1: rows, 2: columns), in pixels."""
    settings, side = operation.settings, axis - ROWS
    if operation.kind == "pad":
        return settings["before"][side], settings["after"][side]
    if operation.kind == "blur_pool":
        return 1, 1
    if operation.kind == "subsample":  # its settings before and after count channels
        return 0, 0
    before = settings.get("padding", (0, 0))
    return before[side], settings.get("after", before)[side]


def _unite(inputs: list[Sight], whole: Sight) -> Sight:
    if any(sight.axis is None for sight in inputs):
        return whole
    low, high = inputs[0].low, inputs[0].high
    for sight in inputs[1:]:
        low, high = np.minimum(low, sight.low), np.maximum(high, sight.high)
    return Sight(inputs[0].axis, low, high)


def receptive_fields(found: Graph) -> dict[str, Field]:
    """How many rows and columns of a large image one output of each operation sees at most.

    None where it sees all of them, whatever the size of the image.
    """
    side = 64
    while True:  # until no border comes near the middle of the image
        seen = find_sights(graph(found.config, (side, side)))
        widths = [
            sight.widest for pair in seen.values() for sight in pair if sight.axis is not None
        ]
        if max(widths) * 4 <= side:
            return {name: (_widest(rows), _widest(cols)) for name, (rows, cols) in seen.items()}
        side *= 4


def _widest(sight: Sight) -> int | None:
    return None if sight.axis is None else sight.widest


def last_map(found: Graph) -> str:
    """The last operation whose output is a map: in a network the one in front of the head."""
    if isinstance(found.config, BlockConfig):
        return found.output
    return found["global_average"].inputs[0]


def field_without_attention(found: Graph) -> Field:
    """The receptive field of the same model without attention."""
    values = {**found.config.to_dict(), "attention": "none", "attention_options": None}
    bare = graph(type(found.config).from_dict(values), found.size)
    return receptive_fields(bare)[last_map(bare)]


# What the gradients of an operation are computed from: its "inputs", the "first" of them, its
# "output", or nothing.
KEPT_FOR = {
    "convolution": "first",
    "convolution_1d": "first",
    "linear": "first",
    "relative_positions": "first",
    "batch_norm": "first",
    "group_norm": "first",
    "layer_norm": "first",
    "hard_sigmoid": "first",
    "hard_swish": "first",
    "max_pool": "first",
    "square": "first",
    "function": "first",
    "scale": "first",
    "standardize": "first",
    "relu": "output",
    "sigmoid": "output",
    "softmax": "output",
    "product": "inputs",
    "quotient": "inputs",
    "greater": "inputs",
    "matrix_product": "inputs",
    "attention": "first",
}


def list_kept(found: OperationGraph) -> tuple[str, ...]:
    """The operations whose outputs are kept for the gradients, in the order of execution.

    Each is listed once. This is what PyTorch keeps, except copies in another memory order; a
    compiler may compute some of it again instead. The indices of maxima and the means and
    deviations of norms are not counted.
    """
    names: set[str] = set()
    for operation in found:
        kept = {
            "inputs": operation.inputs,
            "first": operation.inputs[:1],
            "output": (operation.name,),
        }
        names |= set(kept.get(KEPT_FOR.get(operation.kind, ""), ()))
    sources = {_source(found, name) for name in names}
    return tuple(operation.name for operation in found if operation.name in sources)


def _source(found: OperationGraph, name: str) -> str:
    """The operation that computed the numbers of an output. A view has those of its input."""
    while _is_view(found, name):
        name = found[name].inputs[0]
    return name


def _is_view(found: OperationGraph, name: str) -> bool:
    operation = found[name]
    if operation.kind == "nearest":  # one position is expanded, more of them are copied
        return all(extent.size == 1 for extent in found[operation.inputs[0]].shape[1:])
    return operation.kind in ("head_part", "slice", "swap_axes")


def training_numbers(found: OperationGraph) -> int:
    """How many numbers `list_kept` has, for one image."""
    return sum(found[name].numbers for name in list_kept(found))


def peak(found: OperationGraph) -> tuple[int, str]:
    """The greatest number of activations at once in evaluation, for one image, and where it is.

    An output is kept from its operation to the last one that reads it. Nothing is fused or
    overwritten.
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


def biases(found: OperationGraph) -> tuple[str, ...]:
    """The operations that have a bias."""
    return tuple(operation.name for operation in found if operation.settings.get("bias"))

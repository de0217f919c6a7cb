"""A reading as a graph of operations: what a live model of anybody's executes, as `weights.graph`
has it for a config.

The names of the operations are the model's own: the path of the module whose parameters take part,
and for a function the module that calls it, "layer1.0.relu 2".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isqrt, prod
from typing import Any

from resattn.reading.form import Axis, Origin, label_of, size_of
from resattn.reading.kinds import KindOfStep, kind_of, offsets_first
from resattn.reading.reading import Failure, Reading
from resattn.reading.steps import CommonStep
from weights.checks import Pair
from weights.errors import ArgumentError
from weights.graph import IMAGE, OperationGraph
from weights.operations import AXES, Operation, Shape, fixed
from weights.parameters import ROLES, Parameter, Parameters
from weights.stages import numbered

ROLES_OF_KERNELS = {
    "convolution": "convolution kernel",
    "convolution_1d": "1-d convolution kernel",
    "linear": "linear kernel",
}
ROLES_OF_BIASES = {"convolution": "convolution bias", "linear": "linear bias"}
ROLES_OF_NORMS = {
    "weight": "norm scale",
    "bias": "norm offset",
    "mean": "norm mean",
    "variance": "norm variance",
}


@dataclass(frozen=True)
class OwnParameter(Parameter):
    """A parameter of a model of a user's own.

    own: its name in the model. role: "" if it is not known what it does in its layer; it then has
    no names of axes and counts as trained.
    """

    own: str = ""

    def __post_init__(self) -> None:
        """A model of a user's own may have any shape."""

    @property
    def leaf(self) -> str:
        return self.own.rpartition(".")[2]

    @property
    def name(self) -> str:
        return self.own

    @property
    def axes(self) -> str:
        return ROLES[self.role].axes if self.role else ""

    @property
    def trainable(self) -> bool:
        return not self.role or ROLES[self.role].trainable


@dataclass(frozen=True)
class ExecutedGraph(OperationGraph):
    """The operations that a live model executes, in order, for images of one size.

    framework, title, failure: as in `Reading`. origins: where each operation comes from, by its
    name. unused: the arrays of the model that no operation uses.
    Shapes are numbers, those of the axes channels, rows and cols in this order, wherever the model
    has them. Where the model failed, the last operation is of the kind "failure".
    """

    framework: str = ""
    title: str = ""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    failure: Failure | None = None
    unused: tuple[str, ...] = ()


def execute(reading: Reading) -> ExecutedGraph:
    """The graph of a reading."""
    reading = _join_failure(reading)
    sizes = {name: tuple(array.shape) for name, array in reading.arrays.items()}
    names = _name_steps(reading, sizes)
    operations: dict[str, Operation] = {}
    used: set[str] = set()
    for step in reading.steps:
        kind, settings = _kind_in(reading, step, sizes)
        name = names[id(step)]
        held = _list_parameters(step, kind, settings, sizes)
        given = [operations[names[id(each)]] for each in step.inputs]
        shape = shape_of(step, reading.framework == "torch")
        if kind in ("pad", "subsample"):
            shape = _shape_of_move(given[0], kind, settings)
        if kind == "relative_positions":
            shape = _shape_of_positions(given[0], settings["size"])
        operations[name] = Operation(
            name,
            kind,
            tuple(each.name for each in given),
            shape,
            step.module,
            settings,
            tuple(each for each in held if each.name not in used),
            _count_products(step, kind, shape, given, held),
        )
        used |= {each.name for each in held}
    origins = {names[id(step)]: step.origin for step in reading.steps}
    unused = tuple(name for name, size in sizes.items() if size and name not in used)
    return ExecutedGraph(
        tuple(operations.values()),
        reading.framework,
        reading.title,
        origins,
        reading.failure,
        unused,
    )


def check_unsaid(read_for: Pair, **options: Any) -> None:
    """Raises ArgumentError for an option that is given for a model that was read.

    read_for: (height, width) of its images.
    """
    for name, value in options.items():
        if value is not None:
            rows, cols = read_for
            raise ArgumentError(
                f"{name}: is for a config, but this model was read, for images of {rows} x {cols}; "
                "read it again for another size, and leave this out"
            )


def _join_failure(reading: Reading) -> Reading:
    """A sum in place (y += x) may be among the steps although it failed. It and what says that it
    failed are one step.
    """
    if reading.failure is None:
        return reading
    *steps, last = reading.steps
    for given in last.inputs:
        others = {each for each in last.inputs if each is not given}
        if given.op == reading.failure.operation and others and others <= {*given.inputs}:
            joined = replace(last, inputs=given.inputs)
            return replace(reading, steps=(*(each for each in steps if each is not given), joined))
    return reading


def _kind_in(
    reading: Reading, step: CommonStep, sizes: Mapping[str, tuple[int, ...]]
) -> KindOfStep:
    if reading.failure is not None and step is reading.steps[-1]:
        return "failure", {"operation": reading.failure.operation}
    return kind_of(step, sizes)


# Names


def _name_steps(reading: Reading, sizes: Mapping[str, tuple[int, ...]]) -> dict[int, str]:
    """The name of each step, by its id."""
    holders = _find_holders(reading.steps)
    names: dict[int, str] = {}
    taken: set[str] = set()
    for step in reading.steps:
        kind, settings = _kind_in(reading, step, sizes)
        what = str(settings.get("function") or settings.get("primitive") or kind)
        path = step.module if step.module else holders.get(step.origin.module, "")
        name = path or f"{step.origin.module}.{what}".strip(".")
        if kind in ("input", "failure"):
            name = IMAGE if kind == "input" else settings["operation"] or kind
        names[id(step)] = numbered(name, taken)
        taken.add(names[id(step)])
    return names


def _find_holders(steps: Sequence[CommonStep]) -> dict[str, str]:
    """The modules that are one function, such as torch.nn.ReLU: their steps have their names."""
    inside: dict[str, set[str]] = {}
    for step in steps:
        inside.setdefault(step.module or step.origin.module, set()).add(step.op)
    return {
        path: path
        for path, ops in inside.items()
        if path and len(ops) == 1 and not any(each.startswith(f"{path}.") for each in inside)
    }


# Shapes


def shape_of(step: CommonStep, channels_first: bool) -> Shape:
    """The shape of the values of a step for one image, in the order channels, rows, cols where the
    axes have these names, and else as executed.

    channels_first: whether the framework has channels before rows and cols.
    """
    axes = list(step.axes[1:])
    labels = [label_of(axis) for axis in axes]
    known = [label for label in labels if label in AXES]
    if not known and not channels_first and len(axes) == len(AXES):
        axes = [axes[-1], *axes[:-1]]
    merged = any("/" in label for label in labels)
    if len(axes) > len(AXES) or len(known) > len({*known}) or merged or not known:
        return tuple(fixed(size_of(axis)) for axis in axes)
    return _order_axes(axes, labels)


def _order_axes(axes: Sequence[Axis], labels: Sequence[str]) -> Shape:
    """Every named axis in its place, the others in the places that are left, in their order."""
    count = len(axes)
    others = [size_of(axis) for axis, label in zip(axes, labels, strict=True) if label not in AXES]
    if count < len(AXES):
        named = {label: size_of(axis) for axis, label in zip(axes, labels, strict=True)}
        ordered = [named[name] for name in AXES if name in named]
        return tuple(map(fixed, [*ordered, *others]))
    wide = [size for size in others if size > 1]
    narrow = [1] * (len(others) - len(wide))
    rest = iter([*wide, *narrow])
    placed = []
    for name in AXES:
        if name in labels:
            placed.append(size_of(axes[labels.index(name)]))
        else:
            placed.append(next(rest))
    return tuple(map(fixed, placed))


def _shape_of_move(given: Operation, kind: str, settings: Mapping[str, Any]) -> Shape:
    """The shape of a padded map, or of one that positions are dropped from."""
    channels, *sides = (extent.size for extent in given.shape)
    if kind == "pad":
        margins = zip(sides, settings["before"], settings["after"], strict=True)
        return tuple(map(fixed, (channels, *map(sum, margins))))
    kept = (-(-size // step) for size, step in zip(sides, settings["stride"], strict=True))
    added = settings["before"] + settings["after"]
    return tuple(map(fixed, (channels + added, *kept)))


# Parameters and costs


def _list_parameters(
    step: CommonStep,
    kind: str,
    settings: Mapping[str, Any],
    sizes: Mapping[str, tuple[int, ...]],
) -> Parameters:
    """The parameters that take part in a step."""
    if step.held is None:
        return ()
    role_of = {name: role for role, name in step.roles.items()}
    shapes = {name: sizes.get(name, ()) for name in step.held.names}
    if kind == "relative_positions":
        feature = size_of(step.inputs[0].axes[-1])
        shapes = {name: offsets_first(shape, feature) for name, shape in shapes.items()}
        role_of = _roles_of_tables(shapes, settings["size"])
    order = {name: place for place, name in enumerate(sizes)}
    names = sorted(shapes, key=lambda name: order.get(name, len(order)))
    return tuple(
        OwnParameter(step.module, _find_role(kind, role_of.get(name, ""), step), shapes[name], name)
        for name in names
    )


def _roles_of_tables(tables: Mapping[str, tuple[int, ...]], size: Pair) -> dict[str, str]:
    """Which table of relative positions is for rows. It is not known for as many rows as cols."""
    rows, cols = size
    if rows == cols:
        return {}
    words = {2 * rows - 1: "row", 2 * cols - 1: "column"}
    return {name: words[shape[0]] for name, shape in tables.items()}


def _find_role(kind: str, role: str, step: CommonStep) -> str:
    """The role of `weights.parameters`, "" if it is not known."""
    if kind == "convolution" and role == "weight" and step.op == "depthwise convolution":
        return "depthwise kernel"
    if kind in ROLES_OF_KERNELS:
        return {
            "weight": ROLES_OF_KERNELS[kind],
            "bias": ROLES_OF_BIASES.get(kind, "convolution bias"),
        }.get(role, "")
    if kind == "relative_positions":
        return f"{role} offsets" if role in ("row", "column") else ""
    if kind in ("batch_norm", "group_norm", "layer_norm", "scale"):
        return ROLES_OF_NORMS.get(role, "")
    return ""


def _shape_of_positions(query: Operation, size: Pair) -> Shape:
    """Logits of relative positions: (heads, here, there). The query is (heads, here, feature)."""
    here, feature = prod(size), query.shape[-1].size
    return tuple(map(fixed, (query.numbers // (here * feature), here, here)))


def _count_products(
    step: CommonStep,
    kind: str,
    shape: Shape,
    given: Sequence[Operation],
    held: Parameters,
) -> int:
    """The multiply-adds for one image."""
    count = prod(extent.size for extent in shape)
    kernels = [each.shape for each in held if len(each.shape) > 1]
    if kind in ("convolution", "convolution_1d", "linear") and kernels:
        return count * prod(kernels[0][1:])
    if kind == "relative_positions":
        return given[0].numbers * sum((table[0] + 1) // 2 for table in kernels)
    if kind == "matrix_product" and len(given) == 2:
        # (b m k) x (b k n) -> (b m n), so k² = |x| |y| / (|out| b).
        batches = prod(size_of(axis) for axis in step.primitives[0].axes[1:-2])
        squared = given[0].numbers * given[1].numbers // (count * batches)
        return count * isqrt(squared)
    return 0

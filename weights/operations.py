"""What models compute, as data: operations with a kind and settings, and a builder that adds them.

A kind is a name, a setting a number or a name: sentences are made where they are shown, in the
language asked for. `resattn.oracle` computes each kind, `resattn.explaining` tells it and
`resattn.drawing` draws it.

| kind | settings | output |
| --- | --- | --- |
| input | | the image |
| convolution | kernel, stride, padding, dilation, groups, bias | |
| convolution_1d | kernel, padding (zero, circular) | over the channels of a 1 x 1 map |
| linear | bias | |
| pad | before, after | zeros around the map, (height, width) |
| batch_norm | eps, decay | |
| group_norm | groups, eps | over the positions and channels of each group |
| layer_norm | eps | over the channels of each position |
| flatten | | the channels of a 1 x 1 map |
| relu, sigmoid, hard_sigmoid, hard_swish, square | | value by value |
| softmax | | over the last axis |
| average, maximum | axes | the axes stay with size 1 |
| average_around | extent | the mean of the pixels less than extent away, those that are there |
| max_pool | kernel, stride, padding, after | after: padding at the end, where it differs |
| average_pool | kernel, stride, after | of the pixels that are there |
| blur_pool | stride | 3x3 binomial filter, the image reflected at its edges |
| subsample | stride, before, after | every stride-th pixel; channels of zeros before and after |
| nearest | | row r of n reads row floor(r m / n) of m |
| concatenate | axis | |
| slice | axis, start | as long as the output's axis |
| head_part | part, parts, heads | (heads, positions, feature), from channels (part head feature) |
| swap_axes | axes | |
| matrix_product | equation | of named axes; rows and cols count as one axis, the positions |
| relative_positions | size | logits of (heads, here, there), by distance |
| sum, product, difference, quotient, greater | | of the inputs, broadcast |
| affine | factor, offset | factor x + offset |
| bessel | count | times n / (n - 1): a variance of n values, now unbiased |
| parameter | parameter | the parameter of that name, without inputs |
| attention | attention, options | a whole module, not opened |

Graphs that are read from a user's own model have these kinds, too. The oracle has none of them.

| kind | settings | output |
| --- | --- | --- |
| function | function | value by value, by the name of the function: gelu, silu, tanh |
| scale | | the input times parameters, or plus parameters, or both |
| standardize | eps | mean 0 and variance 1 |
| total | axes | the sum over axes; they stay with size 1 |
| part | part, parts | one of several parts of an axis, counted from 0 |
| unknown | primitive | nothing else in these tables; primitive: what the framework calls it |
| failure | operation | the operation that the model cannot compute |

In such a graph a convolution or a pooling may also have `after` (the padding at the end, where it
differs) and `along` (the axes that its window moves along, where they are not rows and cols). A
pooling may have `counts_padding`, where the zeros around the map count, and an average_pool
`padding`. A batch_norm has no decay.

An operation with parameters names their module; roles say which parameters those are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil, prod
from typing import Any

from weights.checks import SAME, Pair
from weights.parameters import Parameter, Parameters
from weights.stages import numbered

CHANNELS, ROWS, COLS = AXES = ("channels", "rows", "cols")
GATES = ("sigmoid", "hard_sigmoid")
ELEMENTWISE = ("relu", "sigmoid", "hard_sigmoid", "hard_swish", "square")


@dataclass(frozen=True)
class Extent:
    """The length of an axis: as a formula of the image's H and W, and as a number."""

    formula: str
    size: int

    def strided(self, stride: int) -> "Extent":
        """Divided by a stride and rounded up, as by an odd kernel that is padded by half of it."""
        if stride == 1:
            return self
        size = ceil(self.size / stride)
        return Extent(_divide(self.formula, stride, "⌈⌉", size), size)

    def floored(self, stride: int) -> "Extent":
        """Divided by a stride and rounded down."""
        if stride == 1:
            return self
        size = self.size // stride
        return Extent(_divide(self.formula, stride, "⌊⌋", size), size)

    def divided(self, stride: int, up: bool) -> "Extent":
        """Divided by a stride and rounded, up or down."""
        return self.strided(stride) if up else self.floored(stride)

    def plus(self, other: "Extent") -> "Extent":
        return Extent(f"{self.formula} + {other.formula}", self.size + other.size)

    def times(self, other: "Extent") -> "Extent":
        if self.formula == "1" == other.formula:
            return fixed(self.size * other.size)
        return Extent(f"{self.formula}·{other.formula}", self.size * other.size)


def _divide(formula: str, stride: int, brackets: str, size: int) -> str:
    """A formula divided and rounded. brackets: those of the rounding. size: of the result."""
    if formula.isdigit() or " " in formula:  # sums are not written as quotients
        return str(size)
    name, _, by = formula[1:-1].rpartition("/")
    if formula[0] + formula[-1] == brackets and by.isdigit():
        # ceil(ceil(n / a) / b) is ceil(n / (a b)), and so with floor.
        formula, stride = name, int(by) * stride
    return f"{brackets[0]}{formula}/{stride}{brackets[1]}"


def same_padding(size: int, reach: int, stride: int) -> Pair:
    """The padding before and after an axis by TensorFlow's rule SAME: as many windows as size /
    stride, rounded up; of an odd number of pixels the last is after it.

    size: of the axis. reach: of the window, dilation included. Source: TensorFlow's documentation
    of tf.nn, "Notes on padding".
    """
    total = max((ceil(size / stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def fixed(size: int) -> Extent:
    """A length that no image changes."""
    return Extent(str(size), size)


Shape = tuple[Extent, ...]  # without the batch: (channels, rows, cols) for maps


@dataclass(frozen=True)
class Operation:
    """One operation.

    name: of its stage, under which models record it. kind: what it computes. inputs: the names of
        the operations whose outputs it takes, in order.
    shape: of its output for one image. module: whose parameters it uses, "" if none.
    settings: kernel, stride and so on.
    parameters: those that it holds; an operation that uses a module a second time holds none.
    multiply_adds: for one image.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: Shape
    module: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: Parameters = ()
    multiply_adds: int = 0

    @property
    def trainable(self) -> int:
        """How many numbers training moves."""
        return sum(prod(parameter.shape) for parameter in self.parameters if parameter.trainable)

    @property
    def statistics(self) -> int:
        """How many running statistics it holds."""
        return sum(
            prod(parameter.shape) for parameter in self.parameters if not parameter.trainable
        )

    @property
    def numbers(self) -> int:
        """How many numbers its output has for one image."""
        return prod(extent.size for extent in self.shape)

    @property
    def depthwise(self) -> bool:
        """Whether it is a convolution of each channel by itself."""
        return bool(self.settings.get("groups", 1) == self.shape[0].size > 1)


@dataclass(frozen=True)
class Builder:
    """Adds operations, in the order of execution, to those that it has.

    parameters: of the model, by module. scope: the module in which names are looked up and given:
    in the scope "attention" the operation "fc1" is called "attention.fc1", and "" is the module's
    own output. Methods take the names of the inputs and return the name of the output.
    """

    parameters: Mapping[str, Parameters]
    scope: str = ""
    operations: dict[str, Operation] = field(default_factory=dict)
    users: dict[str, str] = field(default_factory=dict)  # of each module the first operation

    def within(self, scope: str) -> "Builder":
        """The same builder, in a module of this one."""
        return Builder(self.parameters, self.path(scope), self.operations, self.users)

    def path(self, name: str) -> str:
        return f"{self.scope}.{name}".strip(".")

    def shape(self, name: str) -> Shape:
        return self.operations[name].shape

    def held(self, module: str) -> Parameters:
        """The parameters of a module of this scope."""
        return self.parameters.get(self.path(module), ())

    def add(
        self,
        name: str,
        kind: str,
        *inputs: str,
        shape: Shape | None = None,
        module: str | None = None,
        multiply_adds: int = 0,
        **settings: Any,
    ) -> str:
        """Any operation. Without a shape it has its first input's.

        A second operation of a name is called "name 2".
        """
        unique = numbered(self.path(name), self.operations)
        shape = self.shape(inputs[0]) if shape is None else shape
        holder = "" if module is None else self.path(module)
        first = module is not None and self.users.setdefault(holder, unique) == unique
        held = self.held(module) if module is not None and first else ()
        self.operations[unique] = Operation(
            unique, kind, inputs, shape, holder, settings, held, multiply_adds
        )
        return unique

    def convolution(
        self,
        module: str,
        x: str,
        stride: Pair = (1, 1),
        padding: Pair | str = (0, 0),
        dilation: int = 1,
        groups: int = 1,
    ) -> str:
        """padding: "same" pads in an operation of its own, by what TensorFlow's rule says."""
        kernel = self.held(module)[0].shape
        _, rows, cols = self.shape(x)
        padded = padding == SAME
        if padded:
            x = self.pad_same(module, x, (kernel[2], kernel[3]), stride, dilation)
            padding = (0, 0)
        sides = []
        rest = zip((rows, cols), kernel[2:], stride, padding, strict=True)
        for extent, size, step, margin in rest:
            reach = dilation * (size - 1) + 1
            whole = margin == 0 and reach == extent.size > 1 and not padded
            sides.append(fixed(1) if whole else extent.strided(step))
        shape = (fixed(kernel[0]), *sides)
        settings: dict[str, Any] = {"kernel": kernel[2:], "stride": stride, "padding": padding}
        settings |= {"dilation": dilation, "groups": groups, "bias": len(self.held(module)) > 1}
        products = prod(extent.size for extent in shape) * prod(kernel[1:])
        return self.add(
            module,
            "convolution",
            x,
            shape=shape,
            module=module,
            multiply_adds=products,
            **settings,
        )

    def pad_same(self, module: str, x: str, kernel: Pair, stride: Pair, dilation: int = 1) -> str:
        """Zeros, as many as `same_padding` says."""
        channels, rows, cols = self.shape(x)
        reach = [dilation * (size - 1) + 1 for size in kernel]
        margins = [
            same_padding(extent.size, size, step)
            for extent, size, step in zip((rows, cols), reach, stride, strict=True)
        ]
        before, after = zip(*margins, strict=True)
        sides = (
            fixed(extent.size + sum(margin)) if any(margin) else extent
            for extent, margin in zip((rows, cols), margins, strict=True)
        )
        name = f"{module}.pad_same"
        return self.add(name, "pad", x, shape=(channels, *sides), before=before, after=after)

    def convolution_1d(self, module: str, x: str, padding: str) -> str:
        kernel = self.held(module)[0].shape[-1:]
        products = self.shape(x)[0].size * kernel[0]
        return self.add(
            module,
            "convolution_1d",
            x,
            module=module,
            multiply_adds=products,
            kernel=kernel,
            padding=padding,
        )

    def linear(self, module: str, x: str) -> str:
        features = self.held(module)[0].shape
        shape = (fixed(features[0]),)
        return self.add(
            module, "linear", x, shape=shape, module=module, multiply_adds=prod(features), bias=True
        )

    def batch_norm(self, module: str, x: str, eps: float, decay: float) -> str:
        """No operation where it is folded, and so has no parameters."""
        if not self.held(module):
            return x
        return self.add(module, "batch_norm", x, module=module, eps=eps, decay=decay)

    def group_norm(self, module: str, x: str, groups: int, eps: float) -> str:
        return self.add(module, "group_norm", x, module=module, groups=groups, eps=eps)

    def layer_norm(self, module: str, x: str, eps: float) -> str:
        return self.add(module, "layer_norm", x, module=module, eps=eps)

    def activation(self, kind: str, x: str, name: str | None = None) -> str:
        """One of `ELEMENTWISE`, under that name unless another is given."""
        return self.add(kind if name is None else name, kind, x)

    def bottleneck(self, x: str) -> str:
        """Two 1x1 convolutions with a relu between."""
        y = self.convolution("fc1", x)
        y = self.activation("relu", y)
        return self.convolution("fc2", y)

    def global_average(self, x: str, name: str = "global_average") -> str:
        return self.reduce("average", x, ROWS, COLS, name=name)

    def reduce(self, kind: str, x: str, *axes: str, name: str | None = None) -> str:
        """The average or the maximum over some axes."""
        shape = tuple(
            fixed(1) if axis in axes else extent
            for axis, extent in zip(AXES, self.shape(x), strict=True)
        )
        return self.add(kind if name is None else name, kind, x, shape=shape, axes=axes)

    def max_pool(
        self,
        name: str,
        x: str,
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        after: Pair | None = None,
        rounds_up: bool | None = None,
    ) -> str:
        """Sizes are divided by the stride: rounded up along a padded axis, else down.

        after: the padding at the end, where it is another than at the start. rounds_up: how sizes
        are rounded, where the padding at the start does not say it.
        """
        channels, rows, cols = self.shape(x)
        settings: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
        if after not in (None, padding):
            settings["after"] = after
        sides = (
            extent.divided(step, up=bool(margin) if rounds_up is None else rounds_up)
            for extent, step, margin in zip((rows, cols), stride, padding, strict=True)
        )
        return self.add(name, "max_pool", x, shape=(channels, *sides), **settings)

    def max_pool_same(self, name: str, x: str, kernel: Pair, stride: Pair) -> str:
        """Padded by TensorFlow's rule, see `same_padding`."""
        _, *sides = self.shape(x)
        margins = zip(sides, kernel, stride, strict=True)
        before, after = zip(*(same_padding(each.size, k, s) for each, k, s in margins), strict=True)
        return self.max_pool(name, x, kernel, stride, before, after, rounds_up=True)

    def max_pool_ceil(self, name: str, x: str, kernel: Pair, stride: Pair) -> str:
        """Without padding at the start; a last window may reach over the edge."""
        _, *sides = self.shape(x)
        margins = zip(sides, kernel, stride, strict=True)
        rows, cols = (-(each.size - k) % s for each, k, s in margins)
        return self.max_pool(name, x, kernel, stride, (0, 0), (rows, cols), rounds_up=False)

    def average_pool(self, name: str, x: str, stride: Pair, ceil: bool) -> str:
        """Windows of the size of the stride.

        ceil: whether an odd last row or column has a window of its own, over the pixels that are
            there; else it is dropped.
        """
        channels, *sides = self.shape(x)
        steps = list(zip(sides, stride, strict=True))
        shape = (channels, *(extent.divided(step, up=ceil) for extent, step in steps))
        after = tuple(-extent.size % step if ceil else 0 for extent, step in steps)
        return self.add(
            name, "average_pool", x, shape=shape, kernel=stride, stride=stride, after=after
        )

    def blur_pool(self, name: str, x: str, stride: Pair) -> str:
        channels, rows, cols = self.shape(x)
        sides = (extent.strided(step) for extent, step in zip((rows, cols), stride, strict=True))
        return self.add(name, "blur_pool", x, shape=(channels, *sides), stride=stride)

    def subsample(self, name: str, x: str, stride: Pair, channels: int) -> str:
        """channels: of the output; zeros are added on both sides, one more after if odd."""
        held, rows, cols = self.shape(x)
        added = channels - held.size
        sides = (extent.strided(step) for extent, step in zip((rows, cols), stride, strict=True))
        return self.add(
            name,
            "subsample",
            x,
            shape=(fixed(channels), *sides),
            stride=stride,
            before=added // 2,
            after=added - added // 2,
        )

    def softmax(self, x: str, shape: Shape | None = None) -> str:
        """Over the last axis. shape: of the output, where the positions of a map are to be one
        axis.
        """
        return self.add("softmax", "softmax", x, shape=shape)

    def concatenate(self, *parts: str, axis: str, shape: Shape) -> str:
        """Parts one after the other along an axis; their other axes are brought to those of
        `shape`.
        """
        return self.add("concatenate", "concatenate", *parts, shape=shape, axis=axis)

    def matrix_product(
        self, name: str, equation: str, *inputs: str, shape: Shape, summed: int
    ) -> str:
        """equation: "here feature, there feature -> here there". summed: the terms of each sum."""
        products = prod(extent.size for extent in shape) * summed
        return self.add(
            name,
            "matrix_product",
            *inputs,
            shape=shape,
            multiply_adds=products,
            equation=equation,
        )

    def parameter(self, module: str, leaf: str) -> str:
        """A parameter of a module as it is, its first axis the channels."""
        (held,) = (each for each in self.held(module) if each.leaf == leaf)
        shape = tuple(map(fixed, (*held.shape, 1, 1)[:3]))
        return self.add(leaf, "parameter", shape=shape, module=module, parameter=held.name)

    def product(self, name: str, x: str, gate: str) -> str:
        return self.add(name, "product", x, gate)

    def affine(self, name: str, x: str, factor: float = 1, offset: float = 0) -> str:
        """factor x + offset."""
        return self.add(name, "affine", x, factor=factor, offset=offset)


def by_module(parameters: Parameters) -> dict[str, Parameters]:
    """The parameters of each module, in their order."""
    held: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        held.setdefault(parameter.module, []).append(parameter)
    return {module: tuple(each) for module, each in held.items()}

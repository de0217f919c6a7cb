"""What a model computes, as a graph made from its config: the operations in the order of execution,
with shapes and costs.

The names are those under which models record their stages (`weights.stages`). `resattn explain`
and `resattn draw` tell and draw this graph; a test compares it with the graphs that the three
frameworks execute.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil, prod
from typing import Any

from weights.attention import ATTENTION, attention_parameters, gathered_steps
from weights.checks import Pair, pair_of
from weights.config import BlockConfig, Config, NetworkConfig
from weights.parameters import Parameter
from weights.schema import schema


@dataclass(frozen=True)
class Extent:
    """The length of an axis: as a formula of the image's H and W, and as a number."""

    formula: str
    size: int

    def strided(self, stride: int) -> "Extent":
        """Rounded up, as with an odd kernel padded by half of it."""
        if stride == 1:
            return self
        size = ceil(self.size / stride)
        if self.formula.isdigit():
            return Extent(str(size), size)
        # ceil(ceil(n / a) / b) is ceil(n / (a b)).
        name, _, by = self.formula.strip("⌈⌉").partition("/")
        return (
            Extent(f"⌈{name}/{int(by or 1) * stride}⌉", size)
            if name in ("H", "W")
            else Extent(str(size), size)
        )

    def plus(self, other: "Extent") -> "Extent":
        return Extent(f"{self.formula} + {other.formula}", self.size + other.size)

    def times(self, other: "Extent") -> "Extent":
        return (
            fixed(self.size * other.size)
            if self.formula == "1" == other.formula
            else Extent(f"{self.formula}·{other.formula}", self.size * other.size)
        )


def fixed(size: int) -> Extent:
    return Extent(str(size), size)


Shape = tuple[Extent, ...]  # without the batch: (channels, rows, cols) for maps


@dataclass(frozen=True)
class Operation:
    """One operation. name: of its stage. kind: what it computes. inputs: the operations whose
    outputs it takes, in order.

    shape: of its output for one image. module: whose parameters it holds, "" if none. settings:
        kernel, stride and so on.
    parameters: those it holds. multiply_adds: for one image.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: Shape
    module: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    multiply_adds: int = 0

    @property
    def trainable(self) -> int:
        return sum(prod(parameter.shape) for parameter in self.parameters if parameter.trainable)

    @property
    def statistics(self) -> int:
        return sum(
            prod(parameter.shape) for parameter in self.parameters if not parameter.trainable
        )

    @property
    def numbers(self) -> int:
        """How many numbers its output has for one image."""
        return prod(extent.size for extent in self.shape)


@dataclass(frozen=True)
class Graph:
    """The operations in the order of execution; the first, "input", is the image. output: the name
    of the last.
    """

    config: Config
    operations: tuple[Operation, ...]

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __getitem__(self, name: str) -> Operation:
        return next(operation for operation in self.operations if operation.name == name)

    @property
    def output(self) -> str:
        return self.operations[-1].name


def graph(config: Config, size: Pair, opened: bool = True) -> Graph:
    """The graph of a block or a network for images of that size (height, width).

    opened: whether attention modules are shown step by step or as one operation of the kind
    "attention". Kinds of a user's own are always one. Raises ValueError for a size that the config
    cannot take.
    """
    rows, cols = pair_of("size", size)
    builder = _Builder(config, opened)
    image = builder.add(
        "input", "input", (), (fixed(config.in_channels), Extent("H", rows), Extent("W", cols))
    )
    if isinstance(config, NetworkConfig):
        _network(builder, config, image)
    else:
        _block(builder, "", config, image)
    return Graph(config, tuple(builder.operations.values()))


def parameter_count(kind: str, channels: int, options: Mapping[str, Any]) -> int:
    """How many numbers an attention module trains. Raises what `attention_parameters` raises."""
    return sum(prod(p.shape) for p in attention_parameters(kind, channels, options) if p.trainable)


def multiply_adds(kind: str, channels: int, size: Pair, options: Mapping[str, Any]) -> int | None:
    """Those of an attention module, for one map of `size` (height, width); None for a kind of a
    user's own.

    Of the convolutions, linear layers and matrix products. Not counted, as is usual: pooling,
    activations, normalization, and the products with gates. Raises what `attention_parameters`
    raises.
    """
    attention_parameters(kind, channels, options)
    if kind not in OPENED:
        return None if kind != "none" else 0
    block = BlockConfig(channels, channels, 1, attention=kind, attention_options=options)
    return sum(
        operation.multiply_adds
        for operation in graph(block, size)
        if operation.name.startswith("attention")
    )


class _Builder:
    def __init__(self, config: Config, opened: bool):
        self.operations: dict[str, Operation] = {}
        self.opened = opened
        self.held: dict[str, list[Parameter]] = {}
        for parameter in schema(config):
            self.held.setdefault(parameter.module, []).append(parameter)

    def shape(self, name: str) -> Shape:
        return self.operations[name].shape

    def add(
        self,
        name: str,
        kind: str,
        inputs: tuple[str, ...],
        shape: Shape | None = None,
        module: str = "",
        multiply_adds: int = 0,
        **settings: Any,
    ) -> str:
        """A new operation; without a shape it has its first input's. A second one of a name is
        called "name 2".
        """
        number = 1
        while (unique := name if number == 1 else f"{name} {number}") in self.operations:
            number += 1
        shape = self.shape(inputs[0]) if shape is None else shape
        # What is used a second time holds its parameters the first time.
        used = any(operation.module == module for operation in self.operations.values())
        parameters = () if used else tuple(self.held.get(module, ()))
        self.operations[unique] = Operation(
            unique, kind, inputs, shape, module, settings, parameters, multiply_adds
        )
        return unique

    def convolution(
        self,
        module: str,
        x: str,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: int = 1,
        depthwise: bool = False,
    ) -> str:
        kernel = self.held[module][0].shape
        _, rows, cols = self.shape(x)
        reach = (dilation * (kernel[2] - 1) + 1, dilation * (kernel[3] - 1) + 1)
        sides = []
        for extent, size, step, margin in zip((rows, cols), reach, stride, padding, strict=True):
            whole = margin == 0 and size == extent.size > 1
            sides.append(fixed(1) if whole else extent.strided(step))
        shape = (fixed(kernel[0]), *sides)
        return self.add(
            module,
            "depthwise convolution" if depthwise else "convolution",
            (x,),
            shape,
            module,
            prod(extent.size for extent in shape) * prod(kernel[1:]),
            kernel=kernel[2:],
            stride=stride,
            padding=padding,
            dilation=dilation,
            bias=len(self.held[module]) > 1,
        )

    def batch_norm(self, module: str, x: str, eps: float, decay: float) -> str:
        return self.add(module, "batch norm", (x,), None, module, eps=eps, decay=decay)

    def bottleneck(self, scope: str, x: str) -> str:
        y = self.convolution(f"{scope}.fc1", x)
        y = self.add(f"{scope}.relu", "relu", (y,))
        return self.convolution(f"{scope}.fc2", y)

    def average(self, scope: str, x: str) -> str:
        return self.add(
            f"{scope}.global_average",
            "global average",
            (x,),
            (self.shape(x)[0], fixed(1), fixed(1)),
        )

    def reduced(self, name: str, kind: str, x: str, *axes: int) -> str:
        shape = tuple(
            fixed(1) if axis in axes else extent for axis, extent in enumerate(self.shape(x))
        )
        return self.add(name, kind, (x,), shape, axes=axes)

    def product(self, name: str, *inputs: str, **settings: Any) -> str:
        return self.add(name, "product", inputs, **settings)

    def matrix_product(
        self, name: str, inputs: tuple[str, ...], shape: Shape, summed: int, module: str = ""
    ) -> str:
        count = prod(extent.size for extent in shape) * summed
        return self.add(name, "matrix product", inputs, shape, module, count)


def _network(builder: _Builder, config: NetworkConfig, x: str) -> str:
    padding = (config.stem_kernel_size[0] // 2, config.stem_kernel_size[1] // 2)  # type: ignore[index]
    y = builder.convolution("stem.conv", x, config.stem_stride, padding)  # type: ignore[arg-type]
    y = builder.batch_norm("stem.bn", y, config.bn_eps, config.bn_decay)
    y = builder.add("stem.relu" if config.stem_pool else "stem", "relu", (y,))
    if config.stem_pool:
        channels, rows, cols = builder.shape(y)
        shape = (channels, rows.strided(2), cols.strided(2))
        y = builder.add(
            "stem", "maximum pooling", (y,), shape, kernel=(3, 3), stride=(2, 2), padding=(1, 1)
        )
    for stage, blocks in enumerate(config.stages()):
        for position, block in enumerate(blocks):
            y = _block(builder, f"stages.{stage}.{position}.", block, y)
    y = builder.add(
        "global_average", "global average", (y,), (builder.shape(y)[0], fixed(1), fixed(1))
    )
    products = config.widths[-1] * config.classes
    return builder.add(
        "classifier", "linear", (y,), (fixed(config.classes),), "classifier", products
    )


def _block(builder: _Builder, scope: str, config: BlockConfig, x: str) -> str:
    stride: Pair = config.stride  # type: ignore[assignment]
    padding: Pair = config.padding  # type: ignore[assignment]
    y = builder.convolution(f"{scope}conv1", x, stride, padding)
    y = builder.batch_norm(f"{scope}bn1", y, config.bn_eps, config.bn_decay)
    y = builder.add(f"{scope}relu", "relu", (y,))
    y = builder.convolution(f"{scope}conv2", y, (1, 1), padding)
    y = builder.batch_norm(f"{scope}bn2", y, config.bn_eps, config.bn_decay)
    y = _attention(builder, f"{scope}attention", config, y)
    if config.projects:
        x = builder.convolution(f"{scope}shortcut.0", x, stride)
        x = builder.batch_norm(f"{scope}shortcut.1", x, config.bn_eps, config.bn_decay)
    y = builder.add(f"{scope}sum", "sum", (y, x))
    return builder.add(scope.rstrip(".") or "output", "relu", (y,))


def _attention(builder: _Builder, name: str, config: BlockConfig, x: str) -> str:
    kind, given = config.attention, dict(config.attention_options or {})
    if kind == "none":
        return x
    if builder.opened and kind in OPENED:
        # Options that the config leaves at their defaults.
        return OPENED[kind](builder, name, x, **{**ATTENTION[kind].options, **given})
    held = tuple(
        parameter
        for module, parameters in builder.held.items()
        if f"{module}.".startswith(f"{name}.")
        for parameter in parameters
    )
    y = builder.add(name, "attention", (x,), attention=kind, options=given)
    builder.operations[y] = replace(
        builder.operations[y],
        parameters=held,
        module=name,
        multiply_adds=_products(builder, name, config, x),
    )
    return y


def _products(builder: _Builder, name: str, config: BlockConfig, x: str) -> int:
    """The multiply-adds of an attention module that is shown as one operation; 0 for a kind of a
    user's own.
    """
    if config.attention not in OPENED:
        return 0
    inside = _Builder(config, True)
    channels, rows, cols = builder.shape(x)
    inside.add("x", "input", (), (channels, rows, cols))
    _attention(inside, "attention", config, "x")
    return sum(operation.multiply_adds for operation in inside.operations.values())


def _squeeze_excite(builder: _Builder, name: str, x: str, gate: str, **width: Any) -> str:
    y = builder.average(name, x)
    y = builder.bottleneck(name, y)
    y = builder.add(f"{name}.{gate}", GATES[gate], (y,))
    return builder.product(name, x, y)


def _effective_squeeze_excite(builder: _Builder, name: str, x: str, gate: str) -> str:
    y = builder.average(name, x)
    y = builder.convolution(f"{name}.fc", y)
    y = builder.add(f"{name}.{gate}", GATES[gate], (y,))
    return builder.product(name, x, y)


def _efficient_channel(builder: _Builder, name: str, x: str, padding: str, **adaptive: Any) -> str:
    y = builder.average(name, x)
    module = f"{name}.conv"
    kernel = builder.held[module][0].shape[-1]
    channels = builder.shape(x)[0]
    y = builder.add(
        module,
        "1-d convolution",
        (y,),
        None,
        module,
        channels.size * kernel,
        kernel=(kernel,),
        padding=padding,
    )
    y = builder.add(f"{name}.sigmoid", "sigmoid", (y,))
    return builder.product(name, x, y)


def _cbam(
    builder: _Builder,
    name: str,
    x: str,
    kernel_size: int,
    bn_eps: float,
    bn_decay: float,
    **width: Any,
) -> str:
    averages = builder.bottleneck(f"{name}.channel", builder.average(name, x))
    greatest = builder.bottleneck(
        f"{name}.channel", builder.reduced(f"{name}.maximum", "maximum", x, 1, 2)
    )
    gate = builder.add(f"{name}.sigmoid input", "sum", (averages, greatest))
    gate = builder.add(f"{name}.sigmoid", "sigmoid", (gate,))
    x = builder.product(f"{name}.average input", x, gate)
    pooled = _pooled(builder, name, (("average", x), ("maximum", x)))
    gate = _spatial_gate(builder, f"{name}.spatial", pooled, kernel_size, bn_eps, bn_decay)
    return builder.product(name, x, gate)


def _pooled(builder: _Builder, name: str, parts: tuple[tuple[str, str], ...]) -> str:
    """Maps of one channel each, over the channels, one behind the other."""
    maps = tuple(builder.reduced(f"{name}.{kind}", kind, x, 0) for kind, x in parts)
    _, rows, cols = builder.shape(maps[0])
    return builder.add(
        f"{name}.concatenate", "concatenate", maps, (fixed(len(maps)), rows, cols), axis=0
    )


def _spatial_gate(
    builder: _Builder, name: str, x: str, kernel_size: int, eps: float, decay: float
) -> str:
    y = builder.convolution(f"{name}.conv", x, (1, 1), (kernel_size // 2, kernel_size // 2))
    y = builder.batch_norm(f"{name}.bn", y, eps, decay)
    return builder.add(name, "sigmoid", (y,))


def _bam(
    builder: _Builder,
    name: str,
    x: str,
    dilation: int,
    fusion: str,
    bn_eps: float,
    bn_decay: float,
    **width: Any,
) -> str:
    def layer(scope: str, conv: str, bn: str, x: str, reach: int = 0) -> str:
        y = builder.convolution(f"{scope}.{conv}", x, (1, 1), (reach, reach), max(reach, 1))
        y = builder.batch_norm(f"{scope}.{bn}", y, bn_eps, bn_decay)
        return builder.add(f"{scope}.relu", "relu", (y,))

    channel, spatial = f"{name}.channel_att", f"{name}.spatial_att"
    of_channels = layer(channel, "fc_0", "bn_1", builder.average(channel, x))
    of_channels = builder.convolution(f"{channel}.fc_final", of_channels)
    of_positions = layer(spatial, "conv_reduce0", "bn_reduce0", x)
    for step in (0, 1):
        of_positions = layer(spatial, f"conv_di_{step}", f"bn_di_{step}", of_positions, dilation)
    of_positions = builder.convolution(f"{spatial}.conv_final", of_positions)
    gate = builder.add(
        f"{name}.sigmoid input", fusion, (of_channels, of_positions), builder.shape(x)
    )
    gate = builder.add(f"{name}.sigmoid", "sigmoid", (gate,))
    gate = builder.add(f"{name}.one_more", "add 1", (gate,))
    return builder.product(name, x, gate)


def _concurrent_squeeze_excite(
    builder: _Builder, name: str, x: str, fusion: str, **width: Any
) -> str:
    gate = builder.bottleneck(f"{name}.cSE", builder.average(f"{name}.cSE", x))
    gate = builder.add(f"{name}.cSE.sigmoid", "sigmoid", (gate,))
    channel = builder.product(f"{name}.cSE", x, gate)
    gate = builder.convolution(f"{name}.sSE.conv", x)
    gate = builder.add(f"{name}.sSE.sigmoid", "sigmoid", (gate,))
    spatial = builder.product(f"{name}.sSE", x, gate)
    return builder.add(name, "sum" if fusion == "sum" else "greater", (channel, spatial))


def _gather_excite(
    builder: _Builder,
    name: str,
    x: str,
    gather: str,
    extent: int | None,
    mlp: bool,
    bn_eps: float,
    bn_decay: float,
    **sizes: Any,
) -> str:
    channels, rows, cols = builder.shape(x)
    if gather == "average" and extent is None:
        y = builder.add(f"{name}.gather", "global average", (x,), (channels, fixed(1), fixed(1)))
    elif gather == "average":
        assert extent is not None
        shape = (channels, rows.strided(extent), cols.strided(extent))
        y = builder.add(f"{name}.gather", "average around", (x,), shape, extent=extent)
    else:
        steps = 1 if extent is None else gathered_steps(gather, extent)
        stride, padding = ((1, 1), (0, 0)) if extent is None else ((2, 2), (1, 1))
        y = x
        for step in range(1, steps + 1):
            y = builder.add(f"{name}.gather.relu", "relu", (y,)) if step > 1 else y
            y = builder.convolution(f"{name}.gather.conv{step}", y, stride, padding, depthwise=True)
            y = builder.batch_norm(f"{name}.gather.norm{step}", y, bn_eps, bn_decay)
    y = builder.bottleneck(f"{name}.mlp", y) if mlp else y
    y = builder.add(f"{name}.nearest", "stretch", (y,), (channels, rows, cols))
    y = builder.add(f"{name}.sigmoid", "sigmoid", (y,))
    return builder.product(name, x, y)


def _global_context(
    builder: _Builder, name: str, x: str, pooling: str, fusion: str, ln_eps: float, **width: Any
) -> str:
    channels, rows, cols = builder.shape(x)
    context = (channels, fixed(1), fixed(1))
    if pooling == "average":
        pooled = builder.average(name, x)
    else:
        logits = builder.convolution(f"{name}.conv_attn", x)
        weights = builder.add(f"{name}.softmax", "softmax", (logits,), (fixed(1), rows.times(cols)))
        pooled = builder.matrix_product(
            f"{name}.context", (weights, x), context, rows.size * cols.size
        )

    def transformed(scope: str) -> str:
        y = builder.convolution(f"{scope}.fc1", pooled)
        y = builder.add(f"{scope}.norm", "layer norm", (y,), None, f"{scope}.norm", eps=ln_eps)
        y = builder.add(f"{scope}.relu", "relu", (y,))
        return builder.convolution(f"{scope}.fc2", y)

    if fusion != "add":
        gate = builder.add(f"{name}.sigmoid", "sigmoid", (transformed(f"{name}.mlp_scale"),))
        x = builder.product(name if fusion == "scale" else f"{name}.scaled", x, gate)
    return builder.add(name, "sum", (x, transformed(f"{name}.mlp_add"))) if fusion != "scale" else x


def _simam(builder: _Builder, name: str, x: str, e_lambda: float) -> str:
    mean = builder.reduced(f"{name}.average", "average", x, 1, 2)
    centred = builder.add(f"{name}.centred", "difference", (x, mean))
    squares = builder.add(f"{name}.average input", "square", (centred,))
    variance = builder.reduced(f"{name}.average", "average", squares, 1, 2)
    variance = builder.add(f"{name}.variance", "times n / (n - 1)", (variance,))
    divisor = builder.add(f"{name}.divisor", "4 (x + λ)", (variance,), e_lambda=e_lambda)
    energy = builder.add(f"{name}.energy", "quotient", (squares, divisor))
    energy = builder.add(f"{name}.sigmoid input", "add 1/2", (energy,))
    gate = builder.add(f"{name}.sigmoid", "sigmoid", (energy,))
    return builder.product(name, x, gate)


def _coordinate(
    builder: _Builder, name: str, x: str, bn_eps: float, bn_decay: float, **width: Any
) -> str:
    channels, rows, cols = builder.shape(x)
    of_rows = builder.reduced(f"{name}.average", "average", x, 2)
    of_cols = builder.reduced(f"{name}.average", "average", x, 1)
    both = (channels, rows.plus(cols), fixed(1))
    y = builder.add(f"{name}.concatenate", "concatenate", (of_rows, of_cols), both, axis=1)
    y = builder.convolution(f"{name}.conv1", y)
    y = builder.batch_norm(f"{name}.bn1", y, bn_eps, bn_decay)
    y = builder.add(f"{name}.hard_swish", "hard swish", (y,))
    hidden = builder.shape(y)[0]
    of_rows = builder.add(f"{name}.rows", "first part", (y,), (hidden, rows, fixed(1)))
    of_cols = builder.add(f"{name}.cols", "second part", (y,), (hidden, fixed(1), cols))
    of_rows = builder.add(
        f"{name}.sigmoid", "sigmoid", (builder.convolution(f"{name}.conv_h", of_rows),)
    )
    of_cols = builder.add(
        f"{name}.sigmoid", "sigmoid", (builder.convolution(f"{name}.conv_w", of_cols),)
    )
    x = builder.product(f"{name}.by_cols", x, of_cols)
    return builder.product(name, x, of_rows)


def _triplet(
    builder: _Builder,
    name: str,
    x: str,
    kernel_size: int,
    spatial: bool,
    bn_eps: float,
    bn_decay: float,
) -> str:
    channels, rows, cols = builder.shape(x)
    turns = {
        "cw": (rows, channels, cols),
        "hc": (cols, rows, channels),
        "hw": (channels, rows, cols),
    }
    branches = []
    for gate in ("cw", "hc", "hw") if spatial else ("cw", "hc"):
        turned = (
            x
            if gate == "hw"
            else builder.add(f"{name}.maximum input", "swap axes", (x,), turns[gate])
        )
        pooled = _pooled(builder, name, (("maximum", turned), ("average", turned)))
        opened = _spatial_gate(builder, f"{name}.{gate}", pooled, kernel_size, bn_eps, bn_decay)
        gated = builder.product(f"{name}.{gate}.gated", turned, opened)
        back = (
            gated
            if gate == "hw"
            else builder.add(f"{name}.{gate}.back", "swap axes", (gated,), (channels, rows, cols))
        )
        branches.append(back)
    total = builder.add(f"{name}.total", "sum", tuple(branches))
    return builder.add(name, f"divide by {len(branches)}", (total,))


def _non_local(
    builder: _Builder,
    name: str,
    x: str,
    subsample: bool,
    scale: bool,
    bn_eps: float,
    bn_decay: float,
    **width: Any,
) -> str:
    query, key, value = (builder.convolution(f"{name}.{conv}", x) for conv in ("theta", "phi", "g"))
    hidden, rows, cols = builder.shape(query)
    if subsample:
        half = (
            hidden,
            Extent(f"⌊{rows.formula}/2⌋", rows.size // 2),
            Extent(f"⌊{cols.formula}/2⌋", cols.size // 2),
        )
        pool: dict[str, Any] = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
        key, value = (
            builder.add(f"{name}.max_pool_2x2", "maximum pooling", (part,), half, **pool)
            for part in (key, value)
        )
    here = rows.times(cols)
    there = builder.shape(key)[1].times(builder.shape(key)[2])
    logits = builder.matrix_product(
        f"{name}.softmax input", (query, key), (here, there), hidden.size
    )
    logits = (
        builder.add(f"{name}.scaled", f"divide by √{hidden.size}", (logits,)) if scale else logits
    )
    weights = builder.add(f"{name}.softmax", "softmax", (logits,))
    y = builder.matrix_product(
        f"{name}.weighted", (weights, value), (hidden, rows, cols), there.size
    )
    y = builder.convolution(f"{name}.conv_out", y)
    y = builder.batch_norm(f"{name}.bn", y, bn_eps, bn_decay)
    return builder.add(name, "sum", (x, y))


def _multi_head_self_attention(
    builder: _Builder, name: str, x: str, heads: int, scale_positions: bool, **shape: Any
) -> str:
    channels, rows, cols = builder.shape(x)
    width, here = channels.size // heads, rows.times(cols)
    logits_shape = (fixed(heads), here, here)
    qkv = builder.convolution(f"{name}.qkv", x)
    part = (fixed(heads), here, fixed(width))
    query, key, value = (
        builder.add(f"{name}.{word}", "part", (qkv,), part) for word in ("query", "key", "value")
    )
    scaled = builder.add(f"{name}.scaled", f"divide by √{width}", (query,))
    content = builder.matrix_product(f"{name}.logits", (scaled, key), logits_shape, width)
    asked = scaled if scale_positions else query
    positions = builder.matrix_product(
        f"{name}.pos_embed", (asked,), logits_shape, 0, f"{name}.pos_embed"
    )
    products = heads * here.size * width * (rows.size + cols.size)
    builder.operations[positions] = replace(
        builder.operations[positions], kind="relative positions", multiply_adds=products
    )
    logits = builder.add(f"{name}.softmax input", "sum", (content, positions))
    weights = builder.add(f"{name}.softmax", "softmax", (logits,))
    return builder.matrix_product(name, (weights, value), (channels, rows, cols), here.size)


GATES = {"sigmoid": "sigmoid", "hard_sigmoid": "hard sigmoid"}

OPENED: dict[str, Callable[..., str]] = {
    "se": _squeeze_excite,
    "ese": _effective_squeeze_excite,
    "eca": _efficient_channel,
    "cbam": _cbam,
    "bam": _bam,
    "scse": _concurrent_squeeze_excite,
    "ge": _gather_excite,
    "gc": _global_context,
    "simam": _simam,
    "coordinate": _coordinate,
    "triplet": _triplet,
    "nonlocal": _non_local,
    "mhsa": _multi_head_self_attention,
}

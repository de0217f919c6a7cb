"""The graph of a config: the operations in the order of execution, with shapes and costs.

There is one description of what a model computes, and this is it: the oracle computes this graph,
`resattn explain` describes it, `resattn draw` draws it, and the models of the three frameworks
record their stages under its names. A test compares every value with every framework.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from weights.attention import ATTENTION, attention_parameters
from weights.checks import SAME, Pair, check_sum, pair_of
from weights.config import BlockConfig, BottleneckConfig, Config, NetworkConfig
from weights.errors import ArgumentError
from weights.operations import Builder, Extent, Operation, by_module, fixed
from weights.parameters import Parameters, within
from weights.schema import schema

IMAGE = "input"


@dataclass(frozen=True)
class OperationGraph:
    """The operations in the order of execution; the first, "input", is the image."""

    operations: tuple[Operation, ...]

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __getitem__(self, name: str) -> Operation:
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @cached_property
    def _by_name(self) -> dict[str, Operation]:
        return {operation.name: operation for operation in self.operations}

    @property
    def output(self) -> str:
        """The name of the last operation."""
        return self.operations[-1].name

    @property
    def size(self) -> Pair:
        """Height and width of the image."""
        _, rows, cols = self.operations[0].shape
        return rows.size, cols.size


@dataclass(frozen=True)
class Graph(OperationGraph):
    """The operations of a config's model. parameters: of the config, in their order."""

    config: Config
    parameters: Parameters


def graph(config: Config, size: Pair, opened: bool = True) -> Graph:
    """The graph of a block or a network for images of that size (height, width).

    opened: whether attention modules are shown step by step or as one operation of the kind
    "attention". Kinds of a user's own that have no graph are always one.
    Raises ArgumentError for a size that is none. `check_size` says whether attention can use it.
    """
    rows, cols = pair_of("size", size)
    parameters = schema(config)
    build = Builder(by_module(parameters))
    shape = (fixed(config.in_channels), Extent("H", rows), Extent("W", cols))
    image = build.add(IMAGE, "input", shape=shape)
    if isinstance(config, NetworkConfig):
        _network(build, config, image, opened)
    else:
        _block(build, config, image, opened)
    return Graph(tuple(build.operations.values()), config, parameters)


def parameter_count(kind: str, channels: int, options: Mapping[str, Any]) -> int:
    """How many numbers an attention module trains. Raises what `attention_parameters` raises."""
    parameters = attention_parameters(kind, channels, options)
    return sum(prod(parameter.shape) for parameter in parameters if parameter.trainable)


def multiply_adds(kind: str, channels: int, size: Pair, options: Mapping[str, Any]) -> int | None:
    """Those of an attention module, for one map of `size` (height, width).

    None for a kind of a user's own without a graph. Counted are convolutions, linear layers and
    matrix products; not counted, as is usual, are pooling, activations, normalization and products
    with gates.
    Raises what `attention_parameters` raises.
    """
    operations = attention_operations(kind, channels, size, options)
    if ATTENTION[kind].graph is None:
        return None
    return sum(operation.multiply_adds for operation in operations)


def attention_operations(
    kind: str, channels: int, size: Pair, options: Mapping[str, Any]
) -> tuple[Operation, ...]:
    """The operations of an attention module alone, called "attention", for maps of `size`.

    The first is the map. Raises what `attention_parameters` raises.
    """
    parameters = attention_parameters(kind, channels, options)
    build = Builder(by_module(within("attention", parameters)))
    x = build.add(IMAGE, "input", shape=(fixed(channels), *map(fixed, size)))
    if ATTENTION[kind].graph is not None:
        ATTENTION[kind].build(build.within("attention"), x, options)
    return tuple(build.operations.values())


def _network(build: Builder, config: NetworkConfig, x: str, opened: bool) -> str:
    """He et al. 2015, table 1 and section 4.2: stem, stages, global average pooling, classifier."""
    y = _stem(build.within("stem"), config, x)
    for stage, blocks in enumerate(config.stages()):
        for position, block in enumerate(blocks):
            y = _block(build.within(f"stages.{stage}.{position}"), block, y, opened)
    y = build.global_average(y)
    if not config.classes:
        return build.add("classifier", "flatten", y, shape=build.shape(y)[:1])
    return build.linear("classifier", y)


def _stem(build: Builder, config: NetworkConfig, x: str) -> str:
    """Convolutions with norm and relu, and a pooling."""
    rows, cols = config.stem_kernel_size
    padding = config.stem_padding or (rows // 2, cols // 2)
    pool = config.stem_pool
    for number, (conv, norm) in enumerate(config.stem_names, start=1):
        x = build.convolution(conv, x, config.stem_stride if number == 1 else (1, 1), padding)
        x = _norm(build, config, norm, x)
        last = number == len(config.stem_names)
        x = build.activation("relu", x, name="" if last and not pool else "relu")
    if pool == "max":
        return build.max_pool("", x, (3, 3), (2, 2), (1, 1))
    if pool == "max_same":
        return build.max_pool_same("", x, (3, 3), (2, 2))
    if pool == "max_ceil":
        return build.max_pool_ceil("", x, (3, 3), (2, 2))
    if pool == "average":
        return build.average_pool("", x, (2, 2), ceil=False)
    if pool == "max_blur":
        x = build.max_pool("max_pool_dense", x, (3, 3), (1, 1), (1, 1))
        return build.blur_pool("", x, (2, 2))
    if pool == "convolution":
        x = build.convolution("pool.0", x, (2, 2), (1, 1))
        x = _norm(build, config, "pool.1", x)
        return build.activation("relu", x, name="")
    return x


def _norm(build: Builder, config: Config, module: str, x: str) -> str:
    if config.norm == "group":
        return build.group_norm(module, x, config.norm_groups, config.bn_eps)
    return build.batch_norm(module, x, config.bn_eps, config.bn_decay)


def _block(build: Builder, config: BlockConfig, x: str, opened: bool) -> str:
    """He et al. 2015, figures 2 and 5 and section 3.3, with attention in front of the sum (Hu et
    al. 2018, figure 3).
    """
    if isinstance(config, BottleneckConfig):
        y = _bottleneck(build, config, x)
    else:
        y = _basic(build, config, x)
    if config.relu_before_attention:
        y = build.activation("relu", y)
    y = _attention(build.within("attention"), config, y, opened)
    x = _shortcut(build, config, x)
    check_sum(_sides(build, y), _sides(build, x))
    y = build.add("sum", "sum", y, x)
    return build.activation("relu", y, name="" if build.scope else "output")


def _basic(build: Builder, config: BlockConfig, x: str) -> str:
    first, others = config.dilation
    y = build.convolution("conv1", x, config.main_stride["conv1"], _dilated(config, first), first)
    y = _norm(build, config, "bn1", y)
    y = build.activation("relu", y)
    y = _antialias(build, config, y)
    y = build.convolution("conv2", y, (1, 1), _dilated(config, others), others)
    return _norm(build, config, "bn2", y)


def _bottleneck(build: Builder, config: BottleneckConfig, x: str) -> str:
    sizes: Any = config  # complete, and all sizes are pairs
    first, _ = sizes.dilation
    steps = config.main_stride
    y = build.convolution("conv1", x, steps["conv1"])
    y = _norm(build, config, "bn1", y)
    y = build.activation("relu", y)
    padding = _dilated(config, first)
    y = build.convolution("conv2", y, steps["conv2"], padding, first, config.groups)
    y = _norm(build, config, "bn2", y)
    y = build.activation("relu", y)
    y = _antialias(build, config, y)
    y = build.convolution("conv3", y)
    return _norm(build, config, "bn3", y)


def _dilated(config: BlockConfig, dilation: int) -> Pair | str:
    """The padding of a kernel with that dilation."""
    if config.padding == SAME:
        return SAME
    rows, cols = config.padding
    return rows * dilation, cols * dilation


def _antialias(build: Builder, config: BlockConfig, x: str) -> str:
    if not config.pools:
        return x
    if config.antialias == "average":
        return build.average_pool("average_pool", x, config.stride, ceil=False)
    return build.blur_pool("blur_pool", x, config.stride)


def _shortcut(build: Builder, config: BlockConfig, x: str) -> str:
    if config.shortcut_form == "subsample":
        return build.subsample("shortcut", x, config.stride, config.out_channels)
    if not config.projects:
        return x
    shortcut = build.within("shortcut")
    stride, (rows, cols) = config.stride, config.shortcut_kernel
    first, _ = config.dilation
    if config.shortcut_form == "average":
        x = shortcut.average_pool("average_pool", x, stride, ceil=True)
        stride = (1, 1)
    dilation = first if (rows, cols) != (1, 1) else 1
    padding = (rows // 2 * dilation, cols // 2 * dilation)
    x = shortcut.convolution("0", x, stride, padding, dilation)
    return _norm(shortcut, config, "1", x)


def _attention(build: Builder, config: BlockConfig, x: str, opened: bool) -> str:
    """The attention module of a block, step by step or as one operation."""
    name, options = config.attention, config.attention_options
    kind = ATTENTION[name]
    if name == "none" or (opened and kind.graph is not None):
        return kind.build(build, x, options)
    y = build.add("", "attention", x, module="", attention=name, options=dict(options))
    held = within(build.scope, attention_parameters(name, config.out_channels, options))
    products = multiply_adds(name, config.out_channels, _sides(build, x), options)
    build.operations[y] = replace(build.operations[y], parameters=held, multiply_adds=products or 0)
    return y


def _sides(build: Builder, x: str) -> Pair:
    _, rows, cols = build.shape(x)
    return rows.size, cols.size


# Sizes of images


def default_size(config: Config) -> Pair:
    """The size (height, width) of images that people use with such a model.

    The one its attention was made for, else 224 x 224 for networks with a pooling in the stem, else
    32 x 32.
    """
    pooled = isinstance(config, NetworkConfig) and config.stem_pool
    return config.input_size or ((224, 224) if pooled else (32, 32))


def probe_size(config: Config) -> Pair:
    """A small size that exposes mistakes: it ends at more than one pixel, odd by even, not square.

    The only one there is where attention was made for one size.
    """
    if config.input_size:
        return config.input_size
    if isinstance(config, BlockConfig):
        rows, cols = config.stride
    else:
        steps = [config.stem_reduction, *config.strides]
        rows, cols = (prod(step[axis] for step in steps) for axis in (0, 1))
    if config.antialias == "average":  # drops odd pixels
        return (3 if rows > 4 else 5) * rows, (2 if cols > 4 else 4) * cols
    return max(9, 2 * rows + 1), max(8, 2 * cols)


def output_shape(config: Config, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the output for images of (batch, channels, height, width)."""
    if isinstance(config, NetworkConfig):
        return shape[0], config.classes or config.widths[-1]
    found = graph(config, (shape[2], shape[3]), opened=False)
    return shape[0], *(extent.size for extent in found.operations[-1].shape)


def check_size(config: Config, size: Pair) -> None:
    """Raises ArgumentError where an attention module cannot use the map that images of `size`
    (height, width) give it.
    """
    found = graph(config, size, opened=False)
    for name, block in config.named_blocks().items():
        _, rows, cols = found[f"{name}.{block.last_layer}".lstrip(".")].shape
        try:
            ATTENTION[block.attention].check_map(rows.size, cols.size, block.attention_options)
        except ArgumentError as error:
            fitting = config.input_size
            where = f"{name}.attention".lstrip(".")
            hint = f"; images of {fitting[0]} x {fitting[1]} fit" if fitting else ""
            image = f"images of {size[0]} x {size[1]}"
            raise ArgumentError(f"size: {image} do not fit {where}: {error}{hint}") from None

"""The graph of a config: the operations in the order of execution, with shapes and costs.

There is one description of what a model computes, and this is it: the oracle computes this graph,
`resattn explain` tells it, `resattn draw` draws it, and the models of the three frameworks record
their stages under its names. A test compares every value with every framework.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from weights.attention import ATTENTION, attention_parameters
from weights.checks import Pair, pair_of
from weights.config import BlockConfig, Config, NetworkConfig
from weights.errors import ArgumentError
from weights.operations import Builder, Extent, Operation, by_module, fixed
from weights.parameters import Parameters, within
from weights.schema import schema

IMAGE = "input"


@dataclass(frozen=True)
class Graph:
    """The operations in the order of execution; the first, "input", is the image.

    parameters: of the config, in their order.
    """

    config: Config
    parameters: Parameters
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
    return Graph(config, parameters, tuple(build.operations.values()))


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
    stem = build.within("stem")
    rows, cols = config.stem_kernel_size
    y = stem.convolution("conv", x, config.stem_stride, (rows // 2, cols // 2))
    y = stem.batch_norm("bn", y, config.bn_eps, config.bn_decay)
    y = stem.activation("relu", y, name="relu" if config.stem_pool else "")
    if config.stem_pool:
        y = stem.max_pool("", y, (3, 3), (2, 2), (1, 1))
    for stage, blocks in enumerate(config.stages()):
        for position, block in enumerate(blocks):
            y = _block(build.within(f"stages.{stage}.{position}"), block, y, opened)
    y = build.global_average(y)
    return build.linear("classifier", y)


def _block(build: Builder, config: BlockConfig, x: str, opened: bool) -> str:
    """He et al. 2015, figure 2 and section 3.3, with attention in front of the sum (Hu et al. 2018,
    figure 3).
    """
    y = build.convolution("conv1", x, config.stride, config.padding)
    y = build.batch_norm("bn1", y, config.bn_eps, config.bn_decay)
    y = build.activation("relu", y)
    y = build.convolution("conv2", y, (1, 1), config.padding)
    y = build.batch_norm("bn2", y, config.bn_eps, config.bn_decay)
    y = _attention(build.within("attention"), config, y, opened)
    if config.projects:
        shortcut = build.within("shortcut")
        x = shortcut.convolution("0", x, config.stride)
        x = shortcut.batch_norm("1", x, config.bn_eps, config.bn_decay)
    y = build.add("sum", "sum", y, x)
    return build.activation("relu", y, name="" if build.scope else "output")


def _attention(build: Builder, config: BlockConfig, x: str, opened: bool) -> str:
    """The attention module of a block, step by step or as one operation."""
    name, options = config.attention, config.attention_options
    kind = ATTENTION[name]
    if name == "none" or (opened and kind.graph is not None):
        return kind.build(build, x, options)
    y = build.add("", "attention", x, module="", attention=name, options=dict(options))
    held = tuple(
        parameter
        for module, parameters in build.parameters.items()
        if f"{module}.".startswith(f"{build.scope}.")
        for parameter in parameters
    )
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
        pool = 2 if config.stem_pool else 1
        steps = [config.stem_stride, *config.strides]
        rows, cols = (pool * prod(step[axis] for step in steps) for axis in (0, 1))
    return max(9, 2 * rows + 1), max(8, 2 * cols)


def output_shape(config: Config, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the output for images of (batch, channels, height, width)."""
    if isinstance(config, NetworkConfig):
        return shape[0], config.classes
    rows, cols = (-(-size // stride) for size, stride in zip(shape[2:], config.stride, strict=True))
    return shape[0], config.out_channels, rows, cols


def check_size(config: Config, size: Pair) -> None:
    """Raises ArgumentError where an attention module cannot use the map that images of `size`
    (height, width) give it.
    """
    found = graph(config, size, opened=False)
    for name, block in config.named_blocks().items():
        _, rows, cols = found[f"{name}.bn2".lstrip(".")].shape
        try:
            ATTENTION[block.attention].check_map(rows.size, cols.size, block.attention_options)
        except ArgumentError as error:
            fitting = config.input_size
            where = f"{name}.attention".lstrip(".")
            hint = f"; images of {fitting[0]} x {fitting[1]} fit" if fitting else ""
            image = f"images of {size[0]} x {size[1]}"
            raise ArgumentError(f"size: {image} do not fit {where}: {error}{hint}") from None

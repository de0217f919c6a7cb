"""The ordered list of parameters of a config: the only place that knows names and shapes."""

from typing import Any

from weights.attention import attention_parameters
from weights.config import BlockConfig, BottleneckConfig, Config, NetworkConfig
from weights.errors import ModelError
from weights.parameters import (
    Parameter,
    Parameters,
    batch_norm,
    convolution,
    layer_norm,
    linear,
    within,
)


def schema(config: Config) -> Parameters:
    """Every parameter and running statistic of the model that `config` describes, in the order of
    execution.
    """
    if isinstance(config, BlockConfig):
        return _block(config)
    if isinstance(config, NetworkConfig):
        return _network(config)
    raise ModelError(
        "config: expected a BlockConfig, a BottleneckConfig or a NetworkConfig, got "
        f"{type(config).__name__}"
    )


def _norm(config: Config, module: str, channels: int) -> Parameters:
    if config.norm == "folded":
        return ()
    kind = batch_norm if config.norm == "batch" else layer_norm  # a group norm has the same two
    return kind(module, channels)


def _block(config: BlockConfig) -> Parameters:
    width, bias = config.out_channels, config.conv_bias
    main = _bottleneck(config) if isinstance(config, BottleneckConfig) else _basic(config)
    shortcut = (
        *convolution("0", config.in_channels, width, config.shortcut_kernel, bias),
        *_norm(config, "1", width),
    )
    attention = attention_parameters(config.attention, width, config.attention_options)
    return (
        *main,
        *within("attention", attention),
        *(within("shortcut", shortcut) if config.projects else ()),
    )


def _basic(config: BlockConfig) -> Parameters:
    width, bias = config.out_channels, config.conv_bias
    return (
        *convolution("conv1", config.in_channels, width, config.kernel_size, bias),
        *_norm(config, "bn1", width),
        *convolution("conv2", width, width, config.kernel_size, bias),
        *_norm(config, "bn2", width),
    )


def _bottleneck(config: Any) -> Parameters:
    first, hidden, bias = config.first_channels, config.hidden_channels, config.conv_bias
    kernel: Any = config.kernel_size  # always a pair
    return (
        *convolution("conv1", config.in_channels, first, (1, 1), bias),
        *_norm(config, "bn1", first),
        *convolution("conv2", first, hidden, kernel, bias, config.groups),
        *_norm(config, "bn2", hidden),
        *convolution("conv3", hidden, config.out_channels, (1, 1), bias),
        *_norm(config, "bn3", config.out_channels),
    )


def _stem(config: NetworkConfig) -> Parameters:
    found: list[Parameter] = []
    channels = config.in_channels
    for (conv, norm), width in zip(config.stem_names, config.stem_widths, strict=True):
        kernel = config.stem_kernel_size
        found += convolution(conv, channels, width, kernel, config.conv_bias)
        found += _norm(config, norm, width)
        channels = width
    if config.stem_pool == "convolution":
        found += convolution("pool.0", channels, channels, (3, 3), config.conv_bias)
        found += _norm(config, "pool.1", channels)
    return tuple(found)


def _network(config: NetworkConfig) -> Parameters:
    blocks = (
        within(f"stages.{stage}.{position}", _block(block))
        for stage, blocks in enumerate(config.stages())
        for position, block in enumerate(blocks)
    )
    return (
        *within("stem", _stem(config)),
        *(parameter for block in blocks for parameter in block),
        *(linear("classifier", config.widths[-1], config.classes) if config.classes else ()),
    )

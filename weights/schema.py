"""The ordered list of parameters of a config: the only place that knows names and shapes."""

from weights.attention import attention_parameters
from weights.config import BlockConfig, Config, NetworkConfig
from weights.errors import ModelError
from weights.parameters import (
    Parameters,
    batch_norm,
    convolution,
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
        f"config: expected a BlockConfig or a NetworkConfig, got {type(config).__name__}"
    )


def _block(config: BlockConfig) -> Parameters:
    width, bias = config.out_channels, config.conv_bias
    shortcut = (
        *convolution("0", config.in_channels, width, (1, 1), bias),
        *batch_norm("1", width),
    )
    return (
        *convolution("conv1", config.in_channels, width, config.kernel_size, bias),
        *batch_norm("bn1", width),
        *convolution("conv2", width, width, config.kernel_size, bias),
        *batch_norm("bn2", width),
        *within(
            "attention",
            attention_parameters(config.attention, width, config.attention_options),
        ),
        *(within("shortcut", shortcut) if config.projects else ()),
    )


def _network(config: NetworkConfig) -> Parameters:
    stem = (
        *convolution(
            "conv",
            config.in_channels,
            config.stem_channels,
            config.stem_kernel_size,
            config.conv_bias,
        ),
        *batch_norm("bn", config.stem_channels),
    )
    blocks = (
        within(f"stages.{stage}.{position}", _block(block))
        for stage, blocks in enumerate(config.stages())
        for position, block in enumerate(blocks)
    )
    return (
        *within("stem", stem),
        *(parameter for block in blocks for parameter in block),
        *linear("classifier", config.widths[-1], config.classes),
    )

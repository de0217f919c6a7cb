"""Efficient channel attention."""

import math
from typing import Any

from weights.attention.kinds import Kind, Start
from weights.checks import at_least, odd, one_of, positive, real_number
from weights.errors import ArgumentError
from weights.language import mark
from weights.operations import Builder
from weights.parameters import Parameter, Parameters


def eca_kernel_size(
    channels: int, kernel_size: int | None = None, gamma: float = 2, beta: float = 1
) -> int:
    """|log2(channels) + beta| / gamma, cut to an integer, the next odd one (Wang et al. 2020,
    equation 12 and code).
    """
    gamma = positive("gamma", gamma)
    beta = real_number("beta", beta, "a finite number")
    if kernel_size is not None:
        return odd("kernel_size", kernel_size)
    size = at_least("gamma, beta: kernel_size", int(abs((math.log2(channels) + beta) / gamma)), 0)
    return size if size % 2 else size + 1


def efficient_channel(
    channels: int,
    kernel_size: int | None = None,
    gamma: float = 2,
    beta: float = 1,
    padding: str = "zero",
) -> Parameters:
    """kernel_size: of the 1-d convolution over the channels, odd; None: |log2(channels) + beta| /
    gamma, made odd (timm takes at least 3, which differs below 8 channels). padding: zero, or
    circular: the last channel is next to the first.
    Names: timm's.
    """
    size = eca_kernel_size(channels, kernel_size, gamma, beta)
    if one_of("padding", padding, ("zero", "circular")) == "circular" and size // 2 > channels:
        raise ArgumentError(
            f"kernel_size: {size} reaches more than once around {channels} channels; circular "
            f"padding takes at most {2 * channels + 1}"
        )
    return (Parameter("conv", "1-d convolution kernel", (1, 1, size)),)


def graph(build: Builder, x: str, padding: str, **adaptive: Any) -> str:
    """Section 3.2, equation 9: sigma(C1D_k(y)); channel c reads c - k // 2 to c + k // 2."""
    y = build.global_average(x)
    y = build.convolution_1d("conv", y, padding)
    y = build.activation("sigmoid", y)
    return build.product("", x, y)


def start(channels: int, **options: Any) -> Start:
    """sigmoid(0) = 1/2; the one layer learns at once."""
    return Start(("conv",), factor=2)


KIND = Kind(
    title=mark("efficient channel attention"),
    source="Wang et al. 2020, ECA-Net: Efficient Channel Attention",
    summary=(
        "Scales each channel by a gate computed from its average and those of its neighbours, by "
        "one short convolution."
    ),
    parameters=efficient_channel,
    graph=graph,
    start=start,
)

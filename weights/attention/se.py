"""Squeeze-and-excitation."""

from typing import Any

from weights.attention.kinds import Kind, Start, hidden_width
from weights.checks import one_of
from weights.language import mark
from weights.operations import GATES, Builder
from weights.parameters import Parameters, convolution


def squeeze_excite(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    divisor: int = 1,
    minimum: int | None = None,
    gate: str = "sigmoid",
) -> Parameters:
    """reduction (16), hidden_channels, divisor, minimum: the hidden width, see `hidden_width`.
    gate: sigmoid, or hard_sigmoid, relu6(x + 3) / 6, as in MobileNetV3. Names: timm's.
    """
    one_of("gate", gate, GATES)
    hidden = hidden_width(channels, reduction, hidden_channels, divisor, minimum)
    return (
        *convolution("fc1", channels, hidden),
        *convolution("fc2", hidden, channels),
    )


def graph(build: Builder, x: str, gate: str, **width: Any) -> str:
    """Section 3: equations 2 (squeeze), 3 (excitation) and 4 (scale)."""
    y = build.global_average(x)
    y = build.bottleneck(y)
    y = build.activation(gate, y)
    return build.product("", x, y)


def start(channels: int, **options: Any) -> Start:
    """Either gate is 1/2 at 0."""
    return Start(("fc2",), factor=2, relus=("fc1",))


KIND = Kind(
    title=mark("squeeze-and-excitation"),
    source="Hu et al. 2018, Squeeze-and-Excitation Networks",
    summary=(
        "Scales each channel by a gate that two small layers compute from the averages of all "
        "channels."
    ),
    parameters=squeeze_excite,
    graph=graph,
    start=start,
)

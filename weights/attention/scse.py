"""Concurrent spatial and channel squeeze-and-excitation."""

from typing import Any

from weights.attention.kinds import Kind, Start, hidden_width
from weights.checks import one_of
from weights.language import mark
from weights.operations import Builder
from weights.parameters import Parameters, convolution


def concurrent_squeeze_excite(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    fusion: str = "sum",
) -> Parameters:
    """reduction (2, as in the paper; segmentation_models.pytorch has 16), hidden_channels: the
    hidden width of the channel gate. fusion: sum, or maximum (Roy et al. 2019, section III). Names:
    cSE and sSE as in segmentation_models.pytorch.
    """
    one_of("fusion", fusion, ("sum", "maximum"))
    hidden = hidden_width(channels, reduction, hidden_channels, kind="scse")
    return (
        *convolution("cSE.fc1", channels, hidden),
        *convolution("cSE.fc2", hidden, channels),
        *convolution("sSE.conv", channels, 1),
    )


def graph(build: Builder, x: str, fusion: str, **width: Any) -> str:
    """Sections 2.1 to 2.3; the maximum: Roy et al. 2019."""
    channel, spatial = build.within("cSE"), build.within("sSE")
    gate = channel.bottleneck(channel.global_average(x))
    gate = channel.activation("sigmoid", gate)
    by_channel = channel.product("", x, gate)
    gate = spatial.convolution("conv", x)
    gate = spatial.activation("sigmoid", gate)
    by_position = spatial.product("", x, gate)
    return build.add("", "sum" if fusion == "sum" else "greater", by_channel, by_position)


def start(channels: int, fusion: str, **options: Any) -> Start:
    """x/2 + x/2, or the greater of both."""
    factor = 1 if fusion == "sum" else 2
    return Start(("cSE.fc2", "sSE.conv"), factor=factor, relus=("cSE.fc1",))


KIND = Kind(
    title=mark("concurrent squeeze-and-excitation"),
    source="Roy et al. 2018, Concurrent Spatial and Channel Squeeze & Excitation",
    summary=(
        "Adds two copies: one with a gate for each channel (squeeze-and-excitation), one with a "
        "gate for each position."
    ),
    parameters=concurrent_squeeze_excite,
    graph=graph,
    reduction=(2, 1),
    start=start,
)

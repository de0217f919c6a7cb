"""Convolutional block attention module."""

from typing import Any

from weights.attention.kinds import Kind, Start, hidden_width
from weights.checks import batch_norm_numbers, odd, truth
from weights.language import mark
from weights.operations import CHANNELS, COLS, ROWS, Builder, fixed
from weights.parameters import Parameters, batch_norm, convolution


def cbam(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    kernel_size: int = 7,
    bias: bool = True,
    bn_eps: float = 1e-5,
    bn_decay: float = 0.99,
    folded: bool = False,
) -> Parameters:
    """reduction (16), hidden_channels: the hidden width of the channel gate. bias: of its two
    layers (timm: False). kernel_size: of the spatial gate, odd. bn_eps, bn_decay: of its batch
    norm, which the authors' code has and their paper does not show. folded: whether it is part of
    the convolution before it, which has a bias then, as `weights.fold` makes it. The spatial gate
    reads (average, maximum), as in the paper and in timm; the authors' code reads (maximum,
    average): swap the two input channels of spatial.conv when you bring weights from there. Names:
    timm's, where spatial has one level more (spatial.conv.conv, spatial.conv.bn).
    """
    size = odd("kernel_size", kernel_size)
    truth("bias", bias)
    batch_norm_numbers(bn_eps, bn_decay)
    truth("folded", folded)
    hidden = hidden_width(channels, reduction, hidden_channels)
    return (
        *convolution("channel.fc1", channels, hidden, bias=bias),
        *convolution("channel.fc2", hidden, channels, bias=bias),
        *convolution("spatial.conv", 2, 1, (size, size), bias=folded),
        *batch_norm("spatial.bn", 1, folded),
    )


def graph(
    build: Builder, x: str, kernel_size: int, bn_eps: float, bn_decay: float, **layers: Any
) -> str:
    """Equations 1 to 3: first the channels, then the positions."""
    averages = build.within("channel").bottleneck(build.global_average(x))
    maxima = build.within("channel").bottleneck(build.reduce("maximum", x, ROWS, COLS))
    gate = build.add("sigmoid input", "sum", averages, maxima)
    gate = build.activation("sigmoid", gate)
    x = build.product("average input", x, gate)
    pooled = pool_channels(build, "average", "maximum", x=x)
    gate = spatial_gate(build.within("spatial"), pooled, kernel_size, bn_eps, bn_decay)
    return build.product("", x, gate)


def pool_channels(build: Builder, *kinds: str, x: str) -> str:
    """Maps of one channel each, over the channels of x, one after the other."""
    maps = [build.reduce(kind, x, CHANNELS) for kind in kinds]
    _, rows, cols = build.shape(maps[0])
    return build.concatenate(*maps, axis=CHANNELS, shape=(fixed(len(maps)), rows, cols))


def spatial_gate(build: Builder, x: str, kernel_size: int, eps: float, decay: float) -> str:
    """A convolution of pooled maps, its norm and a sigmoid."""
    y = build.convolution("conv", x, padding=(kernel_size // 2, kernel_size // 2))
    y = build.batch_norm("bn", y, eps, decay)
    return build.activation("sigmoid", y, name="")


def start(channels: int, **options: Any) -> Start:
    """Two gates of sigmoid(0) = 1/2, one after the other. The scale of the norm is 0, not its
    convolution: a norm of a constant has no gradient that is of any use.
    """
    return Start(("channel.fc2", "spatial.bn"), factor=4, relus=("channel.fc1",))


KIND = Kind(
    title=mark("convolutional block attention module"),
    source="Woo et al. 2018, CBAM: Convolutional Block Attention Module",
    summary=(
        "Scales each channel, from average and maximum through one bottleneck, then each "
        "position, by a 7x7 convolution."
    ),
    parameters=cbam,
    graph=graph,
    start=start,
)

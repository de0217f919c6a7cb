"""Bottleneck attention module."""

from typing import Any

from weights.attention.kinds import Kind, Start, hidden_width
from weights.checks import at_least, batch_norm_numbers, one_of, truth
from weights.language import mark
from weights.operations import Builder
from weights.parameters import Parameters, batch_norm, convolution, within


def bam(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    dilation: int = 4,
    fusion: str = "sum",
    bn_eps: float = 1e-5,
    bn_decay: float = 0.9,
    folded: bool = False,
) -> Parameters:
    """reduction (16), hidden_channels: the width between the layers of both branches. dilation: of
    the two 3x3 convolutions, in pixels. fusion: how the branches meet, sum as in the paper or
    product as in the authors' code. bn_eps, bn_decay: of the batch norms after every layer but the
    last, as in that code. folded: whether they are part of the convolutions before them, as
    `weights.fold` makes them. Training needs more than one image, since the channel branch
    normalises over the images alone. Names: the authors', without gate_c.gate_c_ and
    gate_s.gate_s_; their fully connected layers are 1x1 convolutions here.
    """
    at_least("dilation", dilation, 1)
    one_of("fusion", fusion, ("sum", "product"))
    batch_norm_numbers(bn_eps, bn_decay)
    truth("folded", folded)
    hidden = hidden_width(channels, reduction, hidden_channels)
    channel = (
        *convolution("fc_0", channels, hidden),
        *batch_norm("bn_1", hidden, folded),
        *convolution("fc_final", hidden, channels),
    )
    spatial = (
        *convolution("conv_reduce0", channels, hidden),
        *batch_norm("bn_reduce0", hidden, folded),
        *convolution("conv_di_0", hidden, hidden, (3, 3)),
        *batch_norm("bn_di_0", hidden, folded),
        *convolution("conv_di_1", hidden, hidden, (3, 3)),
        *batch_norm("bn_di_1", hidden, folded),
        *convolution("conv_final", hidden, 1),
    )
    return (*within("channel_att", channel), *within("spatial_att", spatial))


def graph(
    build: Builder,
    x: str,
    dilation: int,
    fusion: str,
    bn_eps: float,
    bn_decay: float,
    **width: Any,
) -> str:
    """Section 3.1, equations 1 to 4; the batch norms are where the authors' code has them."""

    def layer(part: Builder, conv: str, bn: str, x: str, reach: int = 0) -> str:
        y = part.convolution(conv, x, padding=(reach, reach), dilation=max(reach, 1))
        y = part.batch_norm(bn, y, bn_eps, bn_decay)
        return part.activation("relu", y)

    channel, spatial = build.within("channel_att"), build.within("spatial_att")
    of_channels = layer(channel, "fc_0", "bn_1", channel.global_average(x))
    of_channels = channel.convolution("fc_final", of_channels)
    of_positions = layer(spatial, "conv_reduce0", "bn_reduce0", x)
    of_positions = layer(spatial, "conv_di_0", "bn_di_0", of_positions, dilation)
    of_positions = layer(spatial, "conv_di_1", "bn_di_1", of_positions, dilation)
    of_positions = spatial.convolution("conv_final", of_positions)
    whole = build.shape(x)
    gate = build.add("sigmoid input", fusion, of_channels, of_positions, shape=whole)
    gate = build.activation("sigmoid", gate)
    gate = build.affine("one_more", gate, offset=1)
    return build.product("", x, gate)


def start(channels: int, fusion: str, **options: Any) -> Start:
    """1 + sigmoid(0) = 3/2. No gate that still learns makes 1 + gate a power of 2, so this is as
    near as rounding allows. In a product one factor is 0: two would have no gradient.
    """
    channel, spatial = "channel_att.fc_final", "spatial_att.conv_final"
    if fusion == "product":
        return Start((channel,), factor=2 / 3, exact=False, biases=((spatial, 1.0),))
    return Start((channel, spatial), factor=2 / 3, exact=False)


KIND = Kind(
    title=mark("bottleneck attention module"),
    source="Park et al. 2018, BAM: Bottleneck Attention Module",
    summary=(
        "Scales by 1 + a gate for each channel and position: the sum of a channel bottleneck and "
        "of dilated convolutions."
    ),
    parameters=bam,
    graph=graph,
    start=start,
)

"""Triplet attention."""

from typing import Any

from weights.attention.cbam import pool_channels, spatial_gate
from weights.attention.kinds import Kind, Start
from weights.checks import batch_norm_numbers, odd, truth
from weights.language import mark
from weights.operations import CHANNELS, COLS, ROWS, Builder
from weights.parameters import Parameters, batch_norm, convolution, within


def triplet(
    channels: int,
    kernel_size: int = 7,
    spatial: bool = True,
    bn_eps: float = 1e-5,
    bn_decay: float = 0.99,
    folded: bool = False,
) -> Parameters:
    """kernel_size: of the convolutions, odd. spatial: whether the branch over height and width is
    there too. bn_eps, bn_decay: of the batch norms. folded: whether they are part of the
    convolutions before them, which have biases then, as `weights.fold` makes them. Names: the
    authors', without one level.
    """
    size = odd("kernel_size", kernel_size)
    truth("spatial", spatial)
    batch_norm_numbers(bn_eps, bn_decay)
    truth("folded", folded)
    gate = (
        *convolution("conv", 2, 1, (size, size), bias=folded),
        *batch_norm("bn", 1, folded),
    )
    return tuple(
        parameter
        for branch in ("cw", "hc", *(("hw",) if spatial else ()))
        for parameter in within(branch, gate)
    )


def graph(
    build: Builder,
    x: str,
    kernel_size: int,
    spatial: bool,
    bn_eps: float,
    bn_decay: float,
    **layers: Any,
) -> str:
    """Section 3.2, equations 1 to 3: each branch swaps an axis with the channels, gates, and swaps
    it back.
    """
    channels, rows, cols = build.shape(x)
    swapped = {
        "cw": ((CHANNELS, ROWS), (rows, channels, cols)),
        "hc": ((CHANNELS, COLS), (cols, rows, channels)),
    }
    branches = []
    for name, (axes, shape) in swapped.items():
        turned = build.add("maximum input", "swap_axes", x, shape=shape, axes=axes)
        pooled = pool_channels(build, "maximum", "average", x=turned)
        gate = spatial_gate(build.within(name), pooled, kernel_size, bn_eps, bn_decay)
        gated = build.within(name).product("gated", turned, gate)
        shape = (channels, rows, cols)
        back = build.within(name).add("back", "swap_axes", gated, shape=shape, axes=axes)
        branches.append(back)
    if spatial:
        pooled = pool_channels(build, "maximum", "average", x=x)
        gate = spatial_gate(build.within("hw"), pooled, kernel_size, bn_eps, bn_decay)
        branches.append(build.within("hw").product("gated", x, gate))
    total = build.add("total", "sum", *branches)
    return build.affine("", total, factor=1 / len(branches))


def start(channels: int, spatial: bool, **options: Any) -> Start:
    """Gates of sigmoid(0) = 1/2 by the scales of the norms, as in `cbam`. The mean of two is exact;
    that of three is a product with 1/3, which is rounded.
    """
    branches = ("cw.bn", "hc.bn", "hw.bn") if spatial else ("cw.bn", "hc.bn")
    return Start(branches, factor=2, exact=not spatial)


KIND = Kind(
    title=mark("triplet attention"),
    source="Misra et al. 2021, Rotate to Attend: Convolutional Triplet Attention Module",
    summary=(
        "Averages three copies, each with a gate over two axes from maximum and average along the "
        "third, by a 7x7 convolution."
    ),
    parameters=triplet,
    graph=graph,
    start=start,
)

"""Gather-excite."""

from typing import Any

from weights.attention.kinds import Kind, Start, hidden_width
from weights.checks import (
    Pair,
    at_least,
    at_most,
    batch_norm_numbers,
    check_map,
    one_of,
    pair_of,
    truth,
)
from weights.errors import ArgumentError
from weights.language import mark
from weights.operations import Builder
from weights.parameters import (
    Parameters,
    batch_norm,
    convolution,
    depthwise,
    within,
)


def gathered_steps(gather: str, extent: int | None) -> int:
    """How many convolutions of stride 2 a gather of that extent takes. Raises ArgumentError for an
    extent it cannot have.
    """
    if extent is None:
        return 0
    extent = at_least("extent", extent, 2)
    at_most("extent", extent, 256, "pixels")
    if extent & (extent - 1) and gather == "convolution":
        raise ArgumentError(
            "extent: expected a power of 2 (or None: everywhere) with gather='convolution', which "
            f"halves the map at each step; got {extent}"
        )
    return extent.bit_length() - 1


def gather_excite(
    channels: int,
    gather: str = "average",
    extent: int | None = None,
    size: int | Pair | None = None,
    mlp: bool = False,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    bn_eps: float = 1e-5,
    bn_decay: float = 0.9,
    folded: bool = False,
) -> Parameters:
    """gather: average (GE-theta-minus, no parameters) or convolution (GE-theta: depthwise, with
    batch norm). extent: None for the whole map; else how many pixels one gathered value stands for:
    averages over 2 extent - 1 pixels around it, or log2(extent) convolutions 3x3 of stride 2. size:
    (height, width) of the map, for a convolution over the whole of it. mlp: two 1x1 convolutions
    behind the gather (with gather=convolution: GE-theta-plus), of hidden width reduction (16) or
    hidden_channels. bn_eps, bn_decay: of the batch norms. folded: whether they are part of the
    convolutions before them, which have biases then, as `weights.fold` makes them. Gathered maps
    are spread by the nearest neighbour: row r of n reads row floor(r m / n) of m, in whole numbers.
    Names: timm's; its convolution over the whole map is padded, and so another one, and its mlp is
    there by default.
    """
    one_of("gather", gather, ("average", "convolution"))
    steps = gathered_steps(gather, extent)
    truth("mlp", mlp)
    batch_norm_numbers(bn_eps, bn_decay)
    truth("folded", folded)
    hidden = hidden_width(channels, reduction, hidden_channels)
    if not mlp and (reduction is not None or hidden_channels is not None):
        raise ArgumentError(
            "reduction, hidden_channels: set the width of the two layers that only mlp=True has"
        )
    whole = gather == "convolution" and extent is None
    if whole != (size is not None):
        need = "must be given" if whole else "is for that alone"
        raise ArgumentError(
            "size: the (height, width) of the map for gather='convolution' over the whole of it "
            f"(extent None); {need}"
        )
    kernels = (
        [pair_of("size", size)] if whole else [(3, 3)] * (steps if gather == "convolution" else 0)
    )
    gathered = (
        parameter
        for number, kernel in enumerate(kernels, start=1)
        for parameter in (
            *depthwise(f"conv{number}", channels, kernel, folded),
            *batch_norm(f"norm{number}", channels, folded),
        )
    )
    layers = (
        *convolution("fc1", channels, hidden),
        *convolution("fc2", hidden, channels),
    )
    return (*within("gather", tuple(gathered)), *(within("mlp", layers) if mlp else ()))


def graph(
    build: Builder,
    x: str,
    gather: str,
    extent: int | None,
    mlp: bool,
    bn_eps: float,
    bn_decay: float,
    **sizes: Any,
) -> str:
    """Section 2: x * sigmoid(interp(xi_G(x))); gathers of sections 3.1, 3.2, layers of 3.3."""
    if gather == "convolution":
        y = _convolve(build.within("gather"), x, extent, bn_eps, bn_decay)
    elif extent is None:
        y = build.global_average(x, name="gather")
    else:
        channels, rows, cols = build.shape(x)
        shape = (channels, rows.strided(extent), cols.strided(extent))
        y = build.add("gather", "average_around", x, shape=shape, extent=extent)
    y = build.within("mlp").bottleneck(y) if mlp else y
    y = build.activation("sigmoid", y)
    y = build.add("nearest", "nearest", y, shape=build.shape(x))
    return build.product("", x, y)


def _convolve(build: Builder, x: str, extent: int | None, eps: float, decay: float) -> str:
    """Depthwise convolutions of stride 2, or one over the whole map."""
    steps = 1 if extent is None else gathered_steps("convolution", extent)
    stride, padding = ((1, 1), (0, 0)) if extent is None else ((2, 2), (1, 1))
    groups = build.shape(x)[0].size
    for step in range(1, steps + 1):
        x = build.activation("relu", x) if step > 1 else x
        x = build.convolution(f"conv{step}", x, stride, padding, groups=groups)
        x = build.batch_norm(f"norm{step}", x, eps, decay)
    return x


def check(rows: int, cols: int, size: int | Pair | None, **options: Any) -> None:
    check_map("ge", rows, cols, size=None if size is None else pair_of("size", size))


def start(channels: int, gather: str, extent: int | None, mlp: bool, **options: Any) -> Start:
    """sigmoid(0) = 1/2, by the last layer or by the scale of the last norm.

    The offset of a norm before a relu begins at 1/2: at 0 the norm after it would undo its scale.
    """
    steps = max(1, gathered_steps(gather, extent))
    biases = tuple((f"gather.norm{step}", 0.5) for step in range(1, steps))
    if mlp:
        relus = ("mlp.fc1",) if gather == "average" else ()
        return Start(("mlp.fc2",), factor=2, relus=relus, biases=biases)
    if gather == "average":
        raise ArgumentError(
            "with gather='average' and mlp=False it has no parameters, so its gates change the "
            "output from the start and nothing can be trained; give it mlp=True, or "
            "gather='convolution' and an extent"
        )
    return Start((f"gather.norm{steps}",), factor=2, biases=biases)


KIND = Kind(
    title=mark("gather-excite"),
    source="Hu et al. 2018, Gather-Excite: Exploiting Feature Context",
    summary=(
        "Scales each value by a gate gathered from its channel: everywhere or around it, by "
        "averages or depthwise convolutions."
    ),
    parameters=gather_excite,
    graph=graph,
    check=check,
    start=start,
)

"""Coordinate attention."""

from typing import Any

from weights.attention.kinds import Kind, Start, hidden_width
from weights.checks import batch_norm_numbers, truth
from weights.language import mark
from weights.operations import COLS, ROWS, Builder, fixed
from weights.parameters import Parameters, batch_norm, convolution


def coordinate(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    minimum: int = 8,
    bn_eps: float = 1e-5,
    bn_decay: float = 0.9,
    folded: bool = False,
) -> Parameters:
    """reduction (32), hidden_channels, minimum: the hidden width. bn_eps, bn_decay: of the batch
    norm. folded: whether it is part of the convolution before it, as `weights.fold` makes it.
    Names: the authors' and timm's (which has other widths, and no biases unless asked).
    """
    batch_norm_numbers(bn_eps, bn_decay)
    truth("folded", folded)
    hidden = hidden_width(channels, reduction, hidden_channels, minimum=minimum, kind="coordinate")
    return (
        *convolution("conv1", channels, hidden),
        *batch_norm("bn1", hidden, folded),
        *convolution("conv_h", hidden, channels),
        *convolution("conv_w", hidden, channels),
    )


def graph(build: Builder, x: str, bn_eps: float, bn_decay: float, **width: Any) -> str:
    """Section 3.2, equations 4 to 9; the activation is hard swish, as in the authors' code."""
    channels, rows, cols = build.shape(x)
    of_rows = build.reduce("average", x, COLS)
    of_cols = build.reduce("average", x, ROWS)
    both = (channels, rows.plus(cols), fixed(1))
    y = build.concatenate(of_rows, of_cols, axis=ROWS, shape=both)
    y = build.convolution("conv1", y)
    y = build.batch_norm("bn1", y, bn_eps, bn_decay)
    y = build.activation("hard_swish", y)
    hidden = build.shape(y)[0]
    of_rows = build.add("rows", "slice", y, shape=(hidden, rows, fixed(1)), axis=ROWS, start=0)
    of_cols = build.add(
        "cols", "slice", y, shape=(hidden, fixed(1), cols), axis=ROWS, start=rows.size
    )
    gate_rows = build.activation("sigmoid", build.convolution("conv_h", of_rows))
    gate_cols = build.activation("sigmoid", build.convolution("conv_w", of_cols))
    x = build.product("by_cols", x, gate_cols)
    return build.product("", x, gate_rows)


def start(channels: int, **options: Any) -> Start:
    """Two gates of sigmoid(0) = 1/2."""
    return Start(("conv_h", "conv_w"), factor=4)


KIND = Kind(
    title=mark("coordinate attention"),
    source="Hou et al. 2021, Coordinate Attention for Efficient Mobile Network Design",
    summary=(
        "Scales each value by a gate for its row and one for its column, from averages along each "
        "axis."
    ),
    parameters=coordinate,
    graph=graph,
    reduction=(32, 1),
    start=start,
)

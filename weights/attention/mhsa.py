"""Multi-head self-attention with relative positions."""

from math import isqrt
from typing import Any

from weights.attention.kinds import Kind
from weights.checks import Pair, at_least, check_map, pair_of, truth
from weights.errors import ArgumentError
from weights.language import mark
from weights.operations import Builder, fixed
from weights.parameters import Parameter, Parameters, convolution


def head_width(channels: int, heads: int) -> int:
    """Channels of one head. Raises ArgumentError when the heads do not divide the channels."""
    if channels % at_least("heads", heads, 1):
        small = [number for number in range(1, isqrt(channels) + 1) if channels % number == 0]
        fitting = sorted({*small, *(channels // number for number in small)})
        raise ArgumentError(
            f"heads: {heads} does not divide {channels} channels; one of "
            f"{', '.join(map(str, fitting[:20]))} would"
        )
    return channels // heads


def multi_head_self_attention(
    channels: int,
    size: int | Pair,
    heads: int = 4,
    scale_positions: bool = True,
    bias: bool = False,
) -> Parameters:
    """size: (height, width) of the map, which the tables of relative positions have; other inputs
    are refused. heads: must divide the channels. scale_positions: whether the position logits are
    divided by sqrt(channels / heads) as the content logits are: so in the authors' code, not in
    timm's. bias: of the convolution that makes queries, keys and values, in this order, head by
    head. Names: timm's, whose widths are the same where channels are a multiple of 8.
    """
    rows, cols = pair_of("size", size)
    truth("scale_positions", scale_positions)
    truth("bias", bias)
    width = head_width(channels, heads)
    return (
        *convolution("qkv", channels, 3 * channels, bias=bias),
        Parameter("pos_embed", "row offsets", (2 * rows - 1, width)),
        Parameter("pos_embed", "column offsets", (2 * cols - 1, width)),
    )


def graph(
    build: Builder,
    x: str,
    heads: int,
    scale_positions: bool,
    **others: Any,
) -> str:
    """Section 3.1 and figure 4: softmax(q k^T + q r^T) v, r = r_h + r_w by the distances of Shaw et
    al. 2018.
    """
    channels, rows, cols = build.shape(x)
    width, here = channels.size // heads, rows.times(cols)
    logits_shape = (fixed(heads), here, here)
    qkv = build.convolution("qkv", x)
    query, key, value = (
        build.add(
            name,
            "head_part",
            qkv,
            shape=(fixed(heads), here, fixed(width)),
            part=part,
            parts=3,
            heads=heads,
        )
        for part, name in enumerate(("query", "key", "value"))
    )
    scaled = build.affine("scaled", query, factor=width**-0.5)
    content = build.matrix_product(
        "logits",
        "head here feature, head there feature -> head here there",
        scaled,
        key,
        shape=logits_shape,
        summed=width,
    )
    positions = build.add(
        "pos_embed",
        "relative_positions",
        scaled if scale_positions else query,
        shape=logits_shape,
        module="pos_embed",
        multiply_adds=heads * here.size * width * (rows.size + cols.size),
        size=(rows.size, cols.size),
    )
    logits = build.add("softmax input", "sum", content, positions)
    weights = build.softmax(logits)
    return build.matrix_product(
        "",
        "head here there, head there feature -> head feature here",
        weights,
        value,
        shape=(channels, rows, cols),
        summed=here.size,
    )


def check(rows: int, cols: int, size: int | Pair, **options: Any) -> None:
    check_map("mhsa", rows, cols, size=pair_of("size", size))


KIND = Kind(
    title=mark("multi-head self-attention"),
    source="Srinivas et al. 2021, Bottleneck Transformers for Visual Recognition",
    summary=(
        "Replaces each position by a mean over all positions, weighted by content and by relative "
        "position, in several heads."
    ),
    parameters=multi_head_self_attention,
    graph=graph,
    check=check,
    refusal=(
        "it replaces each position by a mean over all of them and has no path past "
        "that, so the output can only be kept where each position attends to itself alone: by "
        "saturated weights, which have no gradient"
    ),
)

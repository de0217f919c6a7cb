"""Non-local."""

from typing import Any

from weights.attention.kinds import Kind, Start, hidden_width
from weights.checks import batch_norm_numbers, check_map, truth
from weights.language import mark
from weights.operations import Builder
from weights.parameters import Parameters, batch_norm, convolution


def non_local(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    subsample: bool = False,
    scale: bool = False,
    bn_eps: float = 1e-5,
    bn_decay: float = 0.9,
    folded: bool = False,
) -> Parameters:
    """reduction (2), hidden_channels: the width of theta, phi and g. subsample: a 2x2 maximum
    pooling behind phi and g, as the paper says (the authors' code pools in front of them, which is
    something else). scale: whether the resemblance is divided by sqrt(hidden width), as in the
    authors' code, not in the paper (timm: by sqrt(channels)). bn_eps, bn_decay: of the batch norm
    on the output, whose scale starts at 0, so that the module starts as the identity. folded:
    whether it is part of the convolution before it, as `weights.fold` makes it. The bias of phi
    moves nothing: a softmax does not see what is added to all positions. Names: the paper's
    symbols.
    """
    truth("subsample", subsample)
    truth("scale", scale)
    batch_norm_numbers(bn_eps, bn_decay)
    truth("folded", folded)
    hidden = hidden_width(channels, reduction, hidden_channels, kind="nonlocal")
    return (
        *convolution("theta", channels, hidden),
        *convolution("phi", channels, hidden),
        *convolution("g", channels, hidden),
        *convolution("conv_out", hidden, channels),
        *batch_norm("bn", channels, folded),
    )


def graph(
    build: Builder,
    x: str,
    subsample: bool,
    scale: bool,
    bn_eps: float,
    bn_decay: float,
    **width: Any,
) -> str:
    """Section 3.1, equation 1; 3.2, embedded Gaussian (equation 3); 3.3, equation 6, with its batch
    norm and subsampling.
    """
    query, key, value = (build.convolution(name, x) for name in ("theta", "phi", "g"))
    hidden, rows, cols = build.shape(query)
    if subsample:
        key, value = (
            build.max_pool("max_pool_2x2", part, (2, 2), (2, 2), (0, 0)) for part in (key, value)
        )
    here, there = (build.shape(part)[1].times(build.shape(part)[2]) for part in (query, key))
    logits = build.matrix_product(
        "logits" if scale else "softmax input",
        "feature here, feature there -> here there",
        query,
        key,
        shape=(here, there),
        summed=hidden.size,
    )
    logits = build.affine("softmax input", logits, factor=hidden.size**-0.5) if scale else logits
    weights = build.softmax(logits)
    y = build.matrix_product(
        "weighted",
        "here there, feature there -> feature here",
        weights,
        value,
        shape=(hidden, rows, cols),
        summed=there.size,
    )
    y = build.convolution("conv_out", y)
    y = build.batch_norm("bn", y, bn_eps, bn_decay)
    return build.add("", "sum", x, y)


def check(rows: int, cols: int, subsample: bool, **options: Any) -> None:
    if subsample:
        check_map("nonlocal with subsample", rows, cols, least=(2, 1))


def start(
    channels: int, reduction: int | None, hidden_channels: int | None, scale: bool, **options: Any
) -> Start:
    """x + 0, as the paper has it. The logits, products of queries and keys, begin with a deviation
    of about 1.
    """
    hidden = hidden_width(channels, reduction, hidden_channels, kind="nonlocal")
    deviation = 1.0 if scale else hidden**-0.25
    return Start(("bn",), logits=(("theta", deviation), ("phi", deviation)))


KIND = Kind(
    title=mark("non-local"),
    source="Wang et al. 2018, Non-local Neural Networks",
    summary=(
        "Adds to each position a mean over all positions, weighted by how much they resemble it "
        "(embedded Gaussian)."
    ),
    parameters=non_local,
    graph=graph,
    reduction=(2, 1),
    check=check,
    start=start,
)

"""Global context."""

from typing import Any

from weights.attention.kinds import Kind, Start, hidden_width
from weights.checks import one_of, positive
from weights.language import mark
from weights.operations import Builder, fixed
from weights.parameters import Parameters, convolution, layer_norm, within


def global_context(
    channels: int,
    reduction: int | None = None,
    hidden_channels: int | None = None,
    pooling: str = "attention",
    fusion: str = "add",
    ln_eps: float = 1e-5,
) -> Parameters:
    """reduction (16), hidden_channels: the hidden width; at least 2, since a layer norm over one
    channel is its offset, whatever comes. pooling: attention (a softmax over positions) or average.
    fusion: add, scale (a sigmoid gate) or both (scale first; timm: scale alone, and reduction 8).
    ln_eps: of the layer norm (timm: 1e-6). The bias of conv_attn moves nothing: a softmax does not
    see what is added to all positions. Names: timm's.
    """
    one_of("pooling", pooling, ("attention", "average"))
    one_of("fusion", fusion, ("add", "scale", "both"))
    positive("ln_eps", ln_eps)
    hidden = hidden_width(channels, reduction, hidden_channels, kind="gc")
    layers = (
        *convolution("fc1", channels, hidden),
        *layer_norm("norm", hidden),
        *convolution("fc2", hidden, channels),
    )
    return (
        *(convolution("conv_attn", channels, 1) if pooling == "attention" else ()),
        *(within("mlp_scale", layers) if fusion != "add" else ()),
        *(within("mlp_add", layers) if fusion != "scale" else ()),
    )


def graph(build: Builder, x: str, pooling: str, fusion: str, ln_eps: float, **width: Any) -> str:
    """Section 3.4, equation 5 and figure 4d; the fusions: Cao et al. 2020, figure 1."""
    if pooling == "average":
        context = build.global_average(x)
    else:
        channels, rows, cols = build.shape(x)
        logits = build.convolution("conv_attn", x)
        weights = build.softmax(logits, shape=(fixed(1), rows.times(cols)))
        context = build.matrix_product(
            "context",
            "query position, channel position -> channel query",
            weights,
            x,
            shape=(channels, fixed(1), fixed(1)),
            summed=rows.size * cols.size,
        )

    def transform(branch: Builder) -> str:
        y = branch.convolution("fc1", context)
        y = branch.layer_norm("norm", y, ln_eps)
        y = branch.activation("relu", y)
        return branch.convolution("fc2", y)

    if fusion != "add":
        gate = build.activation("sigmoid", transform(build.within("mlp_scale")))
        x = build.product("" if fusion == "scale" else "scaled", x, gate)
    return x if fusion == "scale" else build.add("", "sum", x, transform(build.within("mlp_add")))


def start(channels: int, pooling: str, fusion: str, **options: Any) -> Start:
    """x + 0, and a gate of sigmoid(0) = 1/2 where there is one."""
    branches = {"add": ("mlp_add",), "scale": ("mlp_scale",)}.get(fusion, ("mlp_scale", "mlp_add"))
    logits = (("conv_attn", 1.0),) if pooling == "attention" else ()
    factor = 1 if fusion == "add" else 2
    return Start(tuple(f"{branch}.fc2" for branch in branches), factor=factor, logits=logits)


KIND = Kind(
    title=mark("global context"),
    source="Cao et al. 2019, GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond",
    summary=(
        "Averages all positions with learned weights, and adds to every position what a "
        "bottleneck makes of that average."
    ),
    parameters=global_context,
    graph=graph,
    reduction=(16, 2),
    start=start,
)

"""Effective squeeze-and-excitation."""

from typing import Any

from weights.attention.kinds import Kind, Start
from weights.checks import one_of
from weights.language import mark
from weights.operations import GATES, Builder
from weights.parameters import Parameters, convolution


def effective_squeeze_excite(channels: int, gate: str = "hard_sigmoid") -> Parameters:
    """gate: hard_sigmoid, as in the authors' code, or sigmoid, as in the paper's formula. Names:
    timm's.
    """
    one_of("gate", gate, GATES)
    return convolution("fc", channels, channels)


def graph(build: Builder, x: str, gate: str) -> str:
    """Section 3.3: A_eSE(X) = sigma(W_C F_gap(X)), with one layer of C to C."""
    y = build.global_average(x)
    y = build.convolution("fc", y)
    y = build.activation(gate, y)
    return build.product("", x, y)


def start(channels: int, **options: Any) -> Start:
    """Either gate is 1/2 at 0; the one layer learns at once."""
    return Start(("fc",), factor=2)


KIND = Kind(
    title=mark("effective squeeze-and-excitation"),
    source="Lee & Park 2020, CenterMask (effective squeeze-excitation)",
    summary=(
        "Scales each channel by a gate that one layer, as wide as the input, computes from the "
        "averages of all channels."
    ),
    parameters=effective_squeeze_excite,
    graph=graph,
    start=start,
)

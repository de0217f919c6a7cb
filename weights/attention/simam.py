"""SimAM."""

from typing import Any

from weights.attention.kinds import Kind
from weights.checks import check_map, positive
from weights.language import mark
from weights.operations import COLS, ROWS, Builder
from weights.parameters import Parameters


def simam(channels: int, e_lambda: float = 1e-4) -> Parameters:
    """e_lambda: added to the variance (lambda in the paper), which is divided by positions - 1, as
    in the authors' code. Needs maps of more than one position.
    """
    positive("e_lambda", e_lambda)
    return ()


def graph(build: Builder, x: str, e_lambda: float) -> str:
    """Equation 5, of which the inverse 1 / e* goes through the sigmoid of equation 6; the variance
    is divided by n - 1.
    """
    _, rows, cols = build.shape(x)
    count = rows.size * cols.size
    mean = build.reduce("average", x, ROWS, COLS)
    centred = build.add("centred", "difference", x, mean)
    squares = build.add("average input", "square", centred)
    variance = build.reduce("average", squares, ROWS, COLS)
    variance = build.add("variance", "bessel", variance, count=count)
    divisor = build.affine("divisor", variance, factor=4, offset=4 * e_lambda)
    energy = build.add("energy", "quotient", squares, divisor)
    energy = build.affine("sigmoid input", energy, offset=0.5)
    gate = build.activation("sigmoid", energy)
    return build.product("", x, gate)


def check(rows: int, cols: int, **options: Any) -> None:
    check_map("simam", rows, cols, least=(1, 2))


KIND = Kind(
    title=mark("simple, parameter-free attention"),
    source="Yang et al. 2021, SimAM: A Simple, Parameter-Free Attention Module",
    summary=(
        "Scales each value by a gate that grows with its squared distance from its channel's "
        "mean; no parameters."
    ),
    parameters=simam,
    graph=graph,
    check=check,
    refusal=(
        "it has no parameters: its gates, from 0.62 to 1 by the data, change the "
        "output from the start, no factor undoes that, and nothing could be trained"
    ),
)

"""No attention."""

from weights.attention.kinds import Kind
from weights.language import mark
from weights.operations import Builder
from weights.parameters import Parameters


def none(channels: int) -> Parameters:
    return ()


def graph(build: Builder, x: str) -> str:
    return x


KIND = Kind(
    title=mark("no attention"),
    source="",
    summary="No attention: gives back its input.",
    parameters=none,
    graph=graph,
)

"""Our blocks and networks as graphs of nodes, to compare a model with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from resattn.reading.drawn import read_drawing
from resattn.recognition.nodes import NodeGraph, build_graph
from resattn.recognition.structure import TrunkParts, find_parts
from weights import schema
from weights.checks import Pair
from weights.config import Config
from weights.graph import Graph, graph

# What a parameter is in its operation; the two tables of relative positions are not told apart.
ROLES_OF = {
    "convolution kernel": "weight",
    "1-d convolution kernel": "weight",
    "depthwise kernel": "weight",
    "convolution bias": "bias",
    "linear kernel": "weight",
    "linear bias": "bias",
    "norm scale": "weight",
    "norm offset": "bias",
    "norm mean": "mean",
    "norm variance": "variance",
    "row offsets": "rows",
    "column offsets": "cols",
}


@dataclass(frozen=True)
class DrawnModel:
    """A config as a graph of nodes for images of one size.

    drawn: the operations. nodes: the same without names, but each knows its operation by
    `node.step.name`. parts: its blocks.
    """

    config: Config
    drawn: Graph
    nodes: NodeGraph
    parts: TrunkParts


@lru_cache(maxsize=512)
def draw_model(config: Config, size: Pair) -> DrawnModel:
    """Cached, since near misses try many configs and a network asks for equal blocks again.

    Raises ArgumentError for a size that the config cannot have.
    """
    drawn = graph(config, size)
    parameters = schema(config)
    shapes = {each.name: each.shape for each in parameters}
    roles = {each.name: ROLES_OF.get(each.role, each.role) for each in parameters}
    nodes = build_graph(read_drawing(drawn), shapes, roles)
    parts = find_parts(nodes.nodes, nodes.image, nodes.output)
    return DrawnModel(config, drawn, nodes, parts)

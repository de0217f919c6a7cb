"""What a model of anybody's is: one of our blocks or networks, or what it differs in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from resattn.reading.reading import Reading
from resattn.recognition.block_fields import make_block, read_fields, vary_fields
from resattn.recognition.drawings import DrawnModel, draw_model
from resattn.recognition.mapping import Alignment, align, canonical_arrays, map_stages
from resattn.recognition.network_fields import find_ends, make_network
from resattn.recognition.nodes import GraphNode, OperationGraph, build_graph
from resattn.recognition.structure import BlockParts, TrunkParts, find_parts
from weights.config import Config
from weights.errors import ArgumentError


@dataclass(frozen=True)
class Recognition:
    """What a model was found to be."""

    config: Config | None
    stages: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """A part of a model that may be one of ours: the nodes that it begins after and ends with."""

    config: Config
    start: GraphNode
    end: GraphNode


def recognise_model(
    reading: Reading,
    expected: Config | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
) -> Recognition:
    shapes = {name: array.shape for name, array in reading.arrays.items()}
    graph = build_graph(reading.steps, shapes)
    parts = find_parts(graph.nodes, graph.image, graph.output)
    for part in propose(parts, expected):
        try:
            model = draw_model(part.config, part.start.map_size)
        except ArgumentError:
            continue
        found = align(graph, (part.start, part.end), model, reading.arrays, arrays or {})
        if found is not None:
            return Recognition(
                part.config,
                map_stages(found, model),
                found.parameters,
                canonical_arrays(found.parameters, reading.arrays, model),
            )
    return Recognition(None)


def propose(parts: TrunkParts, expected: Config | None) -> Iterator[Part]:
    ends = find_ends(parts)
    config = make_network(parts, ends)
    if config is not None:
        yield Part(config, ends.start, ends.end)
    for block in parts.blocks:
        for fields in vary_fields(read_fields(block), block):
            found = make_block(fields)
            if found is not None:
                yield Part(found, block.start, block.end)

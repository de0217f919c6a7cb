"""The graph that a framework executes is read into the form of the graph that is drawn.

That both compute the same is tested by values, in test_graph.py. This is about the reading: the
same operations with the same edges in the same order, whatever primitives a framework makes of
them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from resattn.reading.compare import first_difference
from resattn.reading.drawn import read_drawing
from resattn.reading.models import read_operations
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from shared_tests.published_cases import PUBLISHED
from shared_tests.test_graph import DRAWN_LIES, EXECUTED_LIES, PLAIN, lying_block
from weights import NetworkConfig
from weights.config import Config
from weights.graph import graph
from weights.live import adapter

CASES = ATTENTION_VARIANTS + REPRESENTATIVE + NETWORKS
PUBLISHED_CASES = [*PUBLISHED.values()]


@cache
def steps(framework: str, config: Config, size: tuple[int, int]) -> list[Any]:
    model = adapter(framework).create(config, dtype="float32")
    adapter(framework).set_training(model, False)
    return read_operations(model, size)


@pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
def test_what_is_drawn_is_read(framework, config, size):
    expected = read_drawing(graph(config, size))
    assert first_difference(framework, steps(framework, config, size), expected) is None


@pytest.mark.parametrize(("config", "size"), PUBLISHED_CASES, ids=name_of)
def test_what_published_networks_draw_is_read(framework, config, size):
    found = graph(config, size)
    assert first_difference(framework, steps(framework, config, size), read_drawing(found)) is None


def test_every_operation_is_compared():
    """Nothing but parts of one operation and what only moves values is gone from the form."""
    for config, size in [*CASES, *PUBLISHED_CASES]:
        operations = graph(config, size)
        kept = {step.name for step in read_drawing(operations)}
        gone = {operation.kind for operation in operations if operation.name not in kept}
        assert gone <= {"swap_axes", "nearest", "bessel", "affine", "pad", "flatten", "subsample"}


def test_a_deep_network_is_read():
    """Deeper than Python's limit of recursion would allow from the output back to the image."""
    config = NetworkConfig(2, 3, (4,), (80,), attention="none")
    assert sum(step.kind == "sum" for step in read_drawing(graph(config, (5, 4)))) == 80


@pytest.mark.parametrize(
    "lie", ["no relu", "another stride", "another eps", "a sum for the product"]
)
def test_another_drawing_differs(framework, lie):
    (config, size), tell = DRAWN_LIES[lie]
    found = first_difference(
        framework, steps(framework, config, size), read_drawing(tell(graph(config, size)))
    )
    assert found is not None


@pytest.mark.parametrize("lie", ["attention behind the sum", "no relu", "half of the shortcut"])
def test_another_model_differs(framework, lie):
    model = lying_block(framework, EXECUTED_LIES[lie], PLAIN, "float32")
    expected = read_drawing(graph(PLAIN, (7, 6)))
    assert first_difference(framework, read_operations(model, (7, 6)), expected) is not None

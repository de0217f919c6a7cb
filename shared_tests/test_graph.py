"""The graph made from a config against the oracle: the same stages, shapes, parameters and
products.
"""

import math

import pytest

from resattn.checking.draws import random_arrays, random_input
from resattn.oracle import evaluation as reference
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from weights import BlockConfig, preset, schema
from weights.graph import Graph, graph

CASES = ATTENTION_VARIANTS + REPRESENTATIVE + NETWORKS


def test_shapes_are_formulas_too():
    found = graph(preset("se-resnet18"), (225, 224))
    assert shape(found, "stem") == ("64", "⌈H/4⌉", "⌈W/4⌉")
    assert shape(found, "stages.3.1") == ("512", "⌈H/32⌉", "⌈W/32⌉")
    assert [extent.size for extent in found["stages.3.1"].shape] == [512, 8, 7]
    assert found.output == "classifier"
    block = graph(BlockConfig(4, 6, stride=(2, 1), attention="coordinate"), (9, 8))
    assert shape(block, "attention.concatenate") == ("6", "⌈H/2⌉ + W", "1")


def shape(found: Graph, name: str) -> tuple[str, ...]:
    return tuple(extent.formula for extent in found[name].shape)


@pytest.mark.parametrize("opened", [True, False], ids=["opened", "closed"])
@pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
def test_against_the_oracle(config, size, opened):
    found = graph(config, size, opened)
    batch = 2
    x = random_input(config, size, batch, "float64")
    state, _, _ = reference.stages(config, random_arrays(config, "float64"), x, training=False)
    operations = {operation.name: operation for operation in found}
    assert len(operations) == len(found.operations)
    if opened:
        assert set(state.stages) <= set(operations)
        order = [name for name in operations if name in state.stages]
        assert set(order) == set(state.stages)
    for name, stage in state.stages.items():
        if name in operations:
            assert math.prod(stage.computed.shape) == batch * operations[name].numbers, name
            assert (
                stage.computed.shape[1] == operations[name].shape[0].size
                or len(stage.computed.shape) == 3
            ), name
    assert sum(operation.multiply_adds for operation in found) * batch == state.multiply_adds
    held = [parameter for operation in found for parameter in operation.parameters]
    assert sorted(parameter.name for parameter in held) == sorted(
        parameter.name for parameter in schema(config)
    )
    seen: set[str] = set()
    for operation in found:
        assert set(operation.inputs) <= seen
        seen.add(operation.name)


def test_a_size_that_does_not_fit():
    with pytest.raises(ValueError, match="size: expected a positive integer"):
        graph(BlockConfig(3, 4), (0, 3))

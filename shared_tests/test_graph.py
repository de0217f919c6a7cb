"""The graph of a config is what every framework computes: each value by its name, in float64.

The drawn graph is evaluated in NumPy, operation by operation, with the weights that the models
have, and every named value is compared with the one that the recorder sees in each framework. Lies,
in what is drawn and in what is executed, are found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from resattn.checking.backends import implementation, native_arguments, precise
from resattn.checking.cases import attention_block
from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.oracle.evaluation import evaluate
from resattn.oracle.node import backward
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, marked_like, name_of
from weights import BlockConfig, preset, schema
from weights.config import Config
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS
from weights.graph import Graph, check_size, default_size, graph, probe_size
from weights.live import adapter, build, load, part
from weights.operations import CHANNELS, COLS, ROWS, Builder, Extent, Operation, fixed

CASES = ATTENTION_VARIANTS + REPRESENTATIVE + NETWORKS
# What a model computes between its modules and the functions of its layers: no stage of its own.
# Values of these kinds are recorded where such a function is given them ("sum", "sigmoid input").
UNSEEN = {
    "sum", "product", "difference", "quotient", "square", "affine", "bessel",
    "slice", "head_part", "swap_axes", "matrix_product",
}  # fmt: skip
CLOSE = 1e-11  # of float64; the smallest lie here is larger by a factor of 10^8


def recording(framework: str, model: Any, config: Config, x: np.ndarray, training: bool) -> Any:
    last = "output" if isinstance(config, BlockConfig) else "classifier"
    return part(framework, "bridge.recorder").trace(
        model, x, lambda shape: random_cotangent(shape, "float64"), training=training, last=last
    )


def disagreement(found: Graph, arrays: Any, x: np.ndarray, seen: Any, training: bool) -> str | None:
    """What a recorded model and the evaluated graph do not agree on; None if there is nothing."""
    try:
        made = evaluate(found.operations, arrays, x, training=training)
    except ValueError as error:  # shapes that do not belong together
        return f"the graph cannot be computed: {error}"
    aliases = _moved(found, made, seen)
    unknown = [name for name in seen.values if name not in found and name not in aliases]
    unseen = [o.name for o in found if o.kind not in UNSEEN and o.name not in seen.values]
    if unknown or unseen:
        return f"computed but not drawn: {unknown}; drawn but not computed: {unseen}"
    if [o.name for o in found if o.name in seen.values] != [n for n in seen.values if n in found]:
        return "drawn in another order than computed"
    backward(made.output, random_cotangent(made.output.shape, "float64"))
    for name in seen.values:
        node = aliases[name] if name in aliases else made.stages[name].computed
        for what, right, actual in (
            ("value", node.value, seen.values[name]),
            ("slope", node.slope, seen.slopes.get(name)),
        ):
            if actual is None:
                continue
            sides = [[side for side in each.shape if side > 1] for each in (actual, right)]
            if sides[0] != sides[1] and name not in aliases:
                return f"{what} of {name}: {right.shape} is drawn, {actual.shape} computed"
            apart = np.abs(actual.reshape(right.shape) - right).max() / (np.abs(right).max() or 1)
            if not apart < CLOSE:
                return f"{what} of {name}: {apart:.1e} apart"
    return None


def _moved(found: Graph, made: Any, seen: Any) -> dict[str, Any]:
    """Values that a function was given and that were only moved since a stage gave them."""
    names = {name: name.removesuffix(" input") for name in seen.values if name not in found}
    return {
        name: made.stages[function].inputs[0]
        for name, function in names.items()
        if function != name and function in found
    }


def drawn_disagreement(framework: str, drawing: Graph, training: bool = False) -> str | None:
    """Of our own model of the config, and a graph that may be another than the config's."""
    arrays, x, seen = computed(framework, drawing.config, drawing.size, training)
    return disagreement(drawing, arrays, x, seen, training)


def compute(
    framework: str, config: Config, size: tuple[int, int], training: bool
) -> tuple[Any, ...]:
    """Weights, images, and what our model records of them."""
    arrays, x = random_arrays(config, "float64"), random_input(config, size, 2, "float64")
    with precise((framework,), "float64"):
        model = build(config, arrays, framework)
        return arrays, x, recording(framework, model, config, x, training)


computed = cache(compute)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
def test_what_is_drawn_is_computed(framework, config, size, training):
    assert drawn_disagreement(framework, graph(config, size), training) is None


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


@pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
def test_shapes_and_products_are_those_that_are_computed(config, size):
    found, batch = graph(config, size), 2
    x = random_input(config, size, batch, "float64")
    made = evaluate(found.operations, random_arrays(config, "float64"), x, training=False)
    for operation in found:
        expected = (batch, *(extent.size for extent in operation.shape))
        assert made.stages[operation.name].computed.shape == expected, operation.name
    counted = sum(operation.multiply_adds for operation in found)
    assert counted * batch == made.state.multiply_adds


@pytest.mark.parametrize("opened", [True, False], ids=["opened", "closed"])
@pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
def test_every_parameter_is_held_once(config, size, opened):
    found = graph(config, size, opened)
    held = [parameter.name for operation in found for parameter in operation.parameters]
    assert sorted(held) == sorted(parameter.name for parameter in schema(config))
    seen: set[str] = set()
    for operation in found:
        assert set(operation.inputs) <= seen
        assert operation.name not in seen
        seen.add(operation.name)
    whole = graph(config, size)
    assert sum(o.multiply_adds for o in found) == sum(o.multiply_adds for o in whole)


def test_a_size_that_does_not_fit():
    with pytest.raises(ArgumentError, match="size: expected a positive integer"):
        graph(BlockConfig(3, 4), (0, 3))
    small = BlockConfig(4, 4, attention="mhsa", attention_options={"size": 5, "heads": 2})
    with pytest.raises(
        ArgumentError, match=r"images of 6 x 5 do not fit attention: .* images of 5 x 5 fit"
    ):
        check_size(small, (6, 5))
    check_size(small, (5, 5))


def test_sizes_of_images():
    assert default_size(preset("resnet18")) == (224, 224)
    assert default_size(preset("resnet20")) == default_size(BlockConfig(3, 4)) == (32, 32)
    rows, cols = probe_size(preset("resnet18"))
    assert rows % 2 == 1
    assert cols % 2 == 0
    assert math.gcd(rows, cols) == 1


# Lies in what is drawn


def changed(drawing: Graph, **changes: dict[str, Any]) -> Graph:
    """Some operations with other inputs, kinds or settings; "_" stands for "." in names."""
    by_name = {name.replace("__", "."): change for name, change in changes.items()}
    assert set(by_name) <= {operation.name for operation in drawing}
    return replace(
        drawing, operations=tuple(replace(o, **by_name.get(o.name, {})) for o in drawing)
    )


def without(drawing: Graph, name: str) -> Graph:
    """One operation left out; what took its output takes its first input."""
    (gone,) = (operation for operation in drawing if operation.name == name)
    left = (operation for operation in drawing if operation is not gone)

    def bypassed(operation: Operation) -> Operation:
        return replace(
            operation,
            inputs=tuple(gone.inputs[0] if given == name else given for given in operation.inputs),
        )

    return replace(drawing, operations=tuple(map(bypassed, left)))


def twice(drawing: Graph, name: str) -> Graph:
    """One operation drawn twice, one behind the other."""
    operations = []
    for operation in drawing:
        inputs = tuple(f"{name} again" if given == name else given for given in operation.inputs)
        operations.append(replace(operation, inputs=inputs))
        if operation.name == name:
            operations.append(replace(operation, name=f"{name} again", inputs=(name,)))
    return replace(drawing, operations=tuple(operations))


def exchanged(drawing: Graph, first: str, second: str) -> Graph:
    """Two neighbours, one behind the other, in each other's place."""
    one, other = drawing[first], drawing[second]
    operations = {operation.name: operation for operation in drawing}
    swapped = {first: replace(other, inputs=one.inputs), second: replace(one, inputs=(second,))}
    order = [swapped.get(name, operation) for name, operation in operations.items()]

    def renamed(operation: Operation) -> Operation:
        if operation.name in (first, second):
            return replace(operation, inputs=one.inputs if operation.name == second else (second,))
        return replace(
            operation,
            inputs=tuple(first if given == second else given for given in operation.inputs),
        )

    return replace(drawing, operations=tuple(map(renamed, order)))


def earlier(drawing: Graph, name: str, place: int) -> Graph:
    """An operation at another place in the order."""
    operations = [operation for operation in drawing if operation.name != name]
    operations.insert(place, drawing[name])
    return replace(drawing, operations=tuple(operations))


def attention_behind_the_sum(drawing: Graph) -> Graph:
    inputs = {name: operation.inputs for name, operation in ((o.name, o) for o in drawing)}
    assert inputs["sum"] == ("attention", "shortcut.1")
    order = [o for o in drawing if not o.name.startswith("attention") and o.name != "output"]
    order += [o for o in drawing if o.name.startswith("attention")] + [drawing["output"]]
    wires = {"sum": ("bn2", "shortcut.1"), "output": ("attention",)}

    def moved(operation: Operation) -> Operation:
        given = wires.get(operation.name, operation.inputs)
        if operation.name.startswith("attention"):
            given = tuple("sum" if name == "bn2" else name for name in given)
        return replace(operation, inputs=given)

    return replace(drawing, operations=tuple(map(moved, order)))


def one(kind: str, number: int = 0, **options: Any) -> tuple[Config, tuple[int, int]]:
    """That case of a kind in ATTENTION_VARIANTS."""
    return [case for case in ATTENTION_VARIANTS if case[0].attention == kind][number]


SE = one("se")
DRAWN_LIES: dict[str, tuple[tuple[Config, tuple[int, int]], Callable[[Graph], Graph]]] = {
    "attention behind the sum": (
        SE,
        attention_behind_the_sum,
    ),
    "no relu": (
        SE,
        lambda g: without(g, "relu"),
    ),
    "relu twice": (SE, lambda g: twice(g, "relu")),
    "no attention": (
        SE,
        lambda g: changed(g, sum={"inputs": ("bn2", "shortcut.1")}),
    ),
    "shortcut of conv1": (
        SE,
        lambda g: changed(g, shortcut__0={"inputs": ("conv1",)}),
    ),
    "two convolutions in the shortcut": (
        SE,
        lambda g: twice(g, "shortcut.0"),
    ),
    "batch norm in front of its convolution": (
        SE,
        lambda g: exchanged(g, "conv1", "bn1"),
    ),
    "another gate": (
        SE,
        lambda g: changed(g, attention__sigmoid={"kind": "hard_sigmoid"}),
    ),
    "a maximum for the average": (
        SE,
        lambda g: changed(
            g, attention__global_average={"kind": "maximum", "settings": {"axes": (ROWS, COLS)}}
        ),
    ),
    "a sum for the product": (
        SE,
        lambda g: changed(g, attention={"kind": "sum"}),
    ),
    "another stride": (
        SE,
        lambda g: changed(g, conv1={"settings": {**g["conv1"].settings, "stride": (1, 1)}}),
    ),
    "another eps": (
        SE,
        lambda g: changed(g, bn2={"settings": {**g["bn2"].settings, "eps": 1e-3}}),
    ),
    "another module's parameters": (
        SE,
        lambda g: changed(g, bn1={"module": "bn2"}),
    ),
    "the shortcut first": (
        SE,
        lambda g: earlier(g, "shortcut.0", 1),
    ),
    "maximum and average exchanged in CBAM": (
        one("cbam"),
        lambda g: changed(
            g, attention__concatenate={"inputs": g["attention.concatenate"].inputs[::-1]}
        ),
    ),
    "CBAM's first maximum over the channels": (
        one("cbam"),
        lambda g: changed(g, attention__maximum={"settings": {"axes": (CHANNELS,)}}),
    ),
    "triplet's axes not swapped": (
        one("triplet"),
        lambda g: without(g, "attention.maximum input"),
    ),
    "triplet's axes not swapped back": (
        one("triplet"),
        lambda g: without(g, "attention.cw.back"),
    ),
    "triplet divided by 2": (
        one("triplet"),
        lambda g: changed(g, attention={"settings": {"factor": 0.5, "offset": 0}}),
    ),
    "coordinate's parts exchanged": (
        one("coordinate"),
        lambda g: changed(
            g,
            attention__conv_h={"inputs": ("attention.cols",)},
            attention__conv_w={"inputs": ("attention.rows",)},
        ),
    ),
    "coordinate's averages over the other axes": (
        one("coordinate"),
        lambda g: changed(
            g, attention__concatenate={"inputs": g["attention.concatenate"].inputs[::-1]}
        ),
    ),
    "BAM without 1 +": (
        one("bam"),
        lambda g: without(g, "attention.one_more"),
    ),
    "BAM's dilation": (
        one("bam"),
        lambda g: changed(
            g,
            attention__spatial_att__conv_di_0={
                "settings": {**g["attention.spatial_att.conv_di_0"].settings, "dilation": 2}
            },
        ),
    ),
    "ECA padded with zeros": (
        one("eca", 1),
        lambda g: changed(
            g, attention__conv={"settings": {**g["attention.conv"].settings, "padding": "zero"}}
        ),
    ),
    "GE stretched by nothing": (
        one("ge", 1),
        lambda g: without(g, "attention.nearest"),
    ),
    "scSE's sum for the greater": (
        one("scse", 1),
        lambda g: changed(g, attention={"kind": "sum"}),
    ),
    "GC's softmax left out": (
        one("gc"),
        lambda g: without(g, "attention.softmax"),
    ),
    "GC's layer norm left out": (
        one("gc"),
        lambda g: without(g, "attention.mlp_add.norm"),
    ),
    "SimAM divided by n": (
        one("simam"),
        lambda g: without(g, "attention.variance"),
    ),
    "non-local's query and key exchanged": (
        one("nonlocal"),
        lambda g: changed(
            g, **{"attention__softmax input": {"inputs": g["attention.softmax input"].inputs[::-1]}}
        ),
    ),
    "non-local's logits not scaled": (
        one("nonlocal", 2),
        lambda g: changed(
            g, **{"attention__softmax input": {"settings": {"factor": 1, "offset": 0}}}
        ),
    ),
    "self-attention's key as its value": (
        one("mhsa"),
        lambda g: changed(g, attention={"inputs": ("attention.softmax", "attention.key")}),
    ),
    "self-attention's positions asked by the scaled query": (
        one("mhsa", 1),
        lambda g: changed(g, attention__pos_embed={"inputs": ("attention.scaled",)}),
    ),
}


@pytest.mark.parametrize("lie", DRAWN_LIES)
def test_a_lie_in_what_is_drawn_is_found(framework, lie):
    (config, size), tell = DRAWN_LIES[lie]
    assert drawn_disagreement(framework, tell(graph(config, size)))


# Lies in what is executed


# As many channels everywhere and no convolution in the shortcut: everything fits everywhere.
PLAIN = BlockConfig(5, 5)


def lying_block(
    framework: str, computes: Callable[..., Any], config: BlockConfig, dtype: str = "float64"
) -> Any:
    """A block of a class derived from ours that computes computes(block, relu, x) instead."""
    package = implementation(framework)
    layers = import_module(f"{package.__name__}.layers")

    def forward(self: Any, x: Any, **mode: Any) -> Any:
        return computes(self, layers.relu, x)

    own = {FRAMEWORKS[framework].forward: forward}
    kind = type("Lying", (package.ResidualBlockWithAttention,), own)
    own_dtype = getattr(import_module("torch"), dtype) if framework == "torch" else dtype
    model = kind(**config.to_dict(), **native_arguments(framework), dtype=own_dtype)
    adapter(framework).set_training(model, False)
    return model


def main_path(m: Any, relu: Callable[[Any], Any], x: Any) -> Any:
    return m.bn2(m.conv2(relu(m.bn1(m.conv1(x)))))


EXECUTED_LIES: dict[str, Callable[..., Any]] = {
    "attention behind the sum": (
        lambda m, relu, x: relu(m.attention(main_path(m, relu, x) + m.shortcut(x)))
    ),
    "attention of the shortcut": (
        lambda m, relu, x: relu(main_path(m, relu, x) + m.attention(m.shortcut(x)))
    ),
    "no relu": (
        lambda m, relu, x: relu(m.attention(m.bn2(m.conv2(m.bn1(m.conv1(x))))) + m.shortcut(x))
    ),
    "no relu at the end": lambda m, relu, x: m.attention(main_path(m, relu, x)) + m.shortcut(x),
    "relu in front of the sum": (
        lambda m, relu, x: relu(m.attention(main_path(m, relu, x))) + m.shortcut(x)
    ),
    "shortcut of conv1": (
        lambda m, relu, x: relu(m.attention(main_path(m, relu, x)) + m.shortcut(m.conv1(x)))
    ),
    "batch norm in front of its convolution": (
        lambda m, relu, x: relu(
            m.attention(m.bn2(m.conv2(relu(m.conv1(m.bn1(x)))))) + m.shortcut(x)
        )
    ),
    "batch norms exchanged": (
        lambda m, relu, x: relu(
            m.attention(m.bn1(m.conv2(relu(m.bn2(m.conv1(x)))))) + m.shortcut(x)
        )
    ),
    "conv1 twice": (
        lambda m, relu, x: relu(
            m.attention(m.bn2(m.conv1(relu(m.bn1(m.conv1(x)))))) + m.shortcut(x)
        )
    ),
    "half of the shortcut": (
        lambda m, relu, x: relu(m.attention(main_path(m, relu, x)) + 0.5 * m.shortcut(x))
    ),
    "the shortcut twice": (
        lambda m, relu, x: relu(m.attention(main_path(m, relu, x)) + m.shortcut(x) + x)
    ),
}


def executed_disagreement(framework: str, computes: Callable[..., Any]) -> str | None:
    """Of a block that computes something, and the graph of its config."""
    arrays, x = random_arrays(PLAIN, "float64"), random_input(PLAIN, (7, 6), 2, "float64")
    with precise((framework,), "float64"):
        model = lying_block(framework, computes, PLAIN)
        load(model, arrays)
        seen = recording(framework, model, PLAIN, x, training=False)
    return disagreement(graph(PLAIN, (7, 6)), arrays, x, seen, training=False)


@pytest.mark.parametrize("lie", EXECUTED_LIES)
def test_a_block_that_computes_something_else_is_found(framework, lie):
    assert executed_disagreement(framework, EXECUTED_LIES[lie])


def test_a_block_of_the_same_computation_is_not_a_lie(framework):
    def computes(m: Any, relu: Any, x: Any) -> Any:
        y = m.attention(main_path(m, relu, x))
        return relu(m.shortcut(x) + y)

    assert executed_disagreement(framework, computes) is None


# One function of an implementation's module replaced: where, which, by what of the original and the
# module's layers.
REPLACED: dict[str, tuple[tuple[Config, tuple[int, int]], str, str, Callable[..., Any]]] = {
    "maximum and average exchanged in CBAM": (
        one("cbam"),
        "attention.cbam",
        "concatenate",
        lambda own, layers: lambda parts, axis: own(parts[::-1], axis),
    ),
    "another gate": (
        one("scse"),
        "attention.scse",
        "sigmoid",
        lambda own, layers: layers.hard_sigmoid,
    ),
    "maxima for coordinate's averages": (
        one("coordinate"),
        "attention.coordinate",
        "average",
        lambda own, layers: import_module(f"{layers.__package__}.maxima").maximum,
    ),
    "triplet's axes not swapped": (
        one("triplet"),
        "attention.triplet",
        "swap_axes",
        lambda own, layers: lambda x, first, second: x,
    ),
    "the average of squares": (
        one("se"),
        "attention.se",
        "global_average",
        lambda own, layers: lambda x: own(x * x),
    ),
    "the softmax left out": (
        one("nonlocal"),
        "attention.non_local",
        "softmax",
        lambda own, layers: lambda x: x,
    ),
    "the parts exchanged": (
        (attention_block("coordinate", {}, size=(8, 8)), (8, 8)),
        "attention.coordinate",
        "split_at",
        lambda own, layers: lambda *arguments: own(*arguments)[::-1],
    ),
    "the greater is the sum": (
        one("scse", 1),
        "attention.scse",
        "greater",
        lambda own, layers: lambda x, y: x + y,
    ),
    "pooled around too little": (
        one("ge", 2),
        "attention.ge",
        "average_around",
        lambda own, layers: lambda x, extent: own(x, extent - 1),
    ),
}


@pytest.mark.parametrize("lie", REPLACED)
def test_a_function_that_computes_something_else_is_found(framework, lie, monkeypatch):
    (config, size), where, name, other = REPLACED[lie]
    package = FRAMEWORKS[framework].package
    module, layers = import_module(f"{package}.{where}"), import_module(f"{package}.layers")
    own = getattr(module, name)
    monkeypatch.setattr(module, name, marked_like(own, other(own, layers)))
    arrays, x, seen = compute(framework, config, size, False)
    assert disagreement(graph(config, size), arrays, x, seen, False)


def test_options_are_not_taken_for_each_other(framework):
    """What a variant computes differs from what is drawn of every other variant of its kind."""
    for config, size in ATTENTION_VARIANTS:
        arrays, x, seen = computed(framework, config, size, False)
        for other, _ in ATTENTION_VARIANTS:
            same = schema(other) == schema(config)
            if other.attention == config.attention and other != config and same:
                assert disagreement(graph(other, size), arrays, x, seen, training=False)


def test_a_pooling_rounds_up_along_the_axis_that_it_pads():
    build = Builder({})
    x = build.add("input", "input", shape=(fixed(3), Extent("H", 9), Extent("W", 7)))
    _, rows, cols = build.shape(build.max_pool("pool", x, (3, 2), (2, 2), (1, 0)))
    assert (rows.size, cols.size) == (5, 3)
    assert (rows.formula, cols.formula) == ("⌈H/2⌉", "⌊W/2⌋")

"""What is drawn is what is executed: the graph of a config against those of torch.export, the jaxpr
and the tf.function.

`resattn.reading.executed` says by which rules two graphs are equal. Lies, in what is drawn and in what
is executed, are found.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import Any

import pytest

from resattn.checking.backends import implementation, native_arguments
from resattn.checking.cases import attention_block
from resattn.reading.executed import difference, drawn
from resattn.reading.extraction import executed
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from weights import BlockConfig
from weights.config import Config
from weights.frameworks import LAYOUTS
from weights.graph import Graph, Operation, graph
from weights.live import adapter

CASES = ATTENTION_VARIANTS + REPRESENTATIVE + NETWORKS


def created(framework: str, config: Config) -> Any:
    model = adapter(framework).create(config, dtype="float32")
    adapter(framework).set_training(model, False)
    return model


@cache
def steps(framework: str, config: Config, size: tuple[int, int]) -> list[Any]:
    return executed(created(framework, config), size)


@pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
def test_what_is_drawn_is_executed(framework, config, size):
    expected = drawn(graph(config, size))
    assert difference(framework, steps(framework, config, size), expected) is None


def test_every_operation_is_compared():
    """Nothing but parts of one operation (rules 3 and 4) and what only moves values is gone from
    the common form.
    """
    moved = ("swap axes", "stretch")
    for config, size in CASES:
        operations = graph(config, size)
        kept = {step.name for step in drawn(operations)}
        gone = [
            operation
            for operation in operations
            if operation.name not in kept and operation.kind not in moved
        ]
        assert all(operation.kind in ("times n / (n - 1)", "divide by 1") for operation in gone), (
            gone
        )


# --- Lies in what is drawn


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
DRAWN_LIES: dict[str, tuple[tuple[Config, tuple[int, int]], Callable[[Graph], Graph], str]] = {
    "attention behind the sum": (
        SE,
        attention_behind_the_sum,
        "drawn is sum of bn2 and shortcut.1",
    ),
    "no relu": (
        SE,
        lambda g: without(g, "relu"),
        r"drawn is conv2: .* of bn1; executed is relu of bn1",
    ),
    "relu twice": (SE, lambda g: twice(g, "relu"), r"drawn is relu \(relu again\) of relu"),
    "no attention": (
        SE,
        lambda g: changed(g, sum={"inputs": ("bn2", "shortcut.1")}),
        "executed is average over cols, rows",
    ),
    "shortcut of conv1": (
        SE,
        lambda g: changed(g, shortcut__0={"inputs": ("conv1",)}),
        r"drawn is shortcut.0: .* of conv1; .* of image",
    ),
    "two convolutions in the shortcut": (
        SE,
        lambda g: twice(g, "shortcut.0"),
        "drawn is shortcut.0: .* of shortcut.0",
    ),
    "batch norm in front of its convolution": (
        SE,
        lambda g: exchanged(g, "conv1", "bn1"),
        r"drawn is bn1: .* of image; executed is conv1: .* of image",
    ),
    "another gate": (
        SE,
        lambda g: changed(g, attention__sigmoid={"kind": "hard sigmoid"}),
        r"drawn is hard sigmoid .*of attention.fc2; executed is sigmoid of attention.fc2",
    ),
    "a maximum for the average": (
        SE,
        lambda g: changed(
            g, attention__global_average={"kind": "maximum", "settings": {"axes": (1, 2)}}
        ),
        r"drawn is maximum over .*of bn2; executed is average",
    ),
    "a sum for the product": (
        SE,
        lambda g: changed(g, attention={"kind": "sum"}),
        "drawn is sum .*executed is product of bn2",
    ),
    "another stride": (
        SE,
        lambda g: changed(g, conv1={"settings": {**g["conv1"].settings, "stride": (1, 1)}}),
        r"executed is conv1: convolution 3x3, stride 2x2",
    ),
    "another eps": (
        SE,
        lambda g: changed(g, bn2={"settings": {**g["bn2"].settings, "eps": 1e-3}}),
        r"weight, 0.001 of conv2; .*1e-05 of",
    ),
    "another module's parameters": (
        SE,
        lambda g: changed(g, bn1={"module": "bn2"}),
        r"drawn is bn2: .* \(bn1\) of conv1",
    ),
    "the shortcut first": (
        SE,
        lambda g: earlier(g, "shortcut.0", 1),
        "in another order than is drawn: operation 1 drawn is shor",
    ),
    "maximum and average exchanged in CBAM": (
        one("cbam"),
        lambda g: changed(
            g, attention__concatenate={"inputs": g["attention.concatenate"].inputs[::-1]}
        ),
        r"drawn is concatenate .*of maximum over channels and average over channels; executed is concatenate of average",
    ),
    "CBAM's first maximum over the channels": (
        one("cbam"),
        lambda g: changed(g, attention__maximum={"settings": {"axes": (0,)}}),
        "executed is maximum over cols, rows",
    ),
    "triplet's axes not swapped": (
        one("triplet"),
        lambda g: without(g, "attention.maximum input"),
        "executed is maximum over rows of bn2",
    ),
    "triplet's axes not swapped back": (
        one("triplet"),
        lambda g: without(g, "attention.cw.back"),
        "of axes that do not belong together",
    ),
    "triplet divided by 2": (
        one("triplet"),
        lambda g: changed(g, attention={"kind": "divide by 2"}),
        "0.5 x .*0.33333 x",
    ),
    "coordinate's parts exchanged": (
        one("coordinate"),
        lambda g: changed(
            g,
            attention__conv_h={"inputs": ("attention.cols",)},
            attention__conv_w={"inputs": ("attention.rows",)},
        ),
        "drawn is attention.conv_h: .* of part 2 of 2",
    ),
    "coordinate's averages over the other axes": (
        one("coordinate"),
        lambda g: changed(
            g, attention__concatenate={"inputs": g["attention.concatenate"].inputs[::-1]}
        ),
        "drawn is concatenate",
    ),
    "BAM without 1 +": (
        one("bam"),
        lambda g: without(g, "attention.one_more"),
        "executed is x \\+ 1 of sigmoid",
    ),
    "BAM's dilation": (
        one("bam"),
        lambda g: changed(
            g,
            attention__spatial_att__conv_di_0={
                "settings": {**g["attention.spatial_att.conv_di_0"].settings, "dilation": 2}
            },
        ),
        "dilation 2x2.*dilation 4x4",
    ),
    "ECA padded with zeros": (
        one("eca", 1),
        lambda g: changed(
            g, attention__conv={"settings": {**g["attention.conv"].settings, "padding": "zero"}}
        ),
        "padding 2, along channels .*; executed is attention.conv: convolution 5, padding 2 all "
        "around",
    ),
    "GE stretched by nothing": (
        one("ge", 1),
        lambda g: without(g, "attention.nearest"),
        "executed is stretch of average around",
    ),
    "scSE's sum for the greater": (
        one("scse", 1),
        lambda g: changed(g, attention={"kind": "sum"}),
        "executed is greater of",
    ),
    "GC's softmax left out": (
        one("gc"),
        lambda g: without(g, "attention.softmax"),
        "executed is softmax of attention.conv_attn",
    ),
    "GC's layer norm left out": (
        one("gc"),
        lambda g: without(g, "attention.mlp_add.norm"),
        "executed is attention.mlp_add.norm: layer norm",
    ),
    "SimAM divided by n": (
        one("simam"),
        lambda g: without(g, "attention.variance"),
        r"drawn is 4 x \+ 0.0004 .*executed is 4.2105 x \+ 0.0004",
    ),
    "non-local's query and key exchanged": (
        one("nonlocal"),
        lambda g: changed(
            g, **{"attention__softmax input": {"inputs": g["attention.softmax input"].inputs[::-1]}}
        ),
        "drawn is matrix product .*of attention.phi and attention.theta",
    ),
    "non-local's logits not scaled": (
        one("nonlocal", 1),
        lambda g: without(g, "attention.scaled"),
        "executed is 0.5 x of matrix",
    ),
    "self-attention's key as its value": (
        one("mhsa"),
        lambda g: changed(g, attention={"inputs": ("attention.softmax", "attention.key")}),
        "executed is part 3 of 3|drawn is part 1 of 2",
    ),
    "self-attention's positions asked by the scaled query": (
        one("mhsa", 1),
        lambda g: changed(g, attention__pos_embed={"inputs": ("attention.scaled",)}),
        "drawn is attention.pos_embed: .* of 0.57735 x",
    ),
}


@pytest.mark.parametrize("lie", DRAWN_LIES)
def test_a_lie_in_what_is_drawn_is_found(framework, lie):
    (config, size), tell, expected = DRAWN_LIES[lie]
    found = difference(framework, steps(framework, config, size), drawn(tell(graph(config, size))))
    assert found is not None
    assert found.startswith(LAYOUTS[framework].label)
    assert_matches(expected, found)


def assert_matches(pattern: str, text: str) -> None:
    assert re.search(pattern, text), text


# --- Lies in what is executed

FORWARD = {"torch": "forward", "jax": "__call__", "tf": "call"}
PLAIN = BlockConfig(
    5, 5
)  # as many channels everywhere and no convolution in the shortcut: everything fits everywhere


def lying_block(framework: str, computes: Callable[..., Any], config: BlockConfig) -> Any:
    """A block of a class derived from ours that computes something else: computes(block, relu,
    x).
    """
    package = implementation(framework)
    relu = import_module(f"{package.__name__}.layers").relu

    def forward(self: Any, x: Any, **mode: Any) -> Any:
        return computes(self, relu, x)

    kind = type("Lying", (package.ResidualBlockWithAttention,), {FORWARD[framework]: forward})
    model = kind(**config.to_dict(), **native_arguments(framework))
    adapter(framework).set_training(model, False)
    return model


def main_path(m: Any, relu: Callable[[Any], Any], x: Any) -> Any:
    return m.bn2(m.conv2(relu(m.bn1(m.conv1(x)))))


EXECUTED_LIES: dict[str, tuple[Callable[..., Any], str]] = {
    "attention behind the sum": (
        lambda m, relu, x: relu(m.attention(main_path(m, relu, x) + m.shortcut(x))),
        "drawn is average over cols, rows .* of bn2; executed is sum of bn2 and image|executed is "
        "sum of image and bn2",
    ),
    "attention of the shortcut": (
        lambda m, relu, x: relu(main_path(m, relu, x) + m.attention(m.shortcut(x))),
        "executed is average over cols, rows of image",
    ),
    "no relu": (
        lambda m, relu, x: relu(m.attention(m.bn2(m.conv2(m.bn1(m.conv1(x))))) + m.shortcut(x)),
        r"drawn is relu of bn1; executed is conv2: .* of bn1",
    ),
    "no relu at the end": (
        lambda m, relu, x: m.attention(main_path(m, relu, x)) + m.shortcut(x),
        "drawn is relu .*of sum; nothing like it is exec",
    ),
    "relu in front of the sum": (
        lambda m, relu, x: relu(m.attention(main_path(m, relu, x))) + m.shortcut(x),
        "executed is relu of product",
    ),
    "shortcut of conv1": (
        lambda m, relu, x: relu(m.attention(main_path(m, relu, x)) + m.shortcut(m.conv1(x))),
        "executed is conv1: .* of image",
    ),
    "batch norm in front of its convolution": (
        lambda m, relu, x: relu(
            m.attention(m.bn2(m.conv2(relu(m.conv1(m.bn1(x)))))) + m.shortcut(x)
        ),
        "executed is bn1: .* of image",
    ),
    "batch norms exchanged": (
        lambda m, relu, x: relu(
            m.attention(m.bn1(m.conv2(relu(m.bn2(m.conv1(x)))))) + m.shortcut(x)
        ),
        "executed is bn2: .* of conv1",
    ),
    "conv1 twice": (
        lambda m, relu, x: relu(
            m.attention(m.bn2(m.conv1(relu(m.bn1(m.conv1(x)))))) + m.shortcut(x)
        ),
        "executed is conv1: .* of relu",
    ),
    "half of the shortcut": (
        lambda m, relu, x: relu(m.attention(main_path(m, relu, x)) + 0.5 * m.shortcut(x)),
        "executed is 0.5 x of image",
    ),
    "the shortcut twice": (
        lambda m, relu, x: relu(m.attention(main_path(m, relu, x)) + m.shortcut(x) + x),
        "executed is sum of sum and image|image and sum",
    ),
}


@pytest.mark.parametrize("lie", EXECUTED_LIES)
def test_a_block_that_computes_something_else_is_found(framework, lie):
    computes, expected = EXECUTED_LIES[lie]
    found = difference(
        framework,
        executed(lying_block(framework, computes, PLAIN), (7, 6)),
        drawn(graph(PLAIN, (7, 6))),
    )
    assert found is not None
    assert_matches(expected, found)


def test_a_block_of_the_same_computation_is_not_a_lie(framework):
    model = lying_block(
        framework,
        lambda m, relu, x: relu(m.shortcut(x) + m.attention(main_path(m, relu, x))),
        PLAIN,
    )
    assert difference(framework, executed(model, (7, 6)), drawn(graph(PLAIN, (7, 6)))) is None


# One function of an implementation's module replaced: where, which, by what of the original and the
# module's layers.
REPLACED: dict[str, tuple[tuple[Config, tuple[int, int]], str, str, Callable[..., Any], str]] = {
    "maximum and average exchanged in CBAM": (
        one("cbam"),
        "attention.cbam",
        "concatenate",
        lambda own, layers: lambda parts, axis: own(parts[::-1], axis),
        "executed is concatenate of maximum over channels and average over channels",
    ),
    "another gate": (
        one("scse"),
        "attention.scse",
        "sigmoid",
        lambda own, layers: layers.hard_sigmoid,
        "executed is hard sigmoid of attention.sSE.conv",
    ),
    "maxima for coordinate's averages": (
        one("coordinate"),
        "attention.coordinate",
        "average",
        lambda own, layers: layers.maximum,
        "executed is maximum over cols of bn2",
    ),
    "triplet's axes not swapped": (
        one("triplet"),
        "attention.triplet",
        "swap_axes",
        lambda own, layers: lambda x, first, second: x,
        "drawn is maximum over rows .*of bn2",
    ),
    "the average of squares": (
        one("se"),
        "attention.se",
        "global_average",
        lambda own, layers: lambda x: own(x * x),
        "executed is square of bn2",
    ),
    "the softmax left out": (
        one("nonlocal"),
        "attention.non_local",
        "softmax",
        lambda own, layers: lambda x: x,
        "drawn is softmax .*of matrix product",
    ),
    "the parts exchanged": (
        (attention_block("coordinate", {}, size=(8, 8)), (8, 8)),
        "attention.coordinate",
        "split_at",
        lambda own, layers: lambda *arguments: own(*arguments)[::-1],
        "executed is attention.conv_h: .* of part 2 of 2",
    ),
    "the greater is the sum": (
        one("scse", 1),
        "attention.scse",
        "greater",
        lambda own, layers: lambda x, y: x + y,
        "drawn is greater",
    ),
    "pooled around too little": (
        one("ge", 2),
        "attention.ge",
        "average_around",
        lambda own, layers: lambda x, extent: own(x, extent - 1),
        "executed is average around 3x3, stride 2x2",
    ),
}


@pytest.mark.parametrize("lie", REPLACED)
def test_a_function_that_computes_something_else_is_found(framework, lie, monkeypatch):
    (config, size), where, name, other, expected = REPLACED[lie]
    package = LAYOUTS[framework].package
    module, layers = import_module(f"{package}.{where}"), import_module(f"{package}.layers")
    monkeypatch.setattr(module, name, other(getattr(module, name), layers))
    found = difference(
        framework, executed(created(framework, config), size), drawn(graph(config, size))
    )
    assert found is not None
    assert_matches(expected, found)


def test_options_are_not_taken_for_each_other(framework):
    """Every variant's executed graph differs from what is drawn of every other variant of its
    kind.
    """
    for config, size in ATTENTION_VARIANTS:
        for other, _ in ATTENTION_VARIANTS:
            if (
                other.attention == config.attention
                and other != config
                and shown(other, size) != shown(config, size)
            ):
                assert (
                    difference(framework, steps(framework, config, size), drawn(graph(other, size)))
                    is not None
                )


def shown(config: Config, size: tuple[int, int]) -> list[str]:
    return [step.kind for step in drawn(graph(config, size))]


def test_one_of_a_kind():
    """What is tried is what is built: the config of a lie is one of the cases."""
    assert one("eca", 1)[0] == attention_block("eca", {"kernel_size": 5, "padding": "circular"})

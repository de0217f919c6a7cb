"""What is executed as a graph: for our own models the graph of their config."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

import resattn
from resattn.drawing.executed import executed_scene
from resattn.drawing.pictures import scene_of
from resattn.explaining.analysis import receptive_fields
from resattn.explaining.entries import Entry, FoldedBlock
from resattn.explaining.reach import executed_fields
from resattn.explaining.wording import Wording
from resattn.reading.blocks import find_blocks
from resattn.reading.drawn import read_drawing
from resattn.reading.executed import ExecutedGraph, execute
from resattn.reading.models import read_model, read_operations
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from shared_tests.test_draw import check_apart
from weights import BlockConfig
from weights.config import Config
from weights.graph import graph
from weights.live import adapter
from weights.operations import Operation

CASES = [*ATTENTION_VARIANTS, *REPRESENTATIVE, *NETWORKS]
EVERY_CASE = pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
# What a config's operation says and no graph that is executed in evaluation does.
UNSAID = ("decay", "equation", "heads")


@cache
def executed(framework: str, config: Config, size: tuple[int, int]) -> tuple[ExecutedGraph, Any]:
    """The graph that our model executes, and its steps with canonical names."""
    model = adapter(framework).create(config, dtype="float32")
    adapter(framework).set_training(model, False)
    return execute(read_model(model, size)), tuple(read_operations(model, size))


@cache
def pairs(framework: str, config: Config, size: tuple[int, int]) -> tuple[tuple[Any, Any], ...]:
    """Each operation of the config's graph that is one when it is executed, with that one."""
    drawn = graph(config, size)
    named: dict[int, list[str]] = {}
    for step in read_drawing(drawn):
        named.setdefault(step.identity, []).append(step.name)
    found, steps = executed(framework, config, size)
    return tuple(
        (drawn[named[step.identity].pop(0)], operation)
        for step, operation in zip(steps, found, strict=True)
    )


def sizes(operation: Operation) -> list[int]:
    """The sizes of an output but 1; exchanged axes are back in their places where executed."""
    return sorted(extent.size for extent in operation.shape if extent.size > 1)


@EVERY_CASE
def test_operations_are_those_of_the_config(framework, config, size):
    for expected, found in pairs(framework, config, size):
        assert found.kind == expected.kind
        assert found.multiply_adds == expected.multiply_adds
        assert found.numbers == expected.numbers
        if expected.kind != "matrix_product":  # a reshape comes after it
            assert sizes(found) == sizes(expected)
        held = sorted((each.role, each.shape, each.axes) for each in found.parameters)
        assert held == sorted((each.role, each.shape, each.axes) for each in expected.parameters)
        if framework == "torch":
            names = {each.name for each in expected.parameters}
            assert {each.name for each in found.parameters} == names


@EVERY_CASE
def test_settings_are_those_of_the_config(framework, config, size):
    for expected, found in pairs(framework, config, size):
        wanted = {name: value for name, value in expected.settings.items() if name not in UNSAID}
        settings = dict(found.settings)
        if settings.pop("along", None) or expected.kind in ("average", "maximum"):
            # Axes are named as in the image; the drawn ones may have changed places before.
            settings.pop("axes", None)
            wanted.pop("axes", None)
        if expected.kind == "affine" and config.attention == "simam":
            # Bessel's factor n / (n - 1) is a part of the a x + b that comes next.
            settings["factor"] = wanted["factor"] = 1
        assert settings == wanted


@EVERY_CASE
def test_receptive_fields_are_those_of_the_config(framework, config, size):
    wanted = receptive_fields(graph(config, size))
    found, _ = executed(framework, config, size)
    fields = executed_fields(found)
    for expected, operation in pairs(framework, config, size):
        assert fields[operation.name] == wanted[expected.name]


@EVERY_CASE
def test_totals_are_those_of_the_config(framework, config, size):
    found, _ = executed(framework, config, size)
    wanted = resattn.explain(config, size).totals()
    totals = resattn.explain(found).totals()
    for name in ("output", "parameters", "statistics", "weight_bytes", "multiply_adds"):
        assert totals[name] == wanted[name]
    assert totals["receptive_field"] == wanted["receptive_field"]


def entries_of(explanation: Any) -> dict[str, Entry]:
    return {
        each.operation.name: each
        for each in explanation.entries
        if not isinstance(each, FoldedBlock)
    }


@EVERY_CASE
def test_the_explanation_is_that_of_the_config(framework, config, size):
    """The same steps in the same parts of the model, in the same words but for the attention, whose
    kind nobody has said.
    """
    found, _ = executed(framework, config, size)
    one, other = resattn.explain(config, size), resattn.explain(found)
    words = [Wording(explanation, "en") for explanation in (one, other)]
    wanted, shown = entries_of(one), entries_of(other)
    for expected, operation in pairs(framework, config, size):
        assert (expected.name in wanted) == (operation.name in shown)
        if operation.name not in shown:
            continue
        entry, own = wanted[expected.name], shown[operation.name]
        assert own.part == {"attention": "gates"}.get(entry.part, entry.part)
        moved = "along" in operation.settings or config.attention == "simam"
        if not moved:
            texts = [
                wording.what(each.operation)
                for wording, each in zip(words, (entry, own), strict=True)
            ]
            assert texts[0].partition(", decay")[0] == texts[1]
        pointwise = entry.reason == "conv2" and operation.settings["kernel"] == (1, 1)
        if entry.part != "attention" and not pointwise:
            assert own.reason == entry.reason


@EVERY_CASE
def test_blocks_are_those_of_the_config(framework, config, size):
    """Found from the edges alone: both paths, the attention and the sum of every block."""
    found, _ = executed(framework, config, size)
    name_of_own = {own.name: expected.name for expected, own in pairs(framework, config, size)}
    blocks = {
        name_of_own[block.end]: {
            "shortcut": [name_of_own[name] for name in block.shortcut],
            "attention": [name_of_own[name] for name in block.side],
        }
        for block in find_blocks(found)
    }
    drawn = list(name_of_own.values())
    wanted = {
        name or "output": {
            part: [each for each in drawn if f"{each}.".startswith(f"{name}.{part}.".lstrip("."))
                   or each.startswith(f"{name}.{part} ".lstrip("."))]
            for part in ("shortcut", "attention")
        }
        for name in config.named_blocks()
    }  # fmt: skip
    assert blocks == wanted


# The picture


def draw_pairs(framework: str, config: Config, size: tuple[int, int]) -> tuple[Any, Any, Any]:
    """The scenes of a config and of what is executed, and the drawn names of the latter's."""
    found, _ = executed(framework, config, size)
    names = {own.name: expected.name for expected, own in pairs(framework, config, size)}
    return scene_of(config, size), executed_scene(found), names


BLOCKS = [case for case in CASES if isinstance(case[0], BlockConfig)]


@pytest.mark.parametrize(("config", "size"), BLOCKS, ids=name_of)
def test_the_picture_of_a_block_is_that_of_the_config(framework, config, size):
    """The same nodes, on the same paths and in the same frame. Operations that only move values are
    no nodes where they are executed.
    """
    drawn, shown, names = draw_pairs(framework, config, size)
    kept = {*names.values()}
    forms = {node.name: node.form for node in drawn.nodes if node.name in kept}
    assert {names[node.name]: node.form for node in shown.nodes} == forms
    assert [names[name] for name in shown.aside] == list(drawn.aside)
    assert [names[name] for name in shown.trunk] == [name for name in drawn.trunk if name in kept]
    frames = [{each for each in frame.members if each in kept} for frame in drawn.frames]
    assert [{names[name] for name in frame.members} for frame in shown.frames] == [
        members for members in frames if len(members) > 1
    ]
    aside = {(a.source, a.target, a.is_identity) for a in drawn.edges if a.path == "shortcut"}
    assert {
        (names[a.source], names[a.target], a.is_identity)
        for a in shown.edges
        if a.path == "shortcut"
    } == aside
    check_apart(shown)
    if len(kept) == len(drawn.nodes):
        edges = {(edge.source, edge.target) for edge in drawn.edges}
        assert {(names[edge.source], names[edge.target]) for edge in shown.edges} == edges


def canonical(name: str) -> str:
    """The path of a module of ours in every framework."""
    return name.replace(".layers", "")


@pytest.mark.parametrize(("config", "size"), NETWORKS, ids=name_of)
def test_the_picture_of_a_network_is_that_of_the_config(framework, config, size):
    drawn, shown, names = draw_pairs(framework, config, size)
    names |= {name: canonical(name) for node in shown.nodes for name in node.covers}
    wanted = [(node.name, node.form, node.covers, node.shortcut) for node in drawn.nodes]
    found = [
        (names[node.name], node.form, tuple(map(canonical, node.covers)), node.shortcut)
        for node in shown.nodes
    ]
    assert found == wanted
    assert [(names[edge.source], names[edge.target]) for edge in shown.edges] == [
        (edge.source, edge.target) for edge in drawn.edges
    ]
    check_apart(shown)

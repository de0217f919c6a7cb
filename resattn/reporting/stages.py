"""A trace on a page: the bars of every stage, and the drawing of the model with its numbers.

Two things are marked: where a model diverges, and where the cause of that is, if it is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from resattn.drawing.nodes import SceneNode
from resattn.drawing.pictures import scene_of
from resattn.drawing.scene import fold_blocks
from resattn.drawing.svg import svg
from resattn.reporting.wording import name_backend, name_mode
from resattn.tracing.findings import Finding, Trace
from weights import BlockConfig, Difference
from weights.config import Config
from weights.graph import default_size, graph
from weights.language import say

WAYS = ("forward", "backward")
_MOST_OPEN = 40  # stages of a list that is open though nothing in it is wrong
_DECADES_BELOW = 3  # of a bar's scale, below the tolerance
_LEAST_TOLERANCE = 1e-30


@dataclass(frozen=True)
class Marks:
    """What the findings of one mode and way say of the stages. Each is by model and stage.

    wrong: whether it is the first stage that diverges in the model. causes: the names of the
    causes that are at a stage.
    """

    wrong: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    causes: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bar:
    """The difference of one model at a stage; value is "" where it was not recorded.

    share, limit: places of the difference and of its tolerance on the scale, from 0 to 1. kind:
    "bad" (it diverges), "late" (only because of an earlier stage), "cause" or "". notes: words for
    what is marked.
    """

    model: str
    value: str
    share: float
    limit: float
    kind: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class BarList:
    """The stages of one mode and way, each with a bar for each model."""

    title: str
    opened: bool
    stages: tuple[tuple[str, tuple[Bar, ...]], ...]


def collect_marks(findings: Iterable[Finding], mode: str, way: str) -> Marks:
    wrong: dict[tuple[str, str], bool] = {}
    causes: dict[tuple[str, str], str] = {}
    for each in findings:
        if (each.mode, find_way(each)) == (mode, way):
            first = each.model not in {model for model, _ in wrong}
            wrong.setdefault((each.model, each.stage), first)
            if each.explanations:
                best = each.explanations[0]
                for place in best.places or (each.stage,):
                    causes.setdefault((each.model, place), best.cause)
    return Marks(wrong, causes)


def find_way(finding: Finding) -> str:
    return WAYS[finding.backward]


def list_bars(trace: Trace) -> Iterator[BarList]:
    """Forward in both modes, as far as they were traced; backward where a gradient is wrong."""
    shown = [(mode, "forward") for mode in ("eval", "train")]
    shown += [(each.mode, "backward") for each in trace.findings if each.backward]
    for mode, way in dict.fromkeys(shown):
        rows, marks = _select(trace, f"{mode} {way}"), collect_marks(trace.findings, mode, way)
        if rows:
            statistics = _select(trace, f"{mode} statistics")
            rows += [row for row in statistics if (row.actual, row.tensor) in marks.wrong]
            stages = tuple(_list_stages(rows, marks))
            short = mode == "eval" and len(stages) <= _MOST_OPEN
            opened = bool(marks.wrong) or (trace.ok and short)
            yield BarList(name_rows(mode, way), opened, stages)


def _select(trace: Trace, quantity: str) -> list[Difference]:
    return [row for row in trace.rows if row.quantity == quantity]


def name_rows(mode: str, way: str) -> str:
    """What the stages of a mode and a way are compared in."""
    if way == "backward":
        return say("gradients in {mode}", mode=name_mode(mode))
    return say("outputs in {mode}", mode=name_mode(mode))


def _list_stages(rows: Sequence[Difference], marks: Marks) -> Iterator[tuple[str, tuple[Bar, ...]]]:
    found: dict[str, dict[str, Difference]] = {}
    for row in _order_rows(rows):
        found.setdefault(row.tensor, {})[row.actual] = row
    for stage, by_model in found.items():
        bars = [_make_bar(row, marks) for row in by_model.values()]
        bars += [
            Bar(name_backend(model), "", 0.0, 0.0, "cause", (_say_cause(cause),))
            for (model, place), cause in marks.causes.items()
            if place == stage and model not in by_model
        ]
        yield stage, tuple(bars)


def _order_rows(rows: Sequence[Difference]) -> list[Difference]:
    """Running statistics come after their norm."""
    order = {stage: number for number, stage in enumerate(dict.fromkeys(r.tensor for r in rows))}

    def find_place(row: Difference) -> int:
        norm = row.tensor.rpartition(".")[0] if row.quantity.endswith("statistics") else ""
        return order.get(norm, order[row.tensor])

    return sorted(rows, key=find_place)


def _make_bar(row: Difference, marks: Marks) -> Bar:
    tolerance = min(max(row.tolerance, _LEAST_TOLERANCE), 1.0)  # that of a recording may be any
    low, high = math.log10(tolerance) - _DECADES_BELOW, 1.0
    share = 0.0
    if row.relative > 0:
        share = min(max((math.log10(row.relative) - low) / (high - low), 0.0), 1.0)
    notes = _list_notes((row.actual, row.tensor), marks)
    kind = next(iter(notes), "" if row.ok else "late")
    return Bar(
        model=name_backend(row.actual),
        value=f"{row.relative:.1e}",
        share=share,
        limit=_DECADES_BELOW / (high - low),
        kind=kind,
        notes=tuple(notes.values()),
    )


def _list_notes(key: tuple[str, str], marks: Marks) -> dict[str, str]:
    """The words for what is marked, by the kinds of bars. key: a model and a stage."""
    notes = {"bad": _say_wrong(marks.wrong[key])} if key in marks.wrong else {}
    notes |= {"cause": _say_cause(marks.causes[key])} if key in marks.causes else {}
    return notes


def _say_wrong(first: bool, its: str = "") -> str:
    """its: the name of the statistics of a norm that diverge."""
    if its:
        return say("✗ {its} diverges first", its=its) if first else say("✗ {its} diverges", its=its)
    return say("✗ diverges first") if first else say("✗ diverges")


def _say_cause(cause: str) -> str:
    return say("◆ cause: {cause}", cause=say(cause))


# The drawing


def drawing(config: Config, trace: Trace) -> str:
    """The picture of the traced model as SVG, with the greatest difference of each stage in the
    mode in which the first mistake was found, by default evaluation. Stages that diverge and
    stages that are the cause are marked.
    """
    scene, node_of = scene_of(config), _fold(config)
    mode, way = choose_rows(trace)
    worst: dict[str, float] = {}
    for row in _select(trace, f"{mode} {way}"):
        name = node_of.get(row.tensor, row.tensor)
        worst[name] = max(worst.get(name, 0.0), row.relative)
    marks = collect_marks(trace.findings, mode, way)
    words = _word_marks(marks, node_of, {node.name for node in scene.nodes})
    nodes = tuple(
        _annotate(node, worst.get(node.name), words.get(node.name, [])) for node in scene.nodes
    )
    notes = (say("greatest relative difference"), say("of {rows}", rows=name_rows(mode, way)))
    return svg(replace(scene, nodes=nodes, notes=notes))


def _fold(config: Config) -> dict[str, str]:
    """The nodes of the stages of a network."""
    if isinstance(config, BlockConfig):
        return {}
    return fold_blocks(graph(config, default_size(config)))


def choose_rows(trace: Trace) -> tuple[str, str]:
    """The mode and the way that the drawing shows: those of the first finding."""
    if trace.first is not None:
        return trace.first.mode, find_way(trace.first)
    traced = [row.quantity.split()[0] for row in trace.rows]
    return traced[0] if traced else "eval", "forward"


def _word_marks(
    marks: Marks, node_of: Mapping[str, str], nodes: set[str]
) -> dict[str, list[tuple[str, str]]]:
    """The marks of each node, each as a form and words; of a model that diverges first here, that
    alone.
    """
    words: dict[str, list[tuple[str, str]]] = {}
    for (_, stage), first in sorted(marks.wrong.items(), key=lambda each: not each[1]):
        name = _find_node(stage, node_of, nodes)
        its = "" if stage in nodes or stage in node_of else stage.rpartition(".")[2]
        words.setdefault(name, [("wrong", _say_wrong(first, its))])
    for (_, stage), cause in marks.causes.items():
        marked = words.setdefault(_find_node(stage, node_of, nodes), [])
        if ("cause", _say_cause(cause)) not in marked:
            marked.append(("cause", _say_cause(cause)))
    return words


def _find_node(stage: str, node_of: Mapping[str, str], nodes: set[str]) -> str:
    """The node of a stage, or of the norm whose statistics it is."""
    name = node_of.get(stage, stage)
    module = stage.rpartition(".")[0]
    return name if name in nodes else node_of.get(module, module)


def _annotate(
    node: SceneNode, relative: float | None, marks: Sequence[tuple[str, str]]
) -> SceneNode:
    """The node with its greatest relative difference, if there is one, and with its marks."""
    value = [] if relative is None else [f"{relative:.1e}"]
    words = [*value, *(words for _, words in marks)]
    if node.form == "input":
        return replace(node, shape=", ".join([node.shape, *words]))
    if node.form in ("sum", "product"):
        return replace(node, shape=", ".join(words) or node.shape)
    form = marks[0][0] if marks else node.form
    return replace(node, lines=(*node.lines, *words), form=form)

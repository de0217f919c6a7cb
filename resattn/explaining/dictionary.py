"""An explanation as plain values, for JSON."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from resattn.explaining.analysis import list_kept
from resattn.explaining.entries import Entry, FoldedBlock
from resattn.explaining.facts import Fact
from resattn.explaining.wording import Wording

if TYPE_CHECKING:
    from resattn.explaining.explanation import Explanation


def make_dictionary(explanation: "Explanation", wording: Wording) -> dict[str, Any]:
    """All of an explanation, its sentences in the language of `wording`."""
    graph = explanation.graph
    return {
        "config": {"model": graph.config.model, **graph.config.to_dict()},
        "size": list(graph.size),
        "batch": explanation.batch,
        "dtype": explanation.dtype,
        "steps": [
            fold_values(each) if isinstance(each, FoldedBlock) else entry_values(each, wording)
            for each in explanation.entries
        ],
        "kept_for_gradients": list(list_kept(graph)),
        "totals": explanation.totals(),
        "facts": fact_values(explanation.facts, wording),
    }


def fact_values(facts: Iterable[Fact], wording: Wording) -> list[dict[str, Any]]:
    return [
        {
            "key": fact.key,
            "text": wording.fact(fact),
            "table": [list(row) for row in fact.table],
        }
        for fact in facts
    ]


def entry_values(entry: Entry, wording: Wording) -> dict[str, Any]:
    operation = entry.operation
    return {
        "name": operation.name,
        "kind": operation.kind,
        "what": wording.what(operation),
        "why": wording.why(entry),
        "group": entry.part,
        "inputs": list(operation.inputs),
        "shape": [extent.size for extent in operation.shape],
        "formula": [extent.formula for extent in operation.shape],
        "settings": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in operation.settings.items()
        },
        "parameters": operation.trainable,
        "statistics": operation.statistics,
        "multiply_adds": operation.multiply_adds,
        "bytes": wording.explanation.bytes(operation.numbers),
        "receptive_field": list(entry.field),
        "code": [line.text for line in entry.lines],
    }


def fold_values(fold: FoldedBlock) -> dict[str, Any]:
    return {
        "name": fold.name,
        "like": fold.like,
        "operations": [operation.name for operation in fold.operations],
        "shape": [extent.size for extent in fold.operations[-1].shape],
        "parameters": sum(each.trainable for each in fold.operations),
        "statistics": sum(each.statistics for each in fold.operations),
        "multiply_adds": sum(each.multiply_adds for each in fold.operations),
        "receptive_field": list(fold.field),
    }

"""The explanation of a live model as plain values, for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resattn.explaining.analysis import list_kept
from resattn.explaining.dictionary import entry_values, fact_values, fold_values
from resattn.explaining.entries import FoldedBlock
from resattn.explaining.executed.sentences import say_failure, values_of_failure
from resattn.explaining.wording import Wording

if TYPE_CHECKING:
    from resattn.explaining.executed.explanation import ExecutedExplanation


def make_executed_dictionary(explanation: ExecutedExplanation, wording: Wording) -> dict[str, Any]:
    """All of an explanation, its sentences in the language of `wording`."""
    found, failure = explanation.graph, explanation.failure
    steps = []
    for each in explanation.entries:
        if isinstance(each, FoldedBlock):
            steps.append(fold_values(each))
            continue
        origin = found.origins[each.operation.name]
        parameters = [
            {"name": held.name, "role": held.role, "axes": held.axes, "shape": list(held.shape)}
            for held in each.operation.parameters
        ]
        steps.append(
            {
                **entry_values(each, wording),
                "module": origin.module,
                "class": origin.kind,
                "file": origin.file,
                "line": origin.line,
                "held": parameters,
            }
        )
    values = {
        "model": found.title,
        "framework": found.framework,
        "size": list(found.size),
        "batch": explanation.batch,
        "dtype": explanation.dtype,
        "steps": steps,
        "kept_for_gradients": list(list_kept(found)),
        "totals": explanation.totals(),
        "facts": fact_values(explanation.facts, wording),
        "unused": list(found.unused),
        "failure": None,
    }
    if failure is not None:
        text = list(say_failure(wording, failure))
        values["failure"] = {**values_of_failure(failure), "text": text}
    return values

"""A live model of a user's own step by step, as it is executed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from resattn.explaining.entries import AnyExplanation, check_dtype
from resattn.explaining.executed.dictionary import make_executed_dictionary
from resattn.explaining.executed.entries import list_executed
from resattn.explaining.executed.failures import ExplainedFailure, explain_failure
from resattn.explaining.executed.listing import ExecutedListing
from resattn.explaining.facts import facts_of_operations
from resattn.explaining.reach import executed_fields
from resattn.explaining.wording import Wording
from resattn.reading.blocks import ExecutedBlock, find_blocks
from resattn.reading.executed import ExecutedGraph, execute
from resattn.reading.reading import Reading


@dataclass(frozen=True)
class ExecutedExplanation(AnyExplanation):
    """What there is to say about a live model, in the order of execution.

    blocks: its residual blocks. failure: None if the model runs to its end.
    """

    graph: ExecutedGraph
    blocks: tuple[ExecutedBlock, ...] = ()
    failure: ExplainedFailure | None = None

    def __repr__(self) -> str:
        return f"<Explanation of {self.graph.title}>"

    def totals(self) -> dict[str, Any]:
        """The sums. Those of a model that fails are up to the failure, without its output and its
        activations. receptive_field: of the last map.
        """
        sums = self.sums()
        if self.failure is not None:
            kept = ("parameters", "statistics", "weight_bytes", "multiply_adds")
            return {name: sums[name] for name in kept}
        maps = [each for each in self.graph if each.numbers > each.shape[0].size]
        last = maps[-1].name if maps else self.graph.output
        return {**sums, "receptive_field": list(executed_fields(self.graph)[last])}

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Everything as plain values, sentences included."""
        return make_executed_dictionary(self, Wording(self, language))

    def lines(
        self, width: int = 100, language: str = "en", brief: bool = False
    ) -> list[tuple[str, str]]:
        """The text as (line, style), as in `Explanation.lines`."""
        listing = ExecutedListing(self, Wording(self, language))
        return list(listing.brief_lines(width) if brief else listing.lines(width))


def explain_executed(
    model: Reading | ExecutedGraph, batch: int = 1, dtype: str = "float32"
) -> ExecutedExplanation:
    """Explains what a live model executes.

    model: as it was read, or the graph of that. batch, dtype: as in `resattn.explain`.
    Raises ArgumentError for an unknown dtype.
    """
    check_dtype(dtype)
    found = execute(model) if isinstance(model, Reading) else model
    blocks = find_blocks(found)
    entries = tuple(list_executed(found, blocks))
    facts = facts_of_operations(found, batch)
    failure = explain_failure(found, blocks)
    return ExecutedExplanation(found, batch, dtype, entries, facts, blocks, failure)

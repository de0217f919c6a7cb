"""A block or a network step by step, from its graph: what `resattn explain` prints and writes."""

from dataclasses import dataclass
from typing import Any

from resattn.explaining.analysis import (
    last_map,
    peak,
    receptive_fields,
    training_numbers,
)
from resattn.explaining.code.alignment import align
from resattn.explaining.dictionary import make_dictionary
from resattn.explaining.entries import Entry, FoldedBlock, list_entries
from resattn.explaining.facts import Fact, facts
from resattn.explaining.listing import Listing
from resattn.explaining.wording import Wording
from weights.checks import Pair
from weights.config import Config
from weights.errors import ArgumentError
from weights.graph import Graph, check_size, default_size, graph

BYTES = {"float16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class Explanation:
    """What there is to say about a config, in the order of execution.

    batch, dtype: for the memory. code: the framework whose lines are shown, or None.
    """

    graph: Graph
    batch: int
    dtype: str
    code: str | None
    entries: tuple[Entry | FoldedBlock, ...]
    facts: tuple[Fact, ...]

    def totals(self) -> dict[str, Any]:
        """Sums over all operations. Activations: numbers for one image, bytes for the batch."""
        operations = self.graph.operations
        parameters = sum(each.trainable for each in operations)
        statistics = sum(each.statistics for each in operations)
        training, (most, where) = training_numbers(self.graph), peak(self.graph)
        return {
            "output": [extent.size for extent in operations[-1].shape],
            "parameters": parameters,
            "statistics": statistics,
            "weight_bytes": (parameters + statistics) * BYTES[self.dtype],
            "multiply_adds": sum(each.multiply_adds for each in operations),
            "training_numbers": training,
            "training_bytes": self.bytes(training),
            "peak_numbers": most,
            "peak_bytes": self.bytes(most),
            "peak_at": where,
            "receptive_field": list(receptive_fields(self.graph)[last_map(self.graph)]),
        }

    def bytes(self, numbers: int) -> int:
        """The memory of that many numbers per image, for the batch."""
        return numbers * self.batch * BYTES[self.dtype]

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Everything as plain values, sentences included."""
        return make_dictionary(self, Wording(self, language))

    def lines(self, width: int = 100, language: str = "en") -> list[tuple[str, str]]:
        """The text as (line, style). No line is wider than `width` cells where words allow.

        style: title, heading, step, code, table, beside or "".
        """
        return list(Listing(self, Wording(self, language)).lines(width))


def explain(
    config: Config,
    size: Pair | None = None,
    batch: int = 1,
    dtype: str = "float32",
    code: str | None = None,
) -> Explanation:
    """Explains what the model of a config computes.

    size: (height, width) of the images, in pixels, by default `default_size`.
    batch: number of images. dtype: of the activations: float16, float32 or float64.
    code: torch, jax or tf, to show the lines of that implementation.
    Raises ArgumentError for a size that the config cannot take, and for an unknown dtype or
    framework.
    """
    if dtype not in BYTES:
        raise ArgumentError(f"--dtype: expected one of {', '.join(BYTES)}, got {dtype!r}")
    size = default_size(config) if size is None else size
    check_size(config, size)
    found = graph(config, size)
    lines = {} if code is None else align(found, code).by_operation()
    entries = tuple(list_entries(found, lines))
    return Explanation(found, batch, dtype, code, entries, facts(found, batch))

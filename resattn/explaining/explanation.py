"""A block or a network step by step, from its graph: what `resattn explain` prints and writes."""

from dataclasses import dataclass
from typing import Any, overload

from resattn.explaining.analysis import last_map, receptive_fields
from resattn.explaining.code.alignment import align
from resattn.explaining.config_listing import ConfigListing
from resattn.explaining.dictionary import make_dictionary
from resattn.explaining.entries import AnyExplanation, check_dtype, list_entries
from resattn.explaining.executed.explanation import ExecutedExplanation, explain_executed
from resattn.explaining.facts import facts
from resattn.explaining.wording import Wording
from resattn.reading.executed import ExecutedGraph, check_unsaid
from resattn.reading.models import read_model
from resattn.reading.reading import Reading
from weights.checks import Pair
from weights.config import Config
from weights.errors import ArgumentError
from weights.frameworks import framework_key
from weights.graph import Graph, check_size, default_size, graph


@dataclass(frozen=True)
class Explanation(AnyExplanation):
    """What there is to say about a config. code: the framework whose lines are shown, or None."""

    graph: Graph
    code: str | None = None

    def __repr__(self) -> str:
        return f"<Explanation of {self.graph.config.describe()}>"

    def totals(self) -> dict[str, Any]:
        """The sums, and the receptive field of the last map."""
        field = receptive_fields(self.graph)[last_map(self.graph)]
        return {**self.sums(), "receptive_field": list(field)}

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Everything as plain values, sentences included."""
        return make_dictionary(self, Wording(self, language))

    def lines(
        self, width: int = 100, language: str = "en", brief: bool = False
    ) -> list[tuple[str, str]]:
        """The text as (line, style). No line is wider than `width` cells where words allow.

        brief: one line for each operation. style: title, heading, step, code, table, beside or "".
        """
        listing = ConfigListing(self, Wording(self, language))
        return list(listing.brief_lines(width) if brief else listing.lines(width))


@overload
def explain(
    model: Config,
    size: Pair | None = None,
    batch: int = 1,
    dtype: str = "float32",
    code: str | None = None,
) -> Explanation: ...
@overload
def explain(
    model: Any,
    size: Pair | None = None,
    batch: int = 1,
    dtype: str = "float32",
    code: None = None,
) -> ExecutedExplanation: ...
def explain(
    model: Any,
    size: Pair | None = None,
    batch: int = 1,
    dtype: str = "float32",
    code: str | None = None,
) -> Explanation | ExecutedExplanation:
    """Explains what the model of a config computes, or what a live model executes.

    model: a config; or any live model of PyTorch, Flax or Keras, or what `resattn.read_model` made
        of it. It is explained as it is executed, with the lines of its own code.
    size: (height, width) of the images, in pixels, by default `default_size`, for a live model as
        `read_model` says. A model that was read was read for one size.
    batch: number of images. dtype: of the activations: float16, float32 or float64.
    code: torch, jax or tf, to show the lines of that implementation of ours.
    Raises ArgumentError for a size that the config cannot take, for an unknown dtype or framework,
    for a size or a framework with a model that was read; and what `read_model` raises.
    """
    check_dtype(dtype)
    code = None if code is None else _key_of(code)
    if not isinstance(model, (Config, Reading, ExecutedGraph)):
        model, size = read_model(model, size), None
    if isinstance(model, (Reading, ExecutedGraph)):
        check_unsaid(model.size, size=size, code=code)
        return explain_executed(model, batch, dtype)
    size = default_size(model) if size is None else size
    check_size(model, size)
    found = graph(model, size)
    lines = {} if code is None else align(found, code).by_operation()
    entries = tuple(list_entries(found, lines))
    return Explanation(found, batch, dtype, entries, facts(found, batch), code)


def _key_of(code: str) -> str:
    try:
        return framework_key(code)
    except ArgumentError as error:
        raise ArgumentError(str(error).replace("framework:", "--code:", 1)) from None

"""A block or a network step by step, from its graph: what `resattn explain` prints and writes."""

from dataclasses import dataclass
from typing import Any

from resattn.explaining.analysis import last_map, receptive_fields
from resattn.explaining.code.alignment import align
from resattn.explaining.config_listing import ConfigListing
from resattn.explaining.dictionary import make_dictionary
from resattn.explaining.entries import AnyExplanation, check_dtype, list_entries
from resattn.explaining.facts import facts
from resattn.explaining.wording import Wording
from weights.checks import Pair
from weights.config import Config
from weights.graph import Graph, check_size, default_size, graph


@dataclass(frozen=True)
class Explanation(AnyExplanation):
    """What there is to say about a config. code: the framework whose lines are shown, or None."""

    graph: Graph
    code: str | None = None

    def totals(self) -> dict[str, Any]:
        """The sums, and the receptive field of the last map."""
        field = receptive_fields(self.graph)[last_map(self.graph)]
        return {**self.sums(), "receptive_field": list(field)}

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Everything as plain values, sentences included."""
        return make_dictionary(self, Wording(self, language))

    def lines(self, width: int = 100, language: str = "en") -> list[tuple[str, str]]:
        """The text as (line, style). No line is wider than `width` cells where words allow.

        style: title, heading, step, code, table, beside or "".
        """
        return list(ConfigListing(self, Wording(self, language)).lines(width))


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
    check_dtype(dtype)
    size = default_size(config) if size is None else size
    check_size(config, size)
    found = graph(config, size)
    lines = {} if code is None else align(found, code).by_operation()
    entries = tuple(list_entries(found, lines))
    return Explanation(found, batch, dtype, entries, facts(found, batch), code)

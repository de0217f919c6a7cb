"""The groups of `resattn bench`, and those that measure by a function of their own.

A function of a group runs in the process of a framework, alternates between our implementation and
another one, and returns timings of both. To add a group, write such a function and add a line to
`MEASURED_GROUPS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from resattn.benchmarks.cases import MODEL_GROUPS
from resattn.benchmarks.timings import Timing


@dataclass(frozen=True)
class Effort:
    """How much to measure. rounds: of each function. quick: small sizes, to try whether it runs."""

    rounds: int
    quick: bool = False


# By name: framework, device, effort -> timings. Raises MissingFramework.
MEASURED_GROUPS: dict[str, Callable[[str, str, Effort], list[Timing]]] = {}

GROUPS = (*MODEL_GROUPS, *MEASURED_GROUPS)

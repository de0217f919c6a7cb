"""What a known mistake is. See `resattn.tracing.causes` for the list of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from resattn.oracle.node import Array
from resattn.tracing.computation import Inputs, StageSpec

Variants = Iterable[tuple[str, StageSpec]]
PRODUCTS = ("convolution", "linear")
NORMS = ("batch_norm", "group_norm", "layer_norm")


@dataclass(frozen=True)
class Cause:
    """A known mistake.

    kinds: of the stages that can have it.
    vary: the usual ways to make it, each with its words and the changed specification.
    solve: ways with other numbers, computed from the stage's inputs and the model's output.
    paired: whether it is also tried together with another cause at the same stage.
    """

    name: str
    kinds: tuple[str, ...]
    vary: Callable[[StageSpec], Variants] = lambda spec: ()
    solve: Callable[[StageSpec, Inputs, Array], Variants] = lambda spec, inputs, actual: ()
    paired: bool = True


def list_orders(channels: int) -> Iterator[tuple[int, ...]]:
    """All other orders of up to four channels; of more, only the reverse."""
    same = tuple(range(channels))
    orders = permutations(same) if channels <= 4 else [same[::-1]]
    return (order for order in orders if order != same)


def shorten_list(values: Iterable[Any], most: int = 8) -> str:
    items = [f"{value:.5g}" if isinstance(value, float) else str(value) for value in values]
    return f"({', '.join(items[:most])}{', ...' if len(items) > most else ''})"

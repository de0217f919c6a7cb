"""The first difference between the graph that is executed and the graph that is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from resattn.reading.steps import CommonStep
from weights.frameworks import FRAMEWORKS


def first_difference(
    framework: str, found: Sequence[CommonStep], expected: Sequence[CommonStep]
) -> str | None:
    """How the executed graph (`found`) differs from the drawn one (`expected`), in one sentence.

    It names the first step, in the order of execution, that has no equal in the other graph or that
    comes at another position. None if the graphs are equal.
    """
    label = FRAMEWORKS[framework].label if framework in FRAMEWORKS else framework
    drawn_only, executed_only = _without_equal(expected, found), _without_equal(found, expected)
    if drawn_only or executed_only:
        drawn = f"drawn is {drawn_only[0]}" if drawn_only else "nothing like it is drawn"
        executed = (
            f"executed is {executed_only[0]}" if executed_only else "nothing like it is executed"
        )
        return f"{label} does not execute what is drawn: {drawn}; {executed}"
    pairs = zip(_in_order(found), _in_order(expected), strict=True)
    for position, (one, other) in enumerate(pairs):
        if one.identity != other.identity:
            return (
                f"{label} executes in another order than is drawn: operation {position} drawn is "
                f"{other}, executed {one}"
            )
    return None


def _in_order(steps: Sequence[CommonStep]) -> list[CommonStep]:
    """The steps whose position counts: all but sums that are a part of a longer sum."""
    users: dict[int, list[str]] = {}
    for step in steps:
        for given in step.inputs:
            users.setdefault(id(given), []).append(step.kind)
    return [step for step in steps if step.kind != "sum" or users.get(id(step)) != ["sum"]]


def _without_equal(steps: Sequence[CommonStep], others: Sequence[CommonStep]) -> list[CommonStep]:
    left = Counter(step.identity for step in others)
    found = []
    for step in steps:
        left[step.identity] -= 1
        if left[step.identity] < 0:
            found.append(step)
    return found

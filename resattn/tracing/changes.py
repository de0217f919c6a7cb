"""Changes of a program that causes make, and what other recorded stages say about one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from resattn.oracle.node import Array
from resattn.tracing.causes import CAUSES
from resattn.tracing.computation import StageSpec
from resattn.tracing.explanations import measure_misfit
from resattn.tracing.steps import ImpossibleChange, Program, Steps
from weights.graph import IMAGE

Key = tuple[str, str]  # the name of a cause and its words


def repeat_change(key: Key, places: list[str]) -> Callable[[Program], Steps]:
    """The change that a cause makes in these words, at some places."""
    cause = next(cause for cause in CAUSES if cause.name == key[0])

    def change(program: Program) -> Steps:
        changed = {}
        for place in places:
            step = program.steps[place]
            if step.spec.kind in cause.kinds:
                found = (spec for words, spec in cause.vary(step.spec) if words == key[1])
                spec = next(found, None)
                if spec is not None:
                    changed[place] = replace(step, spec=spec)
        return changed

    return change


def merge_changes(
    first: Callable[[Program], Steps], second: Callable[[Program], Steps]
) -> Callable[[Program], Steps]:
    return lambda program: {**first(program), **second(program)}


def count_consistent(
    program: Program,
    changed: Steps,
    target: str,
    recorded: Mapping[str, Array],
    limit: Callable[[str], float],
) -> tuple[int, int]:
    """How many other recorded stages a change contradicts (as a negative number), and how many
    that differ it explains, too.
    """
    against = explained = 0
    for name in _find_affected(program, changed, target, recorded):
        try:
            y = program.evaluate(changed, name)
        except ImpossibleChange:
            return -len(recorded), 0
        right, actual = program.expect(name), recorded[name]
        if measure_misfit(StageSpec("input"), y, actual, limit(name)) is None:
            against += 1
        elif measure_misfit(StageSpec("input"), right, actual, limit(name)) is None:
            explained += 1
    return -against, explained


def _find_affected(
    program: Program, changed: Steps, target: str, recorded: Mapping[str, Array]
) -> list[str]:
    """The other recorded stages that a change reaches before another recorded one."""
    inputs = {name: step.inputs for name, step in {**program.steps, **changed}.items()}
    readers: dict[str, list[str]] = {name: [] for name in inputs}
    for name, sources in inputs.items():
        for source in sources:
            readers[source].append(name)
    found, seen, waiting = [], set(changed), list(changed)
    while waiting:
        name = waiting.pop()
        if name not in (target, IMAGE) and (name in program.fixed or name in recorded):
            found.append(name)
            continue
        if name in program.fixed:
            continue
        fresh = [reader for reader in readers[name] if reader not in seen]
        seen |= set(fresh)
        waiting += fresh
    return found

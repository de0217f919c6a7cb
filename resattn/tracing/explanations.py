"""Trying the causes, and judging which of them explain what a stage computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from resattn.checking.tolerances import tolerance
from resattn.oracle.node import Array
from resattn.tracing.causes import CAUSES, RUNNING, apply_causes, solve_causes
from resattn.tracing.computation import FORMULAS, Inputs, StageSpec, compute
from resattn.tracing.formats import RESOLUTION
from resattn.tracing.sampling import Sample
from weights.language import say


@dataclass(frozen=True)
class CauseExplanation:
    """A cause that explains a difference.

    cause: its name. words: how it was made. spec: what the stage then computes. left: the relative
    difference that remains. change: the same cause as a change of the model's steps; None if it is
    in the stage alone, and `spec` says all. places: the steps that it changes, in the order of
    execution; none if it is in the stage alone.
    """

    cause: str
    words: str
    spec: StageSpec
    left: float
    change: Callable[[Any], Any] | None = field(default=None, compare=False, repr=False)
    places: tuple[str, ...] = ()

    def __str__(self) -> str:
        return say("{cause}: {words}", cause=say(self.cause), words=self.words)


def find_explanations(
    spec: StageSpec,
    inputs: Inputs,
    actual: Array,
    limit: float,
    pairs: bool = True,
    sample: Sample | None = None,
) -> list[CauseExplanation]:
    """The causes that explain the output of a stage, the best first.

    limit: relative to the greatest magnitude of `actual`. pairs: whether to try two causes at
    once if no single one explains it. sample: if `actual` is only a sample of the output; too few
    values to solve for the numbers of a cause.
    """
    if spec.kind not in FORMULAS:
        return []
    run = compute if sample is None else partial(_compute_sample, sample)
    before = measure_distance(run(spec, inputs), actual)
    found: list[CauseExplanation] = []
    solved = solve_causes(spec, inputs, actual) if sample is None else ()
    for ways in (apply_causes(spec), solved):
        single = ((cause.name, words, changed) for cause, words, changed in ways)
        tried = _try_candidates(run, inputs, actual, limit, single)
        found = found or [each for each in tried if _improves(each, before)]
    if found or not pairs:
        return found
    both = (
        (
            say("{first} and {second}", first=say(first.name), second=say(second.name)),
            say("{words} and {more}", words=words, more=more),
            changed,
        )
        for first, words, halfway in apply_causes(spec)
        if first.paired
        for second, more, changed in apply_causes(halfway)
        if second.paired and CAUSES.index(second) > CAUSES.index(first)
    )
    tried = _try_candidates(run, inputs, actual, limit, both, screen=True)
    return [each for each in tried if _improves(each, before)]


def _compute_sample(sample: Sample, spec: StageSpec, inputs: Inputs) -> Array:
    return sample.observe(compute(spec, inputs))


def measure_misfit(spec: StageSpec, computed: Array, actual: Array, limit: float) -> float | None:
    """The greatest difference between a computed output and the actual one, relative to the
    greatest magnitude; None if it is too great.

    An output in a low format may differ by one unit in the last place where an earlier rounding
    error decides the rounding; nine values in ten must be equal.
    """
    if computed.shape != actual.shape:
        return None
    finite = np.isfinite(computed) & np.isfinite(actual)
    if not np.array_equal(np.isfinite(computed), np.isfinite(actual)) or not finite.any():
        return None
    scale = float(np.abs(actual[finite]).max()) or 1.0
    apart = np.abs(np.where(finite, computed - actual, 0.0))
    left = float(apart.max()) / scale
    form = spec["output_format"]
    if form in RESOLUTION:
        unit = RESOLUTION[form] * np.abs(np.where(finite, actual, 0.0)) * 1.01
        near = (apart <= np.maximum(unit, limit * scale)).all()
        equal = apart <= limit * scale
        return left if near and equal.mean() >= 0.9 else None
    if form == "float32":  # it rounds each sum, in an order that we do not know
        limit = tolerance("float32", "eval output")
    return left if left <= limit else None


def _improves(explanation: CauseExplanation, before: float) -> bool:
    """Whether an explanation leaves much less than the difference before.

    An output in float64 whose values are all in float32 needs no such improvement.
    """
    return explanation.left <= before / 4 or explanation.spec["output_format"] == "float32"


def measure_distance(computed: Array, actual: Array) -> float:
    """The greatest difference relative to the greatest magnitude; infinite if a value is not
    finite or the shapes differ.
    """
    if computed.shape != actual.shape:
        return np.inf
    both = np.isfinite(computed) & np.isfinite(actual)
    if not both.all() or not both.any():
        return np.inf
    return float(np.abs(computed - actual).max() / (np.abs(actual).max() or 1))


def _try_candidates(
    run: Callable[[StageSpec, Inputs], Array],
    inputs: Inputs,
    actual: Array,
    limit: float,
    candidates: Iterable[tuple[str, str, StageSpec]],
    screen: bool = False,
) -> list[CauseExplanation]:
    """The candidates that explain the output, one for each cause.

    That is the first one, because usual ways come before solved ones, unless another is much
    better.
    run: computes what can be compared. screen: whether to try one image first if the images do not
    depend on each other.
    """
    found: dict[str, CauseExplanation] = {}
    for cause, words, changed in candidates:
        independent = not changed["training"] and changed.kind not in RUNNING
        if screen and independent and len(actual) > 1:
            part = run(changed, tuple(array[:1] for array in inputs))
            if measure_misfit(changed, part, actual[:1], 4 * limit) is None:
                continue
        left = measure_misfit(changed, run(changed, inputs), actual, limit)
        if left is not None and (cause not in found or left < found[cause].left / 4):
            found[cause] = CauseExplanation(cause, words, changed, left)
    return sorted(found.values(), key=lambda each: each.left)

"""What a model computes as steps that can be changed, with the values that they had in the model.

A changed step, or several, are evaluated from there on; everything before keeps its value. Stages
that were recorded keep the recorded value, so a change is only followed up to the next of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from resattn.oracle.evaluation import COMPUTE
from resattn.oracle.layers import State
from resattn.oracle.node import Array, Node
from resattn.tracing.computation import FORMULAS, Inputs, StageSpec, compute
from resattn.tracing.sampling import Sample
from weights.operations import Operation

GIVEN = "the image as it was given"


class ImpossibleChange(Exception):  # noqa: N818  (not an error: the model cannot have the cause)
    """A change that gives shapes which do not fit."""


@dataclass(frozen=True)
class TracedStep:
    """One operation: what it computes from which values.

    operation: of the graph; None for a step that is not there.
    """

    spec: StageSpec
    inputs: tuple[str, ...]
    operation: Operation | None = None

    def compute(self, inputs: Inputs, arrays: Mapping[str, Array], training: bool) -> Array:
        """Raises ImpossibleChange for inputs of shapes that do not fit."""
        try:
            if self.spec.kind in FORMULAS:
                return compute(self.spec, inputs)
            if self.operation is None:
                raise ImpossibleChange(self.spec.kind)
            run = COMPUTE[self.spec.kind]
            with np.errstate(all="ignore"):
                return run(State(arrays, training), self.operation, *map(Node, inputs)).value
        except (ValueError, IndexError, TypeError) as error:
            raise ImpossibleChange(str(error)) from error


Steps = Mapping[str, TracedStep]
Rows = Iterable[tuple[int, Array]]
Site = Callable[[Callable[[int], Inputs]], Rows]  # from each row's inputs to outputs of some rows


@dataclass(frozen=True)
class Program:
    """The steps in the order of execution.

    values: what each gave in the model as far as known. computed: what the oracle computes from the
    values before. fixed: the names of those that were recorded. samples: of those that are known in
    part.
    """

    steps: Steps
    values: Mapping[str, Array]
    computed: Mapping[str, Array]
    fixed: frozenset[str]
    arrays: Mapping[str, Array]
    training: bool
    samples: Mapping[str, Sample] = field(default_factory=dict)

    def observe(self, name: str, value: Array) -> Array:
        """The part of a step's value that can be compared: its sample, or all of it."""
        return self.samples[name].observe(value) if name in self.samples else value

    def expect(self, name: str) -> Array:
        """What the oracle computes for a step, as far as it can be compared."""
        return self.observe(name, self.computed[name])

    @cached_property
    def readers(self) -> dict[str, list[str]]:
        """The steps that take the value of a step."""
        found: dict[str, list[str]] = {name: [] for name in self.steps}
        for name, step in self.steps.items():
            for source in step.inputs:
                found[source].append(name)
        return found

    def reach(self, target: str) -> list[str]:
        """The target and the steps before it whose values are not known, in the order of
        execution.
        """
        found, waiting = {target}, list(self.steps[target].inputs)
        while waiting:
            name = waiting.pop()
            if name not in found and name not in self.fixed:
                found.add(name)
                waiting += self.steps[name].inputs
        return [name for name in self.steps if name in found]

    @cached_property
    def _narrowed(self) -> dict[tuple[str, int | None], Program]:
        return {}

    def narrow(self, dtype: str, image: int | None) -> Program:
        """The same for one image alone, or for all, in a dtype."""
        if (dtype, image) not in self._narrowed:
            self._narrowed[dtype, image] = self._cast(dtype, image)
        return self._narrowed[dtype, image]

    def _cast(self, dtype: str, image: int | None) -> Program:

        def cast(arrays: Mapping[str, Array], part: slice = slice(None)) -> dict[str, Array]:
            return {name: array[part].astype(dtype) for name, array in arrays.items()}

        steps = {
            name: replace(step, spec=step.spec.with_parameters(**cast(step.spec.parameters)))
            for name, step in self.steps.items()
        }
        part = slice(None) if image is None else slice(image, image + 1)
        values, computed = cast(self.values, part), cast(self.computed, part)
        return replace(
            self, steps=steps, values=values, computed=computed, arrays=cast(self.arrays)
        )

    def evaluate(self, changed: Steps, target: str) -> Array:
        """The value of a step after changes, as far as it can be compared.

        Raises ImpossibleChange.
        """
        return self.observe(target, self.evaluate_whole(changed, target))

    def evaluate_whole(self, changed: Steps, target: str) -> Array:
        """The value of a step after changes. Raises ImpossibleChange."""
        known: dict[str, tuple[Array, bool]] = {}
        waiting = [target]
        while waiting:
            name = waiting[-1]
            if name in known:
                waiting.pop()
                continue
            if name in self.fixed and name != target:
                known[name] = self.values[name], False
                continue
            step = changed[name] if name in changed else self.steps[name]
            missing = [source for source in step.inputs if source not in known]
            if missing:
                waiting += missing
                if len(waiting) > 4 * len(self.steps) + 100:
                    raise ImpossibleChange("a circle")
                continue
            parts = [known[source] for source in step.inputs]
            if name in changed or any(moved for _, moved in parts):
                inputs = tuple(value for value, _ in parts)
                known[name] = step.compute(inputs, self.arrays, self.training), True
            else:
                known[name] = (self.computed if name == target else self.values)[name], False
        return known[target][0]

    def evaluate_rows(self, sites: Mapping[str, Site], count: int, target: str) -> Array:
        """The target for many changes at once, one a row: all rows go through an unchanged step
        together. For one image, in evaluation. Rows that are impossible are NaN.
        """
        moved: dict[str, Array] = {}
        for name in self.reach(target):
            step = self.steps[name]
            sources = [source for source in step.inputs if source in moved]
            if not sources and name not in sites:
                continue
            base = (self.computed if name == target else self.values)[name]
            inputs = tuple(
                moved[source]
                if source in moved
                else np.broadcast_to(self.values[source], (count, *self.values[source].shape[1:]))
                for source in step.inputs
            )
            if sources:
                y = step.compute(inputs, self.arrays, self.training)
            else:
                y = np.repeat(base, count, axis=0)
            if name in sites:
                y = _replace_rows(y, inputs, sites[name])
            moved[name] = y
        if target not in moved:
            raise ImpossibleChange("the target does not depend on it")
        return self.observe(target, moved[target])


def _replace_rows(y: Array, inputs: Inputs, site: Site) -> Array:
    y = np.array(y)
    for row, value in site(lambda row: tuple(x[row : row + 1] for x in inputs)):
        y[row] = value[0] if value.shape[1:] == y.shape[1:] else np.nan
    return y


def insert_after(name: str, step: TracedStep, spec: StageSpec) -> Iterator[tuple[str, TracedStep]]:
    """One more step after another, under whose name readers find it."""
    yield f"{name} before", step
    yield name, TracedStep(spec, (f"{name} before",))

"""One operation as it should be and as a model computes it, with the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.computation import Inputs, StageSpec, compute

# The parameters that each kind uses, in this order.
USED = {
    "convolution": ("weight", "bias"),
    "linear": ("weight", "bias"),
    "batch_norm": ("weight", "bias", "running_mean", "running_var"),
    "group_norm": ("weight", "bias"),
    "layer_norm": ("weight", "bias"),
}
ArrayChange = Callable[[Array], Array]


@dataclass(frozen=True)
class FailingCase:
    """An operation, what a model computes in its place, and the inputs of both.

    inputs: each (batch, channels, height, width) or, of a linear layer, (batch, features). dtype:
    the format of all numbers, which are held in float64.
    """

    right: StageSpec
    wrong: StageSpec
    inputs: Inputs
    dtype: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs in a script."""
        usual = ("x", "gate") if self.right.kind == "product" else ("x", "y", "z")
        return usual[: len(self.inputs)]

    @property
    def numbers(self) -> dict[str, Array]:
        """All arrays by name, inputs first; of the operation as it should be."""
        return {
            **dict(zip(self.names, self.inputs, strict=True)),
            **list_parameters(self.right),
        }

    def apply(self, changes: Mapping[str, ArrayChange]) -> FailingCase:
        """The case with changed arrays: inputs, and parameters on both sides."""

        def change(spec: StageSpec) -> StageSpec:
            held = {leaf: spec.parameters[leaf] for leaf in spec.parameters if leaf in changes}
            return spec.with_parameters(**{leaf: changes[leaf](a) for leaf, a in held.items()})

        inputs = tuple(
            changes[name](array) if name in changes else array
            for name, array in zip(self.names, self.inputs, strict=True)
        )
        return replace(self, right=change(self.right), wrong=change(self.wrong), inputs=inputs)

    def with_setting(self, name: str, value: object) -> FailingCase:
        """Another setting on both sides; on one, if that differs from the other already."""
        wrong = self.wrong
        if self.wrong[name] == self.right[name]:
            wrong = wrong.with_settings(**{name: value})
        return replace(self, right=self.right.with_settings(**{name: value}), wrong=wrong)

    @property
    def outputs(self) -> tuple[Array, Array]:
        """What should be computed and what the model computes, in float64."""
        return compute(self.right, self.inputs), compute(self.wrong, self.inputs)

    @property
    def complexity(self) -> tuple[int, int, int, int]:
        """What makes a case simpler: fewer numbers; smaller settings; shorter, and more zeros."""
        arrays = list(self.numbers.values())
        sizes = [
            int(np.sum(self.right[name]))
            for name in ("stride", "padding", "after", "dilation", "kernel", "groups")
            if self.right[name] is not None
        ]
        texts = sum(len(format_number(value, self.dtype)) for a in arrays for value in a.ravel())
        nonzero = sum(int(np.count_nonzero(array)) for array in arrays)
        return sum(array.size for array in arrays), sum(sizes), texts, nonzero


def make_case(right: StageSpec, wrong: StageSpec, inputs: Inputs, dtype: str) -> FailingCase:
    """A case whose numbers are those that the format holds."""

    def rounded(array: Array) -> Array:
        return np.asarray(array).astype(dtype).astype(np.float64)

    if right.kind == "linear":
        inputs = (inputs[0].reshape(len(inputs[0]), -1),)
    sides = [
        spec.with_parameters(**{leaf: rounded(array) for leaf, array in spec.parameters.items()})
        for spec in (right, wrong)
    ]
    return FailingCase(sides[0], sides[1], tuple(map(rounded, inputs)), dtype)


def list_parameters(spec: StageSpec) -> dict[str, Array]:
    """The parameters that an operation uses, in the order of its arguments."""
    return {
        leaf: spec.parameters[leaf]
        for leaf in USED.get(spec.kind, ())
        if leaf in spec.parameters and not (spec["training"] and leaf.startswith("running"))
    }


def format_number(value: float, dtype: str) -> str:
    """The shortest text that the format reads as this number."""
    text = str(np.dtype(dtype).type(value))
    return text.removesuffix(".0").replace("e+", "e").replace("e-0", "e-")

"""From primitives to steps, the common form in which two graphs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeVar

import numpy as np

from resattn.reading.form import Held, ImageValues, Primitive, label_of, merge_held
from resattn.reading.functions import (
    FUNCTIONS,
    RECOGNIZED,
    UNORDERED,
    dominators,
    evaluate_primitive,
    recognize,
    source_of,
)
from resattn.reading.patterns import (
    channels_together,
    greater_inputs,
    softmax_input,
    standardized,
)

# What a primitive with parameters is called; sums and products with them are a batch norm's.
MODULE_KINDS = {
    "convolution": "convolution",
    "depthwise convolution": "depthwise convolution",
    "batch_norm": "batch_norm",
    "group_norm": "group_norm",
    "layer_norm": "layer_norm",
    "matrix_product": "linear",
}


@dataclass(eq=False)
class CommonStep:
    """An operation in the common form.

    kind: what it computes, in words that are the same for equal steps. number: its position in the
    order of execution. name: of the drawn operation, "" in a graph that a framework executes.
    module: the one whose parameters (held) take part, "" if none do. what: the kind without module
    and parameters. eps: of a standardization. together: how many channels a standardization over
    positions takes together, 0 for another. identity: the same for steps that are equal all the
    way from the image.
    """

    kind: str
    inputs: tuple[CommonStep, ...]
    number: int
    name: str = ""
    module: str = ""
    what: str = ""
    held: Held | None = None
    eps: float | None = None
    together: int = 0
    identity: int = 0

    def __post_init__(self) -> None:
        inputs = [step.identity for step in self.inputs]
        ordered = sorted(inputs) if self.kind in UNORDERED else inputs
        self.identity = hash((self.kind, tuple(ordered)))

    def __str__(self) -> str:
        name = f" ({self.name})" if self.name not in ("", self.module, self.kind) else ""
        inputs = " and ".join(step.module or step.kind for step in self.inputs)
        return f"{self.kind}{name}" + (f" of {inputs}" if inputs else "")


def normalize(output: ImageValues, modules: Mapping[str, str]) -> list[CommonStep]:
    """The steps that lead to `output`, in the order of execution.

    modules: the module of each parameter, by the parameter's name.
    """
    primitives = sorted(_reachable(output.producer), key=lambda primitive: primitive.number)
    normalizer = _Normalizer(primitives, modules)
    for primitive in primitives:
        if primitive.function is None:  # in order, so that no step needs a long way back
            normalizer.step(primitive)
    return sorted(_reachable(normalizer.step(output.producer)), key=lambda step: step.number)


AnyStep = TypeVar("AnyStep", Primitive, CommonStep)


def _reachable(last: AnyStep) -> list[AnyStep]:
    """`last` and everything that it is computed from, each before its inputs."""
    found: dict[int, AnyStep] = {}
    waiting = [last]
    while waiting:
        node = waiting.pop()
        if id(node) not in found:
            found[id(node)] = node
            waiting += reversed(node.inputs)
    return list(found.values())


class _Normalizer:
    """Makes steps of primitives. primitives: all that the output needs."""

    def __init__(self, primitives: Sequence[Primitive], modules: Mapping[str, str]):
        self.modules = modules
        self.known: dict[Primitive, CommonStep] = {}
        self.starts: dict[tuple[Primitive, int], set[int]] = {}  # of the parts of one whole
        for primitive in primitives:
            if primitive.op == "part":
                whole = (primitive.inputs[0], primitive.settings["whole"])
                self.starts.setdefault(whole, set()).add(primitive.settings["start"])

    def step(self, primitive: Primitive) -> CommonStep:
        if primitive not in self.known:
            self.known[primitive] = self._step(primitive)
        return self.known[primitive]

    def _step(self, primitive: Primitive) -> CommonStep:
        if primitive.held is not None:
            return self._step_of_module(primitive, primitive.held)
        if primitive.function is not None:
            source = source_of(primitive)
            if source is None:
                return self._step_of_several(primitive)
            return self._step_of_function(primitive, source)
        inputs = self._inputs(primitive)
        if primitive.op == "rearrangement" and inputs[0].module:
            return _extend(inputs[0], primitive)
        return CommonStep(self._describe(primitive), inputs, primitive.number, primitive.name)

    def _inputs(self, primitive: Primitive) -> tuple[CommonStep, ...]:
        return tuple(map(self.step, primitive.inputs))

    def _describe(self, primitive: Primitive) -> str:
        """A primitive without parameters in words."""
        settings = primitive.settings
        if primitive.op == "part":
            starts = sorted(self.starts[primitive.inputs[0], settings["whole"]])
            return f"part {starts.index(settings['start']) + 1} of {len(starts)}"
        if "axes" in settings:
            return f"{primitive.op} over {', '.join(sorted(map(label_of, settings['axes'])))}"
        return f"{primitive.op}{_describe_settings(settings)}"

    # Functions of one value

    def _step_of_function(self, primitive: Primitive, source: Primitive) -> CommonStep:
        """The last of the recognized functions and a x + b that this function is made of."""
        path = [source, *dominators(primitive, source)]
        step, at, a, b = self.step(source), 0, 1.0, 0.0
        while at < len(path) - 1:
            to, kind = _next_function(path, at)
            if kind == "a x + b":
                low, high = evaluate_primitive(path[to], path[at], np.array([0.0, 1.0]))
                a, b = a * (high - low), b * (high - low) + low
            else:
                step = _linear(step, a, b, path[at])
                kind = kind or f"{path[to].op} (unknown)"
                step, a, b = CommonStep(kind, (step,), path[to].number, path[to].name), 1.0, 0.0
            at = to
        return _linear(step, a, b, primitive)

    # Functions of several values

    def _step_of_several(self, primitive: Primitive) -> CommonStep:
        found = self._step_of_pattern(primitive)
        if found is not None:
            return found
        inputs = self._inputs(primitive)
        if primitive.op not in FUNCTIONS or primitive.op in ("choice", "is greater"):
            return CommonStep(f"{primitive.op} (unknown)", inputs, primitive.number)
        if primitive.op == "sum" and inputs[0].module and _belong_together(inputs):
            return _extend(inputs[0], primitive, inputs[1:])
        return CommonStep(self._describe(primitive), inputs, primitive.number, primitive.name)

    def _step_of_pattern(self, primitive: Primitive) -> CommonStep | None:
        x = softmax_input(primitive)
        if x is not None:
            return CommonStep("softmax", (self.step(x),), primitive.number)
        centred = standardized(primitive)
        if centred is not None:
            x, eps = centred
            kind = f"standardised, eps {eps:.3g}"
            together = channels_together(primitive)
            step = self.step(x)
            return CommonStep(kind, (step,), primitive.number, eps=eps, together=together)
        greater = greater_inputs(primitive)
        if greater is not None:
            inputs = tuple(map(self.step, greater))
            return CommonStep("greater", inputs, primitive.number, primitive.name)
        return None

    # Modules

    def _step_of_module(self, primitive: Primitive, held: Held) -> CommonStep:
        module = " and ".join(sorted({self.modules[name] for name in held.names}))
        inputs = self._inputs(primitive)
        first = inputs[0] if len(inputs) == 1 else None
        if first and first.held and first.module == module and not held.names & first.held.names:
            return _extend(first, primitive)
        what = MODULE_KINDS.get(primitive.op, "batch_norm")
        if first and first.eps is not None:
            inputs, what, numbers = first.inputs, "layer_norm", {first.eps}
            if first.together:
                what = "group_norm"
                numbers.add(float(prod(held.shape) // first.together))
            held = replace(held, numbers=held.numbers | numbers)
        what += _describe_settings(primitive.settings)
        return _module_step(module, what, inputs, primitive, held)


def _describe_settings(settings: Mapping[str, Any]) -> str:
    window = settings["window"].describe() if "window" in settings else ""
    window += f" ({settings['moves']})" if "moves" in settings else ""
    return window + (" (of axes that do not belong together)" if settings.get("crossed") else "")


def _next_function(path: Sequence[Primitive], at: int) -> tuple[int, str | None]:
    """The next position in a path that is recognized as a function of the one `at`, and which.

    Without one, the next position: "a x + b" or None, for unknown.
    """
    for to in range(at + 1, len(path)):
        kind = recognize(path[to], path[at])
        if kind in RECOGNIZED:
            return to, kind
    return at + 1, recognize(path[at + 1], path[at])


def _linear(step: CommonStep, a: float, b: float, primitive: Primitive) -> CommonStep:
    """a x + b of a step, or the step itself if that changes nothing."""
    if np.isclose(a, 1, rtol=1e-6) and abs(b) < 1e-12:
        return step
    slope = "x" if np.isclose(a, 1, rtol=1e-6) else f"{a:.5g} x"
    kind = slope + (f" + {b:.5g}" if abs(b) > 1e-12 else "")
    return CommonStep(kind, (step,), primitive.number, primitive.name)


def _belong_together(steps: Sequence[CommonStep]) -> bool:
    """Whether these are of one module and of the same inputs, each with parameters of its own."""
    held = [name for step in steps for name in (step.held.names if step.held else ())]
    modules, inputs = {step.module for step in steps}, {step.inputs for step in steps}
    return len(modules) == len(inputs) == 1 and len(set(held)) == len(held)


def _module_step(
    module: str, what: str, inputs: tuple[CommonStep, ...], primitive: Primitive, held: Held
) -> CommonStep:
    leaves = ", ".join(sorted(name.rsplit(".", 1)[-1] for name in held.names))
    numbers = "".join(f", {number:.3g}" for number in sorted(held.numbers))
    kind = f"{module}: {what} with {leaves}{numbers}"
    return CommonStep(kind, inputs, primitive.number, primitive.name, module, what, held)


def _extend(
    step: CommonStep, primitive: Primitive, others: Sequence[CommonStep] = ()
) -> CommonStep:
    """The operation of a module with another primitive, and with other steps of that module."""
    inputs = list(step.inputs)
    inputs += [given for other in others for given in other.inputs if given not in inputs]
    held = [step.held, *(other.held for other in others), primitive.held]
    merged = merge_held([one for one in held if one is not None])
    assert merged is not None
    return _module_step(step.module, step.what, tuple(inputs), primitive, merged)

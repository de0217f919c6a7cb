"""From primitives to steps, the common form in which two graphs are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, TypeVar

import numpy as np

from resattn.reading.form import (
    Axis,
    Held,
    ImageValues,
    Origin,
    Primitive,
    merge_held,
    names_of,
)
from resattn.reading.functions import (
    FUNCTIONS,
    RECOGNIZED,
    UNORDERED,
    dominators,
    evaluate_primitive,
    recognize,
    settings_of,
    source_of,
)
from resattn.reading.patterns import greater_inputs, softmax_input
from resattn.reading.roles import Uses, find_roles
from resattn.reading.spelled import Norm, find_norm, find_prelu

# What a primitive with parameters is called; sums and products with them are a batch norm's.
MODULE_KINDS = {
    "convolution": "convolution",
    "depthwise convolution": "depthwise convolution",
    "batch_norm": "batch_norm",
    "group_norm": "group_norm",
    "layer_norm": "layer_norm",
    "prelu": "prelu",
    "matrix_product": "linear",
}
LINEAR = ("convolution", "depthwise convolution", "linear")


@dataclass(eq=False, repr=False)
class CommonStep:
    """An operation in the common form.

    kind: what it computes, in words that are the same for equal steps. inputs: the steps whose
    values it takes. primitives: those that it is made of, in the order of execution; the last gives
    its values. op: what it computes in one word, "convolution", "batch_norm", "relu" and so on, or
    "unknown". module: the one whose parameters (held) take part, "" if none do. what: the kind
    without module and parameters. settings: what there is to say about op, as numbers and names:

        convolution, depthwise convolution, poolings   window
        convolution        also groups, and kernel: what is computed of it first, if anything is
        batch_norm, layer_norm, standardised           eps
        group_norm         eps, groups; standardised as well, if it is over positions
        leaky_relu, elu    factor: of what is below 0
        scale              a product with or a sum of parameters alone
        average, maximum, total   axes: the names of the axes
        a x + b            a, b
        part               part, parts, counted from 0
        padding            margins (axis: before, after, fill) and strides (axis: n)
        unknown            primitive: what the framework calls it

    roles: which parameter is the weight, bias, mean or variance. uses: in which primitive each
    parameter takes part. identity: the same for steps that are equal all the way from the image.
    """

    kind: str
    inputs: tuple[CommonStep, ...]
    primitives: tuple[Primitive, ...]
    op: str
    module: str = ""
    what: str = ""
    held: Held | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    uses: Uses = ()
    identity: int = 0

    @property
    def number(self) -> int:
        """Its position in the order of execution."""
        return self.primitives[-1].number

    @property
    def name(self) -> str:
        """Of the drawn operation that it is, "" in a graph that a framework executes."""
        return self.primitives[-1].name

    @property
    def origin(self) -> Origin:
        """Where its first primitive comes from."""
        return self.primitives[0].origin

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of its values, the batch included."""
        return self.primitives[-1].axes

    def __post_init__(self) -> None:
        inputs = [step.identity for step in self.inputs]
        ordered = sorted(inputs) if self.kind in UNORDERED else inputs
        self.identity = hash((self.kind, tuple(ordered)))

    def __repr__(self) -> str:
        return f"<{self}>"  # without everything that it is computed from

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
        if primitive.op == "unknown":
            name = primitive.settings["primitive"]
            step = _unknown_step(name, self._inputs(primitive), (primitive,))
            module = self._module(primitive.held) if primitive.held else ""
            return replace(step, module=module, held=primitive.held)
        if primitive.held is not None:
            found = self._step_of_spelled(primitive)
            return found or self._step_of_module(primitive, primitive.held)
        if primitive.function is not None:
            source = source_of(primitive)
            if source is None:
                return self._step_of_several(primitive)
            return self._step_of_function(primitive, source)
        inputs = self._inputs(primitive)
        if primitive.op == "rearrangement" and inputs[0].module:
            return _extend(inputs[0], primitive)
        return self._plain_step(primitive, inputs)

    def _inputs(self, primitive: Primitive) -> tuple[CommonStep, ...]:
        return tuple(map(self.step, primitive.inputs))

    def _plain_step(self, primitive: Primitive, inputs: tuple[CommonStep, ...]) -> CommonStep:
        """The step of a primitive without parameters."""
        op, settings = primitive.op, primitive.settings
        if op == "part":
            starts = sorted(self.starts[primitive.inputs[0], settings["whole"]])
            settings = {"part": starts.index(settings["start"]), "parts": len(starts)}
            kind = f"part {settings['part'] + 1} of {settings['parts']}"
        elif "axes" in settings:
            over = (name for axis in settings["axes"] for name in names_of(axis) or ("",))
            settings = {"axes": tuple(sorted({*over}))}
            kind = f"{op} over {', '.join(settings['axes'])}"
        else:
            kind = f"{op}{_describe_settings(settings)}"
        return CommonStep(kind, inputs, (primitive,), op, settings=settings)

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
                settings = settings_of(kind, path[to], path[at]) if kind else {}
                step = _function_step(kind, step, tuple(path[at + 1 : to + 1]), settings)
                a, b = 1.0, 0.0
            at = to
        return _linear(step, a, b, primitive)

    # Functions of several values

    def _step_of_several(self, primitive: Primitive) -> CommonStep:
        found = self._step_of_pattern(primitive)
        if found is not None:
            return found
        inputs = self._inputs(primitive)
        if primitive.op not in FUNCTIONS or primitive.op in ("choice", "is greater"):
            return _unknown_step(primitive.op, inputs, (primitive,))
        if primitive.op == "sum" and inputs[0].module and _belong_together(inputs):
            return _extend(inputs[0], primitive, inputs[1:])
        return self._plain_step(primitive, inputs)

    def _step_of_pattern(self, primitive: Primitive) -> CommonStep | None:
        x = softmax_input(primitive)
        if x is not None:
            return CommonStep("softmax", (self.step(x),), (primitive,), "softmax")
        found = self._step_of_spelled(primitive)
        if found is not None:
            return found
        greater = greater_inputs(primitive)
        if greater is not None:
            inputs = tuple(map(self.step, greater))
            return CommonStep("greater", inputs, (primitive,), "greater")
        return None

    # Modules

    def _step_of_spelled(self, primitive: Primitive) -> CommonStep | None:
        """The norm or the PReLU that a primitive is the end of."""
        norm = find_norm(primitive)
        if norm is not None and norm.held is None:
            said = {"eps": norm.eps, "groups": norm.groups}
            return _standardization(self.step(norm.x), said, norm.primitives)
        found = norm or find_prelu(primitive)
        if found is None or found.held is None:
            return None
        module = self._module(found.held)
        if " and " in module:
            return None
        op, held = "prelu", found.held
        settings: dict[str, Any] = {"roles": found.roles}
        if isinstance(found, Norm):
            op, numbers = "layer_norm", {found.eps}
            settings["eps"] = found.eps
            if found.together and prod(held.shape) == found.together * found.groups:
                op, settings["groups"] = "group_norm", found.groups
                numbers.add(float(found.groups))
            held = replace(held, numbers=frozenset(numbers))
        inputs = (self.step(found.x),)
        step = CommonStep("", inputs, found.primitives, op, module, op, held, settings)
        return _module_step(step, ((primitive.op, held),))

    def _module(self, held: Held) -> str:
        return " and ".join(sorted({self.modules[name] for name in held.names}))

    def _step_of_module(self, primitive: Primitive, held: Held) -> CommonStep:
        module = self._module(held)
        inputs = self._inputs(primitive)
        if not held.names:  # a norm without a weight and a bias
            return _standardization(inputs[0], primitive.settings, (primitive,))
        first = inputs[0] if len(inputs) == 1 else None
        if first and first.module == module and _continues(first, primitive.op, held):
            return _extend(first, primitive)
        op = MODULE_KINDS.get(primitive.op, "batch_norm")
        settings = dict(primitive.settings)
        what = op + _describe_settings(settings)
        uses = ((primitive.op, held),)
        return _module_step(
            CommonStep("", inputs, (primitive,), op, module, what, held, settings), uses
        )


def _continues(step: CommonStep, op: str, held: Held) -> bool:
    """Whether a primitive with parameters of the same module is a part of the module's step.

    The sum at the end of a batch norm may use the scale again: x scale + (bias - mean scale).
    """
    if step.held is None or (step.op in LINEAR and op != "sum"):
        return False
    new = not held.names & step.held.names
    added = op == "sum" and all(before != "sum" for before, _ in step.uses)
    return new or (step.op in ("batch_norm", "scale") and added and held.names > step.held.names)


def _describe_settings(settings: Mapping[str, Any]) -> str:
    window = settings["window"].describe() if "window" in settings else ""
    window += f" ({settings['moves']})" if "moves" in settings else ""
    window += f", kernel {settings['kernel']}" if "kernel" in settings else ""
    return window + (" (of axes that do not belong together)" if settings.get("crossed") else "")


def _next_function(path: Sequence[Primitive], at: int) -> tuple[int, str | None]:
    """The next position in a path that is recognized as a function of the one `at`, and which.

    The longest wins: relu6 begins with a relu. Without one, the next position: "a x + b" or None,
    for unknown.
    """
    kinds = {to: recognize(path[to], path[at]) for to in range(at + 1, len(path))}
    recognized = [kind for kind in kinds.values() if kind in RECOGNIZED]
    if not recognized:
        return at + 1, kinds[at + 1]
    return next((to, kind) for to, kind in kinds.items() if kind == recognized[-1])


def _function_step(
    kind: str | None,
    x: CommonStep,
    primitives: tuple[Primitive, ...],
    settings: Mapping[str, float],
) -> CommonStep:
    """A function of one value. kind: None if it is not recognized."""
    if kind is None:
        return _unknown_step(primitives[-1].op, (x,), primitives)
    words = kind + "".join(f", {name} {number:.3g}" for name, number in settings.items())
    return CommonStep(words, (x,), primitives, kind, settings=settings)


def _unknown_step(
    name: str, inputs: tuple[CommonStep, ...], primitives: tuple[Primitive, ...]
) -> CommonStep:
    kind = f"{name} (unknown)"
    return CommonStep(kind, inputs, primitives, "unknown", settings={"primitive": name})


def _standardization(
    x: CommonStep, settings: Mapping[str, Any], primitives: tuple[Primitive, ...]
) -> CommonStep:
    """A norm without parameters."""
    eps, groups = settings["eps"], settings.get("groups")
    said = {"eps": eps} | ({"groups": groups} if groups else {})
    kind = f"standardised, eps {eps:.3g}"
    return CommonStep(kind, (x,), primitives, "standardised", settings=said)


def _linear(step: CommonStep, a: float, b: float, primitive: Primitive) -> CommonStep:
    """a x + b of a step, or the step itself if that changes nothing."""
    if np.isclose(a, 1, rtol=1e-6) and abs(b) < 1e-12:
        return step
    slope = "x" if np.isclose(a, 1, rtol=1e-6) else f"{a:.5g} x"
    kind = slope + (f" + {b:.5g}" if abs(b) > 1e-12 else "")
    return CommonStep(kind, (step,), (primitive,), "a x + b", settings={"a": a, "b": b})


def _belong_together(steps: Sequence[CommonStep]) -> bool:
    """Whether these are of one module and of the same inputs, each with parameters of its own."""
    held = [name for step in steps for name in (step.held.names if step.held else ())]
    modules, inputs = {step.module for step in steps}, {step.inputs for step in steps}
    return len(modules) == len(inputs) == 1 and len(set(held)) == len(held)


def _module_step(step: CommonStep, uses: Uses) -> CommonStep:
    """A step of a module, in words, with the roles of its parameters. uses: of its parameters."""
    assert step.held is not None
    leaves = ", ".join(sorted(name.rsplit(".", 1)[-1] for name in step.held.names))
    numbers = "".join(f", {number:.3g}" for number in sorted(step.held.numbers))
    kind = f"{step.module}: {step.what} with {leaves}{numbers}"
    settings, op = dict(step.settings), step.op
    roles = settings.pop("roles", None) or find_roles("batch_norm" if op == "scale" else op, uses)
    if op in ("batch_norm", "scale"):
        whole = any(primitive == "batch_norm" for primitive, _ in uses)
        op = "batch_norm" if whole or "variance" in roles else "scale"
        if op == "batch_norm" and step.held.numbers:
            settings["eps"] = min(step.held.numbers)
    return replace(step, kind=kind, op=op, settings=settings, roles=roles, uses=uses, identity=0)


def _extend(
    step: CommonStep, primitive: Primitive, others: Sequence[CommonStep] = ()
) -> CommonStep:
    """The operation of a module with another primitive, and with other steps of that module."""
    inputs = list(step.inputs)
    inputs += [given for other in others for given in other.inputs if given not in inputs]
    held = [step.held, *(other.held for other in others), primitive.held]
    uses = [*step.uses, *(use for other in others for use in other.uses)]
    if primitive.held is not None:
        uses.append((primitive.op, primitive.held))
    extended = replace(
        step,
        inputs=tuple(inputs),
        primitives=(*step.primitives, primitive),
        held=merge_held([one for one in held if one is not None]),
    )
    return _module_step(extended, tuple(uses))

"""Readings without their names, and blocks written by hand that are nearly one of ours."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from resattn.reading.form import Held, Origin, Primitive
from resattn.reading.reading import Reading
from resattn.reading.steps import CommonStep


def scramble(reading: Reading, seed: int = 0) -> tuple[Reading, dict[str, str]]:
    """The same reading with meaningless names of parameters and modules, and the names before by
    the new ones.
    """
    rng = random.Random(seed)
    names = _new_names(rng, "array", reading.arrays)
    paths = {primitive.origin.module for step in reading.steps for primitive in step.primitives}
    parts = _new_names(rng, "m", {part for path in paths for part in path.split(".") if part})
    renaming = _Renaming(names, parts)
    steps = tuple(map(renaming.step, reading.steps))
    arrays = {names[name]: array for name, array in reading.arrays.items()}
    order = sorted(arrays)
    return (
        replace(reading, title="Scrambled", steps=steps, arrays={n: arrays[n] for n in order}),
        {new: old for old, new in names.items()},
    )


def _new_names(rng: random.Random, stem: str, names: Any) -> dict[str, str]:
    numbers = list(range(len(names)))
    rng.shuffle(numbers)
    return {name: f"{stem}{number}" for name, number in zip(sorted(names), numbers, strict=True)}


class _Renaming:
    """Renames steps and the primitives that they are made of."""

    def __init__(self, names: Mapping[str, str], parts: Mapping[str, str]):
        self.names, self.parts = names, parts
        self.primitives: dict[int, Primitive] = {}
        self.steps: dict[int, CommonStep] = {}

    def held(self, held: Held | None) -> Held | None:
        if held is None:
            return None
        functions = frozenset((self.names[name], function) for name, function in held.functions)
        return replace(
            held, names=frozenset(map(self.names.__getitem__, held.names)), functions=functions
        )

    def primitive(self, primitive: Primitive) -> Primitive:
        found = self.primitives.get(id(primitive))
        if found is None:
            path = primitive.origin.module.split(".")
            module = ".".join(self.parts.get(part, part) for part in path)
            origin = Origin(module, "", "", 0)
            found = replace(primitive, inputs=(), held=self.held(primitive.held), origin=origin)
            self.primitives[id(primitive)] = found
            found.inputs = tuple(map(self.primitive, primitive.inputs))
        return found

    def step(self, step: CommonStep) -> CommonStep:
        found = self.steps.get(id(step))
        if found is None:
            found = replace(
                step,
                kind="",
                inputs=tuple(map(self.step, step.inputs)),
                primitives=tuple(map(self.primitive, step.primitives)),
                module="x" if step.module else "",
                what="",
                held=self.held(step.held),
                roles={role: self.names[name] for role, name in step.roles.items()},
                uses=(),
            )
            self.steps[id(step)] = found
        return found


def without_roles(reading: Reading, op: str) -> Reading:
    """The reading as if nobody knew which parameter of an operation is which."""
    renaming = _Forgetting({name: name for name in reading.arrays}, {})
    renaming.op = op
    return replace(reading, steps=tuple(map(renaming.step, reading.steps)))


class _Forgetting(_Renaming):
    op = ""

    def step(self, step: CommonStep) -> CommonStep:
        known = id(step) in self.steps
        found = super().step(step)
        if not known and step.op == self.op:
            found = replace(found, roles={})
            self.steps[id(step)] = found
        return found


# Blocks written by hand


def make_block_class(torch: Any) -> Callable[..., Any]:
    """A block written by hand in PyTorch; each argument makes it another one in one thing."""
    nn = torch.nn

    class Standardised(nn.Conv2d):
        def forward(self, x: Any) -> Any:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return self._conv_forward(x, weight, self.bias)

    class Gate(nn.Module):
        """Squeeze-and-excitation; kind: what it does otherwise."""

        def __init__(self, channels: int, kind: str):
            super().__init__()
            self.kind, bias = kind, kind != "no bias"
            self.a, self.b = nn.Conv2d(channels, 4, 1, bias=bias), nn.Conv2d(4, channels, 1)
            self.c = nn.Conv2d(channels, channels, 1)

        def forward(self, x: Any) -> Any:
            y = x.amax((2, 3), keepdim=True) if self.kind == "maximum" else x.mean((2, 3), True)
            y = torch.tanh(self.a(y)) if self.kind == "tanh" else torch.relu(self.a(y))
            y = self.c(torch.relu(self.b(y))) if self.kind == "three" else self.b(y)
            return x * torch.sigmoid(y)

    class ByHand(nn.Module):
        def __init__(self, **options: Any):
            super().__init__()
            default = {
                "first": nn.Conv2d, "stride2": 1, "stride": 1, "dilation2": 1, "padding2": None,
                "kernel2": 3, "groups2": 1, "bias2": True, "width": 8, "eps2": 1e-5, "gate": "none",
                "eps1": 1e-5, "shares": False, "relu": torch.relu, "last": torch.relu,
                "affine2": True, "norm2": True,
            }  # fmt: skip
            self.options = o = {**default, **options}
            channels, wide = 6, 6 if o["shares"] else 8
            middle = wide if o["shares"] else o["width"]
            padding = o["kernel2"] // 2 * o["dilation2"] if o["padding2"] is None else o["padding2"]
            self.c1 = o["first"](channels, middle, 3, o["stride"], 1)
            self.n1 = nn.BatchNorm2d(middle, o["eps1"])
            self.c2 = nn.Conv2d(
                middle, wide, o["kernel2"], o["stride2"], padding, o["dilation2"], o["groups2"],
                o["bias2"],
            )  # fmt: skip
            self.n2 = nn.BatchNorm2d(wide, o["eps2"], affine=o["affine2"])
            self.c3, self.n3 = nn.Conv2d(channels, wide, 1, o["stride"]), nn.BatchNorm2d(wide)
            self.gate = Gate(wide, o["gate"])

        def forward(self, x: Any) -> Any:
            o = self.options
            y = self.n1(self.c1(x))
            y = o["relu"](y)
            y = self.c2(y)
            y = self.n2(y) if o["norm2"] else y
            if o["gate"] not in ("none", "late"):
                y = self.gate(y)
            if o.get("between"):
                y = o["between"](y)
            total = y + (x if o["shares"] else self.n3(self.c3(x)))
            if o.get("third"):
                total = total + nn.functional.pad(x, (0, 0, 0, 0, 1, 1))
            return o["last"](total)

    return lambda **options: (
        ByHand(first=Standardised) if options.get("first") == "standardised" else ByHand(**options)
    ).eval()

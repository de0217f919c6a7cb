"""The frameworks as the cross-check sees them: build a model from canonical arrays, run it, hand
back canonical arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from weights import export, schema
from weights.config import Config
from weights.convert import layout, reorder
from weights.frameworks import LAYOUTS
from weights.live import adapter, build, leaves

FRAMEWORKS = tuple(LAYOUTS)
Quantities = dict[str, dict[str, np.ndarray]]


def implementation(framework: str) -> ModuleType:
    """Our package in a framework."""
    return import_module(layout(framework).package)


def native_arguments(framework: str) -> dict[str, Any]:
    """What only this framework's constructors must be given: Flax' source of initial values."""
    return {"rngs": import_module("flax.nnx").Rngs(0)} if framework == "jax" else {}


@dataclass(frozen=True)
class Backend:
    """One framework on one device."""

    framework: str
    device: str

    @property
    def name(self) -> str:
        return f"{self.framework} {self.device}"

    @property
    def adapter(self) -> ModuleType:
        return adapter(self.framework)

    def build(
        self, config: Config, arrays: Mapping[str, np.ndarray], compute: str | None = None
    ) -> Any:
        return build(config, arrays, self.framework, self.device, compute)

    def forward(self, model: Any, x: np.ndarray, *, training: bool) -> np.ndarray:
        return self.adapter.forward(model, x, training=training)

    def gradients(
        self, model: Any, x: np.ndarray, cotangent: np.ndarray, *, training: bool
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Output, and the gradients by canonical name, in canonical layout; "input" is that of the
        input.
        """
        own = layout(self.framework)
        trainable = [parameter for parameter in schema(model.config) if parameter.trainable]
        live = leaves(model)
        named = {own.name(parameter): live[parameter.name] for parameter in trainable}
        y, slope, slopes = self.adapter.gradients(model, named, x, cotangent, training=training)
        canonical = {
            parameter.name: reorder(
                slopes[own.name(parameter)], own.axes(parameter), parameter.axes
            )
            for parameter in trainable
        }
        return y, {"input": slope, **canonical}

    def measure(self, model: Any, x: np.ndarray, cotangent: np.ndarray) -> Quantities:
        """Everything that is compared: both modes, forward and backward, and the statistics after
        one training step.
        """
        held = export(model)
        eval_output, eval_gradient = self.gradients(model, x, cotangent, training=False)
        train_output, train_gradient = self.gradients(model, x, cotangent, training=True)
        after = export(model)
        statistics = {p.name: after[p.name] for p in schema(model.config) if not p.trainable}
        return {
            "weights": held,
            "eval output": {"output": eval_output},
            "eval gradient": eval_gradient,
            "train output": {"output": train_output},
            "train statistics": statistics,
            "train gradient": train_gradient,
        }


def backends(frameworks: tuple[str, ...], devices: tuple[str, ...]) -> list[Backend]:
    """Every framework on every device. Raises MissingFramework, and ValueError for a device that a
    framework lacks.
    """
    for framework in frameworks:
        layout(framework)
    for framework in sorted(frameworks, key=FRAMEWORKS.index):
        adapter(framework)  # imports PyTorch before TensorFlow, whatever the order asked for
    found = []
    for framework in frameworks:
        available = adapter(framework).devices()
        for device in devices:
            if device not in available:
                raise ValueError(
                    f"device {device!r}: {layout(framework).label} sees only "
                    f"{', '.join(available)} here"
                )
            found.append(Backend(framework, device))
    return found


def flags(frameworks: tuple[str, ...], dtype: str) -> list[str]:
    """How each framework is set within `precise`, a line each."""
    lines = []
    for framework in frameworks:
        with precise((framework,), dtype):
            lines.append(f"{framework}, while comparing: {adapter(framework).flags()}")
    return lines


@contextmanager
def precise(frameworks: tuple[str, ...], dtype: str) -> Iterator[None]:
    """Within it, every framework computes in `dtype` and in nothing less."""
    with ExitStack() as stack:
        for framework in frameworks:
            stack.enter_context(adapter(framework).precise(dtype))
        yield

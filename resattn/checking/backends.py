"""The frameworks as the cross-check sees them: build a model from arrays, run it, get arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np

from weights.config import Config
from weights.convert import Arrays
from weights.devices import check_device
from weights.frameworks import FRAMEWORKS, framework_key, framework_named
from weights.language import mark
from weights.live import LiveModel, adapter, build_live

Quantities = dict[str, Arrays]


def implementation(framework: str) -> ModuleType:
    """Our package in a framework."""
    return import_module(framework_named(framework).package)


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
        """A new model. compute: a lower format for mixed precision."""
        return self.build_live(config, arrays, compute).model

    def build_live(
        self, config: Config, arrays: Mapping[str, np.ndarray], compute: str | None = None
    ) -> LiveModel:
        """The same, looked into."""
        return build_live(config, arrays, self.framework, self.device, compute)


def measure(model: object, x: np.ndarray, cotangent: np.ndarray) -> Quantities:
    """Everything of a live model that is compared.

    Output and gradients in both modes, and the statistics after one training step.
    """
    live = model if isinstance(model, LiveModel) else LiveModel.of(model)
    held = live.export()
    eval_output, eval_gradient = live.gradients(x, cotangent, training=False)
    train_output, train_gradient = live.gradients(x, cotangent, training=True)
    return {
        mark("weights"): held,
        mark("eval output"): {"output": eval_output},
        mark("eval gradient"): eval_gradient,
        mark("train output"): {"output": train_output},
        mark("train statistics"): live.statistics(),
        mark("train gradient"): train_gradient,
    }


def backends(frameworks: tuple[str, ...], devices: tuple[str, ...]) -> list[Backend]:
    """Every framework on every device.

    Raises MissingFramework, and ArgumentError for a device that a framework lacks.
    """
    frameworks = tuple(map(framework_key, frameworks))
    for framework in sorted(frameworks, key=tuple(FRAMEWORKS).index):
        adapter(framework)  # imports PyTorch before TensorFlow, whatever the order asked for
    found = []
    for framework in frameworks:
        available = adapter(framework).devices()
        for device in devices:
            check_device(device, available, framework_named(framework).label)
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
    """Within it, every framework computes in `dtype` and in nothing less. dtype: also "tf32", for
    float32 with products in TF32.
    """
    with ExitStack() as stack:
        for framework in frameworks:
            stack.enter_context(adapter(framework).precise(dtype))
        yield

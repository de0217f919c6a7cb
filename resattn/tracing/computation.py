"""What a stage computes, as data, and computing it in float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import erf
from typing import Any

import numpy as np

from resattn.oracle.layers import State, conv2d
from resattn.oracle.node import Array, Node
from resattn.tracing.formats import round_to

Inputs = tuple[Array, ...]

ALL_BUT_CHANNELS = (0, 2, 3)


@dataclass(frozen=True)
class StageSpec:
    """What a stage computes.

    kind: one of `FORMULAS`; those of operations have the name that `weights.graph` gives them.
    parameters: by the last part of their canonical names.
    settings: whatever else the definition needs, and what a cause changes.
    """

    kind: str
    parameters: Mapping[str, Array] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def with_settings(self, **settings: Any) -> StageSpec:
        return replace(self, settings={**self.settings, **settings})

    def with_parameters(self, **parameters: Array) -> StageSpec:
        return replace(self, parameters={**self.parameters, **parameters})

    def __getitem__(self, name: str) -> Any:
        """A setting; None if there is none of that name."""
        return self.settings.get(name)


def compute(spec: StageSpec, inputs: Inputs) -> Array:
    """The output of a stage, in float64.

    Raises KeyError for a kind that is not in `FORMULAS`.
    """
    with np.errstate(all="ignore"):
        y = round_to(FORMULAS[spec.kind](spec, *inputs), spec["output_format"])
    return OUTPUT_LAYOUTS[spec["output_layout"]](y) if spec["output_layout"] else y


# Formulas of the kinds


def _convolve(spec: StageSpec, x: Array) -> Array:
    x, parameters = _lower(spec, _change_image(spec, x))
    margins = [(size, size) for size in spec["padding"]]
    if spec["same"]:
        margins = _same_margins(spec, x.shape)
    x = np.pad(x, ((0, 0), (0, 0), *margins))
    state = State({f"conv.{leaf}": array for leaf, array in parameters.items()}, False)
    y: Array = conv2d(
        state, "conv", Node(x), spec["stride"], (0, 0), spec["dilation"], spec["groups"]
    ).value
    return y


def _same_margins(spec: StageSpec, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """The padding that TensorFlow and JAX call SAME: the least that gives ceil(size / stride); an
    odd pixel goes to the end.
    """
    margins = []
    kernel = spec.parameters["weight"].shape[2:]
    for size, extent, stride in zip(shape[2:], kernel, spec["stride"], strict=True):
        reach = spec["dilation"] * (extent - 1) + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        margins.append((total // 2, total - total // 2))
    return margins


def _multiply(spec: StageSpec, x: Array) -> Array:
    x, parameters = _lower(spec, x)
    y: Array = x @ parameters["weight"].T + parameters["bias"]
    return y


def _normalise_batch(spec: StageSpec, x: Array) -> Array:
    weight, bias, mean, variance = (
        spec.parameters[leaf].reshape(1, -1, 1, 1)
        for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    if spec["training"]:
        mean = x.mean(ALL_BUT_CHANNELS, keepdims=True)
        variance = x.var(ALL_BUT_CHANNELS, keepdims=True, ddof=1 if spec["unbiased"] else 0)
    y: Array = (x - mean) / np.sqrt(variance + spec["eps"]) * weight + bias
    return y


def _normalise_layer(spec: StageSpec, x: Array) -> Array:
    weight, bias = (spec.parameters[leaf].reshape(1, -1, 1, 1) for leaf in ("weight", "bias"))
    mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    y: Array = (x - mean) / np.sqrt(variance + spec["eps"]) * weight + bias
    return y


def _activate(spec: StageSpec, x: Array) -> Array:
    return ACTIVATIONS[spec["activation"] or spec.kind](x)


def _add(spec: StageSpec, *terms: Array) -> Array:
    chosen = spec["terms"] or range(len(terms))
    total: Array = np.sum([terms[index] for index in chosen], axis=0)
    return total


def _move_mean(spec: StageSpec, running: Array, batch: Array, n: Array) -> Array:
    moved: Array = spec["decay"] * running + (1 - spec["decay"]) * batch
    return moved


def _move_variance(spec: StageSpec, running: Array, batch: Array, n: Array) -> Array:
    """batch: the biased variance, of n values a channel."""
    batch = batch if spec["biased"] else batch * n / (n - 1)
    moved: Array = spec["decay"] * running + (1 - spec["decay"]) * batch
    return moved


def _change_image(spec: StageSpec, x: Array) -> Array:
    """The image as a cause changes it: its layout, the order of its channels, scale and offset."""
    if spec["input_layout"]:
        x = INPUT_LAYOUTS[spec["input_layout"]](x)
    if spec["order"]:
        x = x[:, list(spec["order"])]
    if spec["scale"] is not None:
        x = x * np.reshape(spec["scale"], (1, -1, 1, 1)) + np.reshape(spec["offset"], (1, -1, 1, 1))
    return x


def _lower(spec: StageSpec, x: Array) -> tuple[Array, Mapping[str, Array]]:
    """The factors of a product, rounded to the format that a cause sets.

    The bias is not rounded: it is added to the product.
    """
    weight = round_to(spec.parameters["weight"], spec["format"])
    return round_to(x, spec["format"]), {**spec.parameters, "weight": weight}


FORMULAS: dict[str, Callable[..., Array]] = {
    "input": _change_image,
    "convolution": _convolve,
    "linear": _multiply,
    "batch_norm": _normalise_batch,
    "layer_norm": _normalise_layer,
    "relu": _activate,
    "sigmoid": _activate,
    "hard_sigmoid": _activate,
    "hard_swish": _activate,
    "sum": _add,
    "running mean": _move_mean,
    "running variance": _move_variance,
}


# Activations


def _leak(slope: float) -> Callable[[Array], Array]:
    return lambda x: np.where(x > 0, x, slope * x)


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _selu(x: Array) -> Array:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    y: Array = scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y


def _gelu(x: Array) -> Array:
    y: Array = x * (1 + np.vectorize(erf)(x / 2**0.5)) / 2
    return y


def _gelu_tanh(x: Array) -> Array:
    y: Array = x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
    return y


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "identity": lambda x: x,
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky relu 0.01": _leak(0.01),
    "leaky relu 0.1": _leak(0.1),
    "leaky relu 0.2": _leak(0.2),
    "leaky relu 0.3": _leak(0.3),
    "elu": _elu,
    "selu": _selu,
    "gelu (erf)": _gelu,
    "gelu (tanh)": _gelu_tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid (0.2 x + 0.5)": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
}


# Layouts: x is always (batch, channels, height, width)


def _read_last_as_first(x: Array) -> Array:
    """Values in the order (batch, height, width, channels), in the shape of x."""
    return np.moveaxis(x, 1, -1).reshape(x.shape)


def _read_first_as_last(x: Array) -> Array:
    """Values of x read as (batch, height, width, channels), with the channels moved to the
    front.
    """
    batch, channels, *sizes = x.shape
    return np.moveaxis(x.reshape(batch, *sizes, channels), -1, 1)


def _move_channels_last(x: Array) -> Array:
    return np.moveaxis(x, 1, -1)


INPUT_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "last as first": _read_last_as_first,
    "first as last": _read_first_as_last,
}
OUTPUT_LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "last as first": _read_last_as_first,
    "last": _move_channels_last,
}

"""The activations that a model may use, its own and those that it could be confused with."""

from __future__ import annotations

from collections.abc import Callable
from math import erf

import numpy as np

from resattn.oracle.node import Array


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


def _softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


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

# They look at all channels, so they are tried as additions at the end, not in place of others.
ENDINGS: dict[str, Callable[[Array], Array]] = {
    "softmax": _softmax,
    "log softmax": lambda x: np.log(_softmax(x)),
}

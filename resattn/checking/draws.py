"""What is computed with when nothing is given: weights and inputs that expose mistakes.

Gamma is neither 0 nor 1 and of both signs; means, variances and biases are random; inputs have a
mean. Ones and zeros hide errors in padding, transposition and statistics.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from weights import schema
from weights.config import Config
from weights.parameters import Parameter

DRAWS: dict[str, Callable[..., np.ndarray]] = {
    "convolution kernel": lambda rng, shape: rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape),
    "1-d convolution kernel": lambda rng, shape: rng.normal(
        0, (2 / np.prod(shape[1:])) ** 0.5, shape
    ),
    "depthwise kernel": lambda rng, shape: rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape),
    "convolution bias": lambda rng, shape: rng.normal(0, 0.5, shape),
    "linear kernel": lambda rng, shape: rng.normal(0, shape[1] ** -0.5, shape),
    "linear bias": lambda rng, shape: rng.normal(0, 0.5, shape),
    "norm scale": lambda rng, shape: rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape),
    "norm offset": lambda rng, shape: rng.normal(0.2, 0.5, shape),
    "norm mean": lambda rng, shape: rng.normal(0, 0.5, shape),
    "norm variance": lambda rng, shape: rng.uniform(0.5, 2, shape),
    "row offsets": lambda rng, shape: rng.normal(0, 0.5, shape),
    "column offsets": lambda rng, shape: rng.normal(0, 0.5, shape),
}


def random_arrays(config: Config, dtype: str = "float32", seed: int = 0) -> dict[str, np.ndarray]:
    """Canonical arrays for a config, none of them degenerate."""
    rng = np.random.default_rng(seed)

    def drawn(parameter: Parameter) -> np.ndarray:
        if parameter.role in DRAWS:
            return DRAWS[parameter.role](rng, parameter.shape)
        own: np.ndarray = rng.normal(0.2, 0.5, parameter.shape)  # a role of a user's
        return own

    return {parameter.name: drawn(parameter).astype(dtype) for parameter in schema(config)}


def random_input(
    config: Config, size: tuple[int, int], batch: int, dtype: str, seed: int = 0
) -> np.ndarray:
    """An image (batch, channels, height, width) with mean 0.3 and variance 1."""
    rng = np.random.default_rng([seed, 1])
    return rng.normal(0.3, 1, (batch, config.in_channels, *size)).astype(dtype)


def random_cotangent(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Slopes for an output: gradients are those of sum(output * slopes)."""
    return np.random.default_rng([seed, 2]).normal(0, 1, shape).astype(dtype)

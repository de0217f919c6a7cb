"""What is computed with: weights, inputs and configurations that expose mistakes.

Sizes differ on every axis; gamma is neither 0 nor 1 and of both signs; means, variances and biases are random; inputs
have a mean. Ones, zeros and squares hide errors in padding, transposition and statistics.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from weights import BlockConfig, NetworkConfig, schema
from weights.config import Config

DRAWS = {
    "convolution kernel": lambda rng, shape: rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape),
    "convolution bias": lambda rng, shape: rng.normal(0, 0.5, shape),
    "linear kernel": lambda rng, shape: rng.normal(0, shape[1] ** -0.5, shape),
    "linear bias": lambda rng, shape: rng.normal(0, 0.5, shape),
    "norm scale": lambda rng, shape: rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape),
    "norm offset": lambda rng, shape: rng.normal(0.2, 0.5, shape),
    "norm mean": lambda rng, shape: rng.normal(0, 0.5, shape),
    "norm variance": lambda rng, shape: rng.uniform(0.5, 2, shape),
}


def random_arrays(config: Config, dtype: str = "float32", seed: int = 0) -> dict[str, np.ndarray]:
    """Canonical arrays for a config, none of them degenerate."""
    rng = np.random.default_rng(seed)
    return {parameter.name: DRAWS[parameter.role](rng, parameter.shape).astype(dtype) for parameter in schema(config)}


def random_input(config: Config, size: tuple[int, int], batch: int, dtype: str, seed: int = 0) -> np.ndarray:
    """An image (batch, channels, height, width) with mean 0.3 and variance 1."""
    rng = np.random.default_rng([seed, 1])
    return rng.normal(0.3, 1, (batch, config.in_channels, *size)).astype(dtype)


def random_cotangent(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Slopes for an output: gradients are those of sum(output * slopes)."""
    return np.random.default_rng([seed, 2]).normal(0, 1, shape).astype(dtype)


KERNELS = (1, 3, 5, 7, (5, 3))
STRIDES = (1, 2, 3, 4, (2, 1))
CHANNELS = ((5, 5), (3, 6), (6, 4))
SIZES = ((9, 7), (8, 6), (7, 10))

GRID = [
    (BlockConfig(*channels, kernel, stride, attention_options={"hidden_channels": 2}, conv_bias=bias), size)
    for channels, kernel, stride, bias, size in product(CHANNELS, KERNELS, STRIDES, (True, False), SIZES)
]

# Every configuration once, the three sizes taking turns.
SHORT_GRID = [case for number, case in enumerate(GRID) if (number + number // 3) % 3 == 0]

REPRESENTATIVE = [
    (BlockConfig(5, 5), (9, 7)),
    (BlockConfig(5, 5, attention="none", conv_bias=False), (8, 6)),
    (BlockConfig(3, 6, 3, 2, attention_options={"reduction": 3}), (8, 6)),
    (BlockConfig(3, 6, 3, 2, conv_bias=False, attention="none"), (9, 7)),
    (BlockConfig(6, 4, 5, (2, 1), attention_options={"hidden_channels": 3}), (7, 10)),
    (BlockConfig(6, 4, 7, 4), (13, 11)),
    (BlockConfig(4, 7, (5, 3), (1, 3), bn_eps=1e-3, bn_decay=0.99), (7, 10)),
    (BlockConfig(4, 6, 1, 2), (5, 8)),
    (BlockConfig(1, 1, 3, 1), (3, 5)),
]

NETWORKS = [
    (NetworkConfig(1, 5, (4, 6), (1, 2), attention_options={"reduction": 2}, conv_bias=True), (9, 8)),
    (NetworkConfig(3, 4, (4, 5, 6), (1, 1, 1), stem_kernel_size=7, stem_stride=2, stem_pool=True), (38, 29)),
    (NetworkConfig(2, 3, (6,), (2,), attention="none", strides=((2, 1),), stem_channels=3), (7, 6)),
]


def name_of(case: object) -> str:
    """A readable test id for a config or a size."""
    if isinstance(case, BlockConfig):
        kernel, stride = ("x".join(map(str, pair)) for pair in (case.kernel_size, case.stride))
        bias = "bias" if case.conv_bias else "nobias"
        return f"{case.in_channels}to{case.out_channels}-k{kernel}-s{stride}-{case.attention}-{bias}"
    if isinstance(case, NetworkConfig):
        return f"network{len(case.widths)}-{case.attention}" + ("-pool" if case.stem_pool else "")
    return "x".join(map(str, case)) if isinstance(case, tuple) else str(case)

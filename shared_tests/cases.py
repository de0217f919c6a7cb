"""What is computed with: weights, inputs and configurations that expose mistakes.

Sizes differ on every axis; gamma is neither 0 nor 1 and of both signs; means, variances and biases
are random; inputs have a mean. Ones, zeros and squares hide errors in padding, transposition and
statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from weights import BlockConfig, NetworkConfig, schema
from weights.config import Config
from weights.parameters import Parameter

DRAWS = {
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
        return rng.normal(0.2, 0.5, parameter.shape)  # a role of a user's own

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


KERNELS = (1, 3, 5, 7, (5, 3))
STRIDES = (1, 2, 3, 4, (2, 1))
CHANNELS = ((5, 5), (3, 6), (6, 4))
SIZES = ((9, 7), (8, 6), (7, 10))

# Every other one without convolution biases.
GRID = [
    (
        BlockConfig(
            *channels,
            kernel,
            stride,
            attention_options={"hidden_channels": 2},
            conv_bias=number % 2 == 0,
        ),
        size,
    )
    for number, (channels, kernel, stride, size) in enumerate(
        product(CHANNELS, KERNELS, STRIDES, SIZES)
    )
]

# Every configuration once, the three sizes taking turns.
SHORT_GRID = [case for number, case in enumerate(GRID) if (number + number // 3) % 3 == 0]


def user_grid(config: BlockConfig) -> list[tuple[BlockConfig, tuple[int, int]]]:
    """Blocks like `config` of every stride and channels, with image sizes, odd and even, that take
    turns.
    """
    fields = {
        name: value
        for name, value in config.to_dict().items()
        if name not in ("in_channels", "out_channels", "stride")
    }
    if config.has_fixed_size:
        raise ValueError(
            f"attention {config.attention!r} with a size of its own fits one block, not a grid of "
            "them"
        )
    return [
        (BlockConfig(*channels, **{**fields, "stride": stride}), SIZES[number % len(SIZES)])
        for number, (channels, stride) in enumerate(product(((8, 8), (8, 12), (12, 8)), STRIDES))
    ]


SIZED = {"size": None}  # stands for the size of the map that comes out of conv2

# Every kind with its defaults, or as near to them as small channels allow, and with each of its
# options.
ATTENTION = {
    "none": [{}],
    "se": [
        {},
        {"reduction": 2, "gate": "hard_sigmoid"},
        {"reduction": 3, "divisor": 2, "minimum": 3},
    ],
    "ese": [{}, {"gate": "sigmoid"}],
    "eca": [{}, {"kernel_size": 5, "padding": "circular"}, {"gamma": 1, "beta": 2.5}],
    "cbam": [
        {},
        {"hidden_channels": 3, "kernel_size": 3, "bias": False, "bn_eps": 1e-3, "bn_decay": 0.8},
    ],
    "bam": [
        {"hidden_channels": 4},
        {"hidden_channels": 3, "dilation": 2, "fusion": "product", "bn_eps": 1e-3},
    ],
    "scse": [{}, {"reduction": 3, "fusion": "maximum"}],
    "ge": [
        {},
        {"extent": 2},
        {"extent": 3, "mlp": True, "hidden_channels": 4},
        {"gather": "convolution", "extent": 4, "bn_decay": 0.8},
        {"gather": "convolution", "mlp": True, "reduction": 2, **SIZED},
    ],
    "gc": [
        {"hidden_channels": 4},
        {"hidden_channels": 3, "fusion": "both", "ln_eps": 1e-3},
        {"hidden_channels": 4, "fusion": "scale", "pooling": "average"},
    ],
    "simam": [{}, {"e_lambda": 0.1}],
    "coordinate": [{}, {"hidden_channels": 3, "bn_eps": 1e-3}],
    "triplet": [{}, {"spatial": False, "kernel_size": 3, "bn_decay": 0.8}],
    "nonlocal": [{}, {"subsample": True, "scale": True, "hidden_channels": 4, "bn_eps": 1e-3}],
    "mhsa": [{"heads": 1, **SIZED}, {"heads": 2, "bias": True, "scale_positions": False, **SIZED}],
}


def attention_block(
    kind: str,
    options: Mapping[str, Any],
    channels: tuple[int, int] = (4, 6),
    stride: int | tuple[int, int] = 2,
    size: tuple[int, int] = (9, 8),
) -> BlockConfig:
    """A block with that kind, a 3x3 kernel, for images of that size."""
    steps = BlockConfig(*channels, stride=stride).stride
    rows, cols = (-(-side // step) for side, step in zip(size, steps, strict=True))
    given = {name: (rows, cols) if name == "size" else value for name, value in options.items()}
    return BlockConfig(*channels, stride=stride, attention=kind, attention_options=given)


# Every kind with defaults and every stride, the channels and sizes taking turns; channels as few as
# 1 and fewer than any reduction leave.
ATTENTION_CHANNELS = ((5, 5), (3, 6), (6, 4), (2, 1), (1, 24))
ATTENTION_GRID = [
    (attention_block(kind, variants[0], channels, stride, size), size)
    for kind, variants in ATTENTION.items()
    for row, channels in enumerate(ATTENTION_CHANNELS)
    for column, stride in enumerate(STRIDES)
    for size in [((9, 7), (8, 6), (11, 10))[(row + column) % 3]]
    if kind not in ("none", "se")
]

# Every kind with every one of its options.
ATTENTION_VARIANTS = [
    (attention_block(kind, options), (9, 8))
    for kind, variants in ATTENTION.items()
    for options in variants
]

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
    (
        NetworkConfig(1, 5, (4, 6), (1, 2), attention_options={"reduction": 2}, conv_bias=True),
        (9, 8),
    ),
    (
        NetworkConfig(
            3, 4, (4, 5, 6), (1, 1, 1), stem_kernel_size=7, stem_stride=2, stem_pool=True
        ),
        (38, 29),
    ),
    (NetworkConfig(2, 3, (6,), (2,), attention="none", strides=((2, 1),), stem_channels=3), (7, 6)),
    (
        NetworkConfig(
            2,
            3,
            (4, 6),
            (1, 1),
            attention=("eca", "mhsa"),
            attention_options=(None, {"size": (5, 4), "heads": 2}),
        ),
        (9, 8),
    ),
]


def name_of(case: object) -> str:
    """A readable test id for a config or a size."""
    if isinstance(case, BlockConfig):
        kernel, stride = ("x".join(map(str, pair)) for pair in (case.kernel_size, case.stride))
        bias = "bias" if case.conv_bias else "nobias"
        options = "".join(
            f"-{name}={value}".replace(" ", "") for name, value in case.attention_options.items()
        )
        return f"{case.in_channels}to{case.out_channels}-k{kernel}-s{stride}-{case.attention}{options}-{bias}"
    if isinstance(case, NetworkConfig):
        kinds = case.attention if isinstance(case.attention, str) else "-".join(case.attention)
        return f"network{len(case.widths)}-{kinds}" + ("-pool" if case.stem_pool else "")
    return "x".join(map(str, case)) if isinstance(case, tuple) else str(case)

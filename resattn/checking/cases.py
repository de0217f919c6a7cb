"""Configurations that expose mistakes: every attention kind with its options, every stride.

Sizes differ on every axis: squares hide errors in padding and transposition.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

from weights import BlockConfig
from weights.errors import ArgumentError

STRIDES = (1, 2, 3, 4, (2, 1))


SIZES = ((9, 7), (8, 6), (7, 10))

SIZED = {"size": None}  # stands for the size of the map that comes out of conv2


# Every kind with its defaults, or as near to them as small channels allow, and with each of its
# options.
KINDS_AND_OPTIONS: dict[str, list[dict[str, Any]]] = {
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
        {"kernel_size": 3, "folded": True},
        {"hidden_channels": 3, "kernel_size": 3, "bias": False, "bn_eps": 1e-3, "bn_decay": 0.8},
    ],
    "bam": [
        {"hidden_channels": 4},
        {"hidden_channels": 4, "folded": True},
        {"hidden_channels": 3, "dilation": 2, "fusion": "product", "bn_eps": 1e-3},
    ],
    "scse": [{}, {"reduction": 3, "fusion": "maximum"}],
    "ge": [
        {},
        {"extent": 2},
        {"extent": 3, "mlp": True, "hidden_channels": 4},
        {"gather": "convolution", "extent": 4, "bn_decay": 0.8},
        {"gather": "convolution", "extent": 2, "folded": True},
        {"gather": "convolution", "mlp": True, "reduction": 2, **SIZED},
    ],
    "gc": [
        {"hidden_channels": 4},
        {"hidden_channels": 3, "fusion": "both", "ln_eps": 1e-3},
        {"hidden_channels": 4, "fusion": "scale", "pooling": "average"},
    ],
    "simam": [{}, {"e_lambda": 0.1}],
    "coordinate": [{}, {"folded": True}, {"hidden_channels": 3, "bn_eps": 1e-3}],
    "triplet": [{}, {"folded": True}, {"spatial": False, "kernel_size": 3, "bn_decay": 0.8}],
    "nonlocal": [
        {},
        {"folded": True},
        {"subsample": True, "scale": True, "hidden_channels": 4, "bn_eps": 1e-3},
    ],
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
        raise ArgumentError(
            f"attention {config.attention!r} with a size of its own fits one block, not a grid of "
            "them"
        )
    return [
        (BlockConfig(*channels, **{**fields, "stride": stride}), SIZES[number % len(SIZES)])
        for number, (channels, stride) in enumerate(product(((8, 8), (8, 12), (12, 8)), STRIDES))
    ]

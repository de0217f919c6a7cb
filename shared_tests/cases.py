"""The configurations that the tests share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from resattn.checking.cases import KINDS_AND_OPTIONS, SIZES, STRIDES, attention_block
from weights import BlockConfig, NetworkConfig
from weights.stages import stage

KERNELS = (1, 3, 5, 7, (5, 3))
CHANNELS = ((5, 5), (3, 6), (6, 4))

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


# Every kind with defaults and every stride, the channels and sizes taking turns; channels as few as
# 1 and fewer than any reduction leave.
ATTENTION_CHANNELS = ((5, 5), (3, 6), (6, 4), (2, 1), (1, 24))
ATTENTION_GRID = [
    (attention_block(kind, variants[0], channels, stride, size), size)
    for kind, variants in KINDS_AND_OPTIONS.items()
    for row, channels in enumerate(ATTENTION_CHANNELS)
    for column, stride in enumerate(STRIDES)
    for size in [((9, 7), (8, 6), (11, 10))[(row + column) % 3]]
    if kind not in ("none", "se")
]

# Every kind with every one of its options.
ATTENTION_VARIANTS = [
    (attention_block(kind, options), (9, 8))
    for kind, variants in KINDS_AND_OPTIONS.items()
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


def marked_like(original: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the original's name, and a stage if the original is one."""

    def replacement(*arguments: Any) -> Any:
        return function(*arguments)

    replacement.__name__ = original.__name__
    if not hasattr(original, "__prepare_scriptable__"):
        return replacement
    return stage(is_map=original.__name__ != "softmax")(replacement)


def _name_options(case: BlockConfig | NetworkConfig) -> str:
    """The options of published networks, where they are not their defaults."""
    names = list(case.to_dict())
    extra = names[names.index("bn_decay") + 1 :]
    values = (getattr(case, name) for name in extra)
    found = [f"{name}={value}".replace(" ", "") for name, value in zip(extra, values, strict=True)]
    return "".join(f"-{each}" for each in found)


def name_of(case: object) -> str:
    """A readable test id for a config or a size."""
    if isinstance(case, BlockConfig):
        kernel, stride = ("x".join(map(str, pair)) for pair in (case.kernel_size, case.stride))
        bias = "bias" if case.conv_bias else "nobias"
        options = "".join(
            f"-{name}={value}".replace(" ", "") for name, value in case.attention_options.items()
        )
        block = f"{case.in_channels}to{case.out_channels}-k{kernel}-s{stride}"
        return f"{block}-{case.attention}{options}-{bias}{_name_options(case)}"
    if isinstance(case, NetworkConfig):
        kinds = case.attention if isinstance(case.attention, str) else "-".join(case.attention)
        pool = "-pool" if case.stem_pool else ""
        return f"network{len(case.widths)}-{kinds}{pool}{_name_options(case)}"
    return "x".join(map(str, case)) if isinstance(case, tuple) else str(case)

"""What an attention module costs: numbers to keep, and multiply-adds for one image."""

from collections.abc import Callable, Mapping
from math import ceil, prod
from typing import Any

from weights.attention import ATTENTION, attention_parameters
from weights.checks import Pair

# At how many places each kernel is used; 1, behind a global pooling, if it is not named. And the multiply-adds of products
# of two activations.
Uses = tuple[dict[str, int], int]
Count = Callable[[int, Pair, Mapping[str, int], Mapping[str, Any]], Uses]


def _gathered(size: Pair, options: Mapping[str, Any]) -> dict[str, int]:
    """The convolutions of a gather halve the map again and again; the layers behind it see what it gave."""
    places, (rows, cols) = {}, size
    extent = options["extent"]
    if extent is None:
        rows = cols = 1
    elif options["gather"] == "average":
        rows, cols = ceil(rows / extent), ceil(cols / extent)
    else:
        for step in range(1, extent.bit_length()):
            rows, cols = ceil(rows / 2), ceil(cols / 2)
            places[f"gather.conv{step}"] = rows * cols
    return {**places, "mlp.fc1": rows * cols, "mlp.fc2": rows * cols}


def _non_local(size: Pair, hidden: int, subsample: bool) -> Uses:
    n = size[0] * size[1]
    keys = (size[0] // 2) * (size[1] // 2) if subsample else n
    return dict.fromkeys(("theta", "phi", "g", "conv_out"), n), 2 * n * keys * hidden


_USES: dict[str, Count] = {
    "none": lambda channels, size, widths, options: ({}, 0),
    "se": lambda channels, size, widths, options: ({}, 0),
    "ese": lambda channels, size, widths, options: ({}, 0),
    "eca": lambda channels, size, widths, options: ({"conv": channels}, 0),
    "cbam": lambda channels, size, widths, options: (
        {"channel.fc1": 2, "channel.fc2": 2, "spatial.conv": prod(size)},
        0,
    ),
    "bam": lambda channels, size, widths, options: (
        {name: prod(size) for name in widths if name.startswith("spatial_att")},
        0,
    ),
    "scse": lambda channels, size, widths, options: ({"sSE.conv": prod(size)}, 0),
    "ge": lambda channels, size, widths, options: (_gathered(size, options), 0),
    "gc": lambda channels, size, widths, options: (
        {"conv_attn": prod(size)},
        channels * prod(size) if options["pooling"] == "attention" else 0,
    ),
    "simam": lambda channels, size, widths, options: ({}, 0),
    "coordinate": lambda channels, size, widths, options: ({"conv1": sum(size), "conv_h": size[0], "conv_w": size[1]}, 0),
    "triplet": lambda channels, size, widths, options: (
        {"cw.conv": channels * size[1], "hc.conv": channels * size[0], "hw.conv": prod(size)},
        0,
    ),
    "nonlocal": lambda channels, size, widths, options: _non_local(size, widths["theta"], options["subsample"]),
    "mhsa": lambda channels, size, widths, options: (
        {"qkv": prod(size)},
        2 * prod(size) ** 2 * channels + prod(size) * sum(size) * channels,
    ),
}


def parameter_count(kind: str, channels: int, options: Mapping[str, Any]) -> int:
    """How many numbers are trained. Raises what `attention_parameters` raises."""
    return sum(prod(p.shape) for p in attention_parameters(kind, channels, options) if p.trainable)


def multiply_adds(kind: str, channels: int, size: Pair, options: Mapping[str, Any]) -> int | None:
    """Of the convolutions, linear layers and matrix products for one map of `size` (height, width); None if nobody has said.

    Not counted, as is usual: pooling, activations, normalization, and the products with gates.
    Raises what `attention_parameters` raises.
    """
    parameters = attention_parameters(kind, channels, options)
    if kind not in _USES:
        return None
    kernels = {p.module: p for p in parameters if p.role.endswith("kernel")}
    widths = {module: p.shape[0] for module, p in kernels.items()}
    places, products = _USES[kind](channels, size, widths, {**ATTENTION[kind].options, **options})
    return sum(prod(p.shape) * places.get(module, 1) for module, p in kernels.items()) + products

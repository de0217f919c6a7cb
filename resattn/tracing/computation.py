"""What a stage computes, as data, and computing it: in float64, or in the dtype of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.activations import ACTIVATIONS, ENDINGS
from resattn.tracing.formats import round_to
from resattn.tracing.layouts import INPUT_LAYOUTS, OUTPUT_LAYOUTS
from weights.checks import Pair
from weights.operations import same_padding

Inputs = tuple[Array, ...]

ALL_BUT_CHANNELS = (0, 2, 3)
POSITION_AXES = (2, 3)
Margins = tuple[tuple[int, int], tuple[int, int]]  # before and after, of rows and columns


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
    """The output of a stage.

    Raises KeyError for a kind that is not in `FORMULAS`.
    """
    with np.errstate(all="ignore"):
        y = round_to(FORMULAS[spec.kind](spec, *inputs), spec["output_format"])
        if spec["again"]:
            y = FORMULAS[spec.kind](spec, y)
    return OUTPUT_LAYOUTS[spec["output_layout"]](y) if spec["output_layout"] else y


# Convolutions and products


def _convolve(spec: StageSpec, x: Array) -> Array:
    y: Array
    x, parameters = _lower(spec, _change_image(spec, x))
    weight, stride = parameters["weight"], spec["stride"]
    if spec["pool_before"]:
        pooling = {"average": "present", "maximum": None}.get(spec["pool_before"], "counting")
        window = {"kernel": stride, "stride": stride, "padding": (0, 0), "ceil": True}
        x, stride = _pool(StageSpec("max_pool", {}, {**window, "pooling": pooling}), x), (1, 1)
    if spec["first_pixel"]:
        top, left = spec["first_pixel"]
        x = x[:, :, top:, left:]
    margins = find_margins(spec, x.shape, weight.shape[2:])
    if any(size for pair in margins for size in pair):
        x = np.pad(x, ((0, 0), (0, 0), *margins), mode=spec["padding_mode"] or "constant")
    if spec["group_order"] is not None:
        x = x[:, spec["group_order"]]
    y = _correlate(x, weight, stride, spec["dilation"] or 1, spec["groups"] or 1)
    bias: Array | None = parameters.get("bias")
    if bias is not None:
        y = y + bias.reshape(-1, 1, 1)
    return y


def _correlate(x: Array, weight: Array, stride: Pair, apart: int, groups: int) -> Array:
    """The cross-correlation without padding. Rows of the matrix are runs of pixels, which NumPy
    copies faster than the patches of the oracle.
    """
    rows, cols = weight.shape[2:]
    if (rows, cols) == (1, 1):
        views = x[:, :, :: stride[0], :: stride[1], None, None]
        return _multiply_patches(views, weight, groups)
    reach = (apart * (rows - 1) + 1, apart * (cols - 1) + 1)
    views = np.lib.stride_tricks.sliding_window_view(x, reach, axis=POSITION_AXES)
    return _multiply_patches(
        views[:, :, :: stride[0], :: stride[1], ::apart, ::apart], weight, groups
    )


def _multiply_patches(views: Array, weight: Array, groups: int) -> Array:
    """views: (batch, channels, row, col, row under the kernel, col under the kernel)."""
    outputs, each, rows, cols = weight.shape
    batch, _, height, width = views.shape[:4]
    patches = views.transpose(0, 1, 4, 5, 2, 3).reshape(
        batch, groups, each * rows * cols, height * width
    )
    kernel = weight.reshape(groups, outputs // groups, -1)
    if groups == 1 and height * width < 64:  # one large product instead of one for each image
        flat = patches[:, 0].transpose(1, 0, 2).reshape(patches.shape[2], -1)
        y: Array = (kernel[0] @ flat).reshape(outputs, batch, height, width).swapaxes(0, 1)
    else:
        y = (kernel @ patches).reshape(batch, outputs, height, width)
    return y


def find_margins(spec: StageSpec, shape: tuple[int, ...], kernel: tuple[int, ...]) -> Margins:
    """The padding of a convolution or a pooling: as set, or by TensorFlow's rule SAME."""
    if spec["margins"]:
        margins: Margins = spec["margins"]
        return margins
    if not spec["same"]:
        (top, left) = spec["padding"] or (0, 0)
        bottom, right = spec["after"] or (top, left)
        return ((top, bottom), (left, right))
    rows, cols = (
        same_padding(size, (spec["dilation"] or 1) * (extent - 1) + 1, stride)
        for size, extent, stride in zip(shape[2:], kernel, spec["stride"], strict=True)
    )
    return (rows, cols)


def _multiply(spec: StageSpec, x: Array) -> Array:
    x, parameters = _lower(spec, x.reshape(len(x), -1))
    y: Array = x @ parameters["weight"].T + parameters["bias"]
    return y


def _lower(spec: StageSpec, x: Array) -> tuple[Array, Mapping[str, Array]]:
    """The factors of a product, rounded to the format that a cause sets.

    The bias is not rounded: it is added to the product.
    """
    weight = round_to(spec.parameters["weight"], spec["format"])
    return round_to(x, spec["format"]), {**spec.parameters, "weight": weight}


# Norms


def _normalise_batch(spec: StageSpec, x: Array) -> Array:
    mean, variance = (
        spec.parameters[leaf].reshape(1, -1, 1, 1) for leaf in ("running_mean", "running_var")
    )
    if spec["norm"] == "identity":
        return x
    if spec["norm"]:
        centred, variance = _measure_groups(x, spec["norm"])
    else:
        if spec["training"]:
            mean = x.mean(ALL_BUT_CHANNELS, keepdims=True)
            variance = x.var(ALL_BUT_CHANNELS, keepdims=True, ddof=1 if spec["unbiased"] else 0)
        centred = x - mean
    return _standardise(spec, centred, variance)


def _standardise(spec: StageSpec, centred: Array, variance: Array) -> Array:
    weight, bias = (spec.parameters[leaf].reshape(1, -1, 1, 1) for leaf in ("weight", "bias"))
    if spec["eps_outside"]:
        deviation = np.sqrt(variance) + spec["eps"]
    else:
        deviation = np.sqrt(variance + spec["eps"])
    y: Array = centred / deviation * weight + bias
    return y


def _measure_groups(x: Array, groups: int | str) -> Inputs:
    """x minus its mean, and the variance, by image over groups of channels; of "position" over the
    channels of each position.
    """
    if groups == "batch":
        axes = ALL_BUT_CHANNELS
        return x - x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    if groups == "position":
        return x - x.mean(1, keepdims=True), x.var(1, keepdims=True)
    count = x.shape[1] if groups == "instance" else int(groups)
    split = x.reshape(len(x), count, -1)
    centred = (split - split.mean(2, keepdims=True)).reshape(x.shape)
    variance = split.var(2).repeat(x.shape[1] // count, axis=1)
    return centred, variance[:, :, None, None]


def _normalise_layer(spec: StageSpec, x: Array) -> Array:
    if spec["norm"] == "identity":
        return x
    return _standardise(spec, *_measure_groups(x, "position"))


def _normalise_group(spec: StageSpec, x: Array) -> Array:
    if spec["norm"] == "identity":
        return x
    return _standardise(spec, *_measure_groups(x, spec["norm"] or spec["groups"]))


def _move_mean(spec: StageSpec, running: Array, batch: Array, n: Array) -> Array:
    moved: Array = spec["decay"] * running + (1 - spec["decay"]) * batch
    return moved


def _move_variance(spec: StageSpec, running: Array, batch: Array, n: Array) -> Array:
    """batch: the biased variance, of n values a channel."""
    batch = batch if spec["biased"] else batch * n / (n - 1)
    moved: Array = spec["decay"] * running + (1 - spec["decay"]) * batch
    return moved


# Value by value


def _activate(spec: StageSpec, x: Array) -> Array:
    if spec["slope"] is not None:
        return np.where(x > 0, x, spec["slope"] * x)
    return {**ACTIVATIONS, **ENDINGS}[spec["activation"] or spec.kind](x)


def _add(spec: StageSpec, *terms: Array) -> Array:
    factors = spec["factors"] or (1,) * len(terms)
    total: Array = sum(factor * term for factor, term in zip(factors, terms, strict=True) if factor)
    return np.broadcast_to(total, np.broadcast_shapes(*(term.shape for term in terms)))


def _gate(spec: StageSpec, x: Array, gate: Array) -> Array:
    y = PRODUCTS_OF_TWO[spec["formula"] or "x g"](x, gate)
    return y if spec["factor"] is None else y * spec["factor"]


PRODUCTS_OF_TWO: dict[str, Callable[[Array, Array], Array]] = {
    "x g": lambda x, g: x * g,
    "x (1 + g)": lambda x, g: x * (1 + g),
    "x + g": lambda x, g: x + g,
    "2 x g": lambda x, g: 2 * x * g,
    "x": lambda x, g: x,
    "g": lambda x, g: np.broadcast_to(g, np.broadcast_shapes(x.shape, g.shape)),
    "x g g": lambda x, g: x * g * g,
    "x (1 - g)": lambda x, g: x * (1 - g),
}


# Pooling


def _pool(spec: StageSpec, x: Array) -> Array:
    kernel, stride = spec["kernel"], spec["stride"]
    margins = list(find_margins(spec, x.shape, kernel))
    if spec["ceil"]:
        margins = [
            (first, last + step - 1) for (first, last), step in zip(margins, stride, strict=True)
        ]
    widths = ((0, 0), (0, 0), *margins)

    def windows(values: Array, outside: float) -> Array:
        padded = np.pad(values, widths, constant_values=outside)
        views = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=POSITION_AXES)
        return views[:, :, :: stride[0], :: stride[1]]

    if spec["pooling"] in (None, "maximum"):
        y: Array = windows(x, -np.inf).max(axis=(4, 5))
    else:
        count = windows(np.ones_like(x[:1, :1]), 1 if spec["pooling"] == "counting" else 0)
        y = windows(x, 0).sum(axis=(4, 5)) / count.sum(axis=(4, 5))
    return y


def _pool_average(spec: StageSpec, x: Array) -> Array:
    return _pool(spec if spec["pooling"] else spec.with_settings(pooling="present"), x)


def _blur(spec: StageSpec, x: Array) -> Array:
    """A 3x3 filter over the map, which is reflected at its edges unless a cause says otherwise."""
    step, leap = spec["stride"]
    row = np.asarray(spec["filter"] or (1, 2, 1), x.dtype)
    row = row / row.sum()
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode=spec["padding_mode"] or "reflect")
    _, _, rows, cols = x.shape
    down = sum(weight * wide[:, :, u : u + rows] for u, weight in enumerate(row))
    y: Array = sum(weight * down[..., v : v + cols] for v, weight in enumerate(row))
    return y[:, :, ::step, ::leap]


def _pad(spec: StageSpec, x: Array) -> Array:
    (top, left), (bottom, right) = spec["before"], spec["after"]
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))


def _subsample(spec: StageSpec, x: Array) -> Array:
    """Every stride-th pixel, or the mean of as many, and channels of zeros."""
    step, leap = spec["stride"]
    if spec["mean"]:
        window = {"kernel": (step, leap), "stride": (step, leap), "padding": (0, 0), "ceil": True}
        kept = _pool(StageSpec("average_pool", {}, {**window, "pooling": "present"}), x)
    else:
        top, left = spec["first_pixel"] or (0, 0)
        kept = x[:, :, top::step, left::leap]
    return np.pad(kept, ((0, 0), (spec["before"], spec["after"]), (0, 0), (0, 0)))


def _reduce(spec: StageSpec, x: Array) -> Array:
    axes = tuple(("channels", "rows", "cols").index(axis) + 1 for axis in spec["axes"])
    reduced: Array = REDUCE[spec["reduction"] or spec.kind](x, axes)
    return reduced


REDUCE: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "average": lambda x, axes: x.mean(axes, keepdims=True),
    "maximum": lambda x, axes: x.max(axes, keepdims=True),
    "sum": lambda x, axes: x.sum(axes, keepdims=True),
    "deviation": lambda x, axes: x.std(axes, keepdims=True),
    "average and maximum": lambda x, axes: x.mean(axes, keepdims=True) + x.max(axes, keepdims=True),
    "middle": lambda x, axes: (x.mean(axes, keepdims=True) + x.max(axes, keepdims=True)) / 2,
}


def _pad_channels(spec: StageSpec, x: Array) -> Array:
    """Every stride-th pixel, and zeros for the channels that x does not have."""
    step, leap = spec["stride"]
    missing = spec["channels"] - x.shape[1]
    front = missing // 2 if spec["centred"] else 0
    return np.pad(x[:, :, ::step, ::leap], ((0, 0), (front, missing - front), (0, 0), (0, 0)))


# The image


def _change_image(spec: StageSpec, x: Array) -> Array:
    """The image as a cause changes it: its layout, the order of its channels, scale and offset."""
    if spec["input_layout"]:
        x = INPUT_LAYOUTS[spec["input_layout"]](x)
    if spec["order"] is not None:
        x = x[:, list(spec["order"])]
    if spec["scale"] is not None:
        scale, offset = (
            np.reshape(spec[name], (1, -1, 1, 1)).astype(x.dtype) for name in ("scale", "offset")
        )
        x = x * scale + offset
    return x


FORMULAS: dict[str, Callable[..., Array]] = {
    "input": _change_image,
    "convolution": _convolve,
    "linear": _multiply,
    "pad": _pad,
    "flatten": lambda spec, x: x.reshape(len(x), -1),
    "batch_norm": _normalise_batch,
    "group_norm": _normalise_group,
    "layer_norm": _normalise_layer,
    "relu": _activate,
    "sigmoid": _activate,
    "hard_sigmoid": _activate,
    "hard_swish": _activate,
    "sum": _add,
    "product": _gate,
    "max_pool": _pool,
    "average_pool": _pool_average,
    "blur_pool": _blur,
    "subsample": _subsample,
    "average": _reduce,
    "maximum": _reduce,
    "padded channels": _pad_channels,
    "running mean": _move_mean,
    "running variance": _move_variance,
}

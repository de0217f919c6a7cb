"""What is likely to be wrong with a stage: each known cause is a change of what the stage computes,
to be tried on it.

A `Step` is what a stage computes, as data; `compute` computes it in float64; a `Cause` makes other
steps of one. A cause explains a difference if its step, given what the stage was given, computes
what came out. Causes are tried, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import permutations
from math import erf
from typing import Any

import numpy as np

from resattn.oracle.layers import State, conv2d
from resattn.oracle.node import Node

Array = np.ndarray
Inputs = tuple[Array, ...]
Variants = Iterable[tuple[str, "Step"]]

ALL_BUT_CHANNELS = (0, 2, 3)


@dataclass(frozen=True)
class Step:
    """What a stage computes. kind: as the oracle's stages have it. parameters: by the last part of
    their canonical names.

    settings: what the definition needs besides, and what a cause puts there.
    """

    kind: str
    parameters: Mapping[str, Array] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def having(self, **settings: Any) -> Step:
        return replace(self, settings={**self.settings, **settings})

    def holding(self, **parameters: Array) -> Step:
        return replace(self, parameters={**self.parameters, **parameters})

    def __getitem__(self, name: str) -> Any:
        """A setting, None if there is none of that name."""
        return self.settings.get(name)


# What steps compute


def compute(step: Step, inputs: Inputs) -> Array:
    """The output of a step, in float64. Raises KeyError for a kind that cannot be computed by
    itself.
    """
    with np.errstate(all="ignore"):
        y = rounded(KINDS[step.kind](step, *inputs), step["output_format"])
    return OUTPUT_LAYOUTS[step["output_layout"]](y) if step["output_layout"] else y


def _convolution(step: Step, x: Array) -> Array:
    x, parameters = _lowered(step, _prepared(step, x))
    margins = (
        _same_margins(step, x.shape) if step["same"] else [(size, size) for size in step["padding"]]
    )
    x = np.pad(x, ((0, 0), (0, 0), *margins))
    state = State({f"conv.{leaf}": array for leaf, array in parameters.items()}, False)
    return conv2d(
        state, "conv", Node(x), step["stride"], (0, 0), step["dilation"], step["groups"]
    ).value


def _same_margins(step: Step, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """What TensorFlow and JAX call SAME: as little as gives ceil(size / stride), the odd one
    behind.
    """
    margins = []
    kernel = step.parameters["weight"].shape[2:]
    for size, reach, stride in zip(shape[2:], kernel, step["stride"], strict=True):
        total = max(
            (-(-size // stride) - 1) * stride + step["dilation"] * (reach - 1) + 1 - size, 0
        )
        margins.append((total // 2, total - total // 2))
    return margins


def _linear(step: Step, x: Array) -> Array:
    x, parameters = _lowered(step, x)
    return x @ parameters["weight"].T + parameters["bias"]


def _batch_norm(step: Step, x: Array) -> Array:
    weight, bias, mean, variance = (
        step.parameters[leaf].reshape(1, -1, 1, 1)
        for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    if step["training"]:
        mean = x.mean(ALL_BUT_CHANNELS, keepdims=True)
        variance = x.var(ALL_BUT_CHANNELS, keepdims=True, ddof=1 if step["unbiased"] else 0)
    return (x - mean) / np.sqrt(variance + step["eps"]) * weight + bias


def _layer_norm(step: Step, x: Array) -> Array:
    weight, bias = (step.parameters[leaf].reshape(1, -1, 1, 1) for leaf in ("weight", "bias"))
    mean, variance = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    return (x - mean) / np.sqrt(variance + step["eps"]) * weight + bias


def _activation(step: Step, x: Array) -> Array:
    return ACTIVATIONS[step["activation"] or step.kind](x)


def _sum(step: Step, *terms: Array) -> Array:
    chosen = step["terms"] or range(len(terms))
    return np.sum([terms[index] for index in chosen], axis=0)


def _image(step: Step, x: Array) -> Array:
    return _prepared(step, x)


def _running_mean(step: Step, running: Array, batch: Array, n: Array) -> Array:
    return step["decay"] * running + (1 - step["decay"]) * batch


def _running_variance(step: Step, running: Array, batch: Array, n: Array) -> Array:
    """batch: the biased variance, of n values a channel."""
    batch = batch if step["biased"] else batch * n / (n - 1)
    return step["decay"] * running + (1 - step["decay"]) * batch


KINDS: dict[str, Callable[..., Array]] = {
    "input": _image,
    "convolution": _convolution,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "relu": _activation,
    "sigmoid": _activation,
    "hard_sigmoid": _activation,
    "hard_swish": _activation,
    "sum": _sum,
    "running mean": _running_mean,
    "running variance": _running_variance,
}

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "identity": lambda x: x,
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky relu 0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "leaky relu 0.1": lambda x: np.where(x > 0, x, 0.1 * x),
    "leaky relu 0.2": lambda x: np.where(x > 0, x, 0.2 * x),
    "leaky relu 0.3": lambda x: np.where(x > 0, x, 0.3 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: (
        1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "gelu (erf)": lambda x: x * (1 + np.vectorize(erf)(x / 2**0.5)) / 2,
    "gelu (tanh)": lambda x: x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_sigmoid (0.2 x + 0.5)": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
}


def channels_last_read_as_first(x: Array) -> Array:
    """The values in the order (batch, height, width, channels), in the shape that they have
    channels first.
    """
    return np.moveaxis(x, 1, -1).reshape(x.shape)


def channels_first_read_as_last(x: Array) -> Array:
    """The values in the order (batch, channels, height, width), taken for (batch, height, width,
    channels) and turned.
    """
    batch, channels, *sizes = x.shape
    return np.moveaxis(x.reshape(batch, *sizes, channels), -1, 1)


LAYOUTS = {
    "(height, width, channels) values read as (channels, height, width)": channels_last_read_as_first,
    "(channels, height, width) values read as (height, width, channels)": channels_first_read_as_last,
}


OUTPUT_LAYOUTS = {
    "(height, width, channels) values read as (channels, height, width)": channels_last_read_as_first,
    "axes (batch, height, width, channels) taken for (batch, channels, height, width)": lambda x: (
        np.moveaxis(x, 1, -1)
    ),
}


def _prepared(step: Step, x: Array) -> Array:
    """The image as a cause has it: turned, its channels in another order, scaled and shifted."""
    if step["input_layout"]:
        x = LAYOUTS[step["input_layout"]](x)
    if step["order"]:
        x = x[:, list(step["order"])]
    if step["scale"] is not None:
        x = x * np.reshape(step["scale"], (1, -1, 1, 1)) + np.reshape(step["offset"], (1, -1, 1, 1))
    return x


# Number formats: how many bits of a float32's mantissa are dropped, and whether to nearest (ties to
# even) or towards zero.
DROPPED = {"TF32": (13, True), "TF32, truncated": (13, False), "bfloat16": (16, True)}
SINGLE = 2e-6  # how far float32 may be: the cross-check's tolerance
# The unit in the last place of outputs, relative.
RESOLUTION = {"bfloat16": 2.0**-7, "float16": 2.0**-10}


def rounded(x: Array, form: str | None) -> Array:
    """The nearest numbers that a format has, in float64."""
    if form is None:
        return x
    if form in ("float16", "float32"):
        return x.astype(form).astype(np.float64)
    dropped, nearest = DROPPED[form]
    bits = x.astype(np.float32).view(np.uint32)
    if nearest:
        bits = (
            bits + np.uint32((1 << dropped - 1) - 1) + (bits >> np.uint32(dropped) & np.uint32(1))
        )
    bits &= np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return bits.view(np.float32).astype(np.float64)


def _lowered(step: Step, x: Array) -> tuple[Array, Mapping[str, Array]]:
    """What goes into a product, in the format that a cause says. A bias is added to the product,
    not rounded before.
    """
    form = step["format"]
    return rounded(x, form), {**step.parameters, "weight": rounded(step.parameters["weight"], form)}


# Causes


@dataclass(frozen=True)
class Cause:
    """A known mistake. kinds: of the stages in which it can be. variants: the ways to make it, in
    words, each with the step.

    solved: the same from what came out, for mistakes with a number in them that is not among the
    usual ones.
    """

    name: str
    kinds: tuple[str, ...]
    variants: Callable[[Step], Variants] = lambda step: ()
    solved: Callable[[Step, Inputs, Array], Variants] = lambda step, inputs, actual: ()


def _same_padding(step: Step) -> Variants:
    if max(step["padding"]) > 0:
        words = "pads as little as SAME does (TensorFlow, JAX), the odd one behind"
        yield f"{words}, instead of {step['padding']} on both sides", step.having(same=True)


def _single_precision(step: Step, inputs: Inputs, actual: Array) -> Variants:
    """Values that float32 has, every one of them, where float64 was asked for."""
    if actual.dtype == np.float64 and np.array_equal(actual, actual.astype(np.float32)):
        yield "computes in float32 instead of float64", step.having(output_format="float32")


def _stored(step: Step) -> Variants:
    for form in ("bfloat16", "float16"):
        yield f"the outcome is rounded to {form}", step.having(output_format=form)


def _reduced_precision(step: Step) -> Variants:
    for form in ("TF32", "TF32, truncated", "bfloat16", "float16"):
        yield f"multiplies in {form} instead of in full", step.having(format=form)
    for form in ("bfloat16", "float16"):
        words = f"multiplies in {form} and rounds the outcome to it"
        yield words, step.having(format=form, output_format=form)


def _transposed_kernel(step: Step) -> Variants:
    kernel = step.parameters["weight"]
    names = ("out", "in", "row", "col")[: kernel.ndim]
    seen = [kernel]
    for axes in permutations(range(kernel.ndim)):
        turned = kernel.transpose(axes)
        if turned.shape == kernel.shape and not any(
            np.array_equal(turned, other) for other in seen
        ):
            seen.append(turned)
            order = " ".join(names[axis] for axis in axes)
            yield (
                f"reads the kernel's axes ({' '.join(names)}) as ({order})",
                step.holding(weight=turned),
            )
    native = (2, 3, 1, 0) if kernel.ndim == 4 else (1, 0)
    back = np.argsort(native)
    reshaped = {
        "channels-last kernel reshaped, not transposed": kernel.transpose(native).reshape(
            kernel.shape
        ),
        "kernel reshaped to channels last, not transposed": np.reshape(
            kernel, [kernel.shape[axis] for axis in native]
        ).transpose(back),
    }
    for words, turned in reshaped.items():
        if not any(np.array_equal(turned, other) for other in seen):
            seen.append(turned)
            yield words, step.holding(weight=turned)


def _flipped_kernel(step: Step) -> Variants:
    kernel = step.parameters["weight"]
    for words, axes in (
        ("turned by 180 degrees (convolution for cross-correlation)", (2, 3)),
        ("upside down", (2,)),
        ("mirrored", (3,)),
    ):
        if all(kernel.shape[axis] > 1 for axis in axes):
            yield f"kernel {words}", step.holding(weight=np.flip(kernel, axes))


def _permuted_kernel(step: Step) -> Variants:
    """All orders of few input channels; of many, the reverse. Orders of the outputs are found from
    what came out.
    """
    kernel = step.parameters["weight"]
    for order in _orders(kernel.shape[1]):
        yield (
            f"kernel's input channels in the order {_short(order)}",
            step.holding(weight=kernel[:, list(order)]),
        )


def _orders(channels: int) -> Iterator[tuple[int, ...]]:
    same = tuple(range(channels))
    orders = permutations(same) if channels <= 4 else [same[::-1]]
    return (order for order in orders if order != same)


def _short(values: Iterable[Any], most: int = 8) -> str:
    items = [f"{value:.5g}" if isinstance(value, float) else str(value) for value in values]
    return f"({', '.join(items[:most])}{', ...' if len(items) > most else ''})"


def _solved_permutation(step: Step, inputs: Inputs, actual: Array) -> Variants:
    """Each output channel is another's: with the bias, or with the kernel alone."""
    kernel, bias = step.parameters["weight"], step.parameters.get("bias")
    right = compute(step, inputs)
    shapes = (1, -1, *(1,) * (right.ndim - 2))
    for with_bias in (True, False) if bias is not None else (True,):
        shift = 0 if with_bias else bias.reshape(shapes)
        order = _matching(right - shift, actual - shift)
        if order is not None:
            moved = {"weight": kernel[order]} | (
                {"bias": bias[order]} if with_bias and bias is not None else {}
            )
            what = "output channels" if with_bias else "kernel's output channels (not the bias)"
            yield f"{what} in the order {_short(order.tolist())}", step.holding(**moved)


def _matching(right: Array, actual: Array) -> Array | None:
    """The order of the channels of `right` in which they are those of `actual`, if that is another
    order.
    """
    channels = right.shape[1]
    rows = [np.moveaxis(array, 1, 0).reshape(channels, -1) for array in (right, actual)]
    distances = np.abs(rows[1][:, None, :64] - rows[0][None, :, :64]).max(axis=2)
    order = distances.argmin(axis=1)
    whole = len(set(order.tolist())) == channels and not np.array_equal(order, np.arange(channels))
    return order if whole else None


def _missing_bias(step: Step) -> Variants:
    bias = step.parameters.get("bias")
    if bias is not None and np.any(bias):
        yield "the bias is missing", step.holding(bias=np.zeros_like(bias))


def _initial_values(step: Step) -> Variants:
    """Parameters that were never loaded: a norm starts as the identity."""
    weight, bias = np.ones_like(step.parameters["weight"]), np.zeros_like(step.parameters["bias"])
    yield "the scale is missing, or was never loaded (1)", step.holding(weight=weight)
    yield "scale and offset were never loaded (1 and 0)", step.holding(weight=weight, bias=bias)
    if step.kind == "batch_norm" and not step["training"]:
        statistics = {"running_mean": bias, "running_var": weight}
        yield "running statistics were never loaded (0 and 1)", step.holding(**statistics)
        yield "nothing was ever loaded", step.holding(weight=weight, bias=bias, **statistics)


EPS = (1e-3, 1e-5, 1e-6, 1e-4, 1e-7, 1e-8, 1.001e-5, 2e-5, 1e-2, 0.0)


def _other_eps(step: Step) -> Variants:
    for eps in EPS:
        if eps != step["eps"]:
            yield f"eps {eps:g} instead of {step['eps']:g}", step.having(eps=eps)


def _solved_eps(step: Step, inputs: Inputs, actual: Array) -> Variants:
    """From the channel whose variance is least: how much its deviations were divided by."""
    if step.kind != "batch_norm":
        return
    x, leaves = inputs[0], step.parameters
    mean, variance = leaves["running_mean"], leaves["running_var"]
    if step["training"]:
        mean, variance = x.mean(ALL_BUT_CHANNELS), x.var(ALL_BUT_CHANNELS)
    shape = (1, -1, 1, 1)
    centred = (x - mean.reshape(shape)) * leaves["weight"].reshape(shape)
    came = actual - leaves["bias"].reshape(shape)
    energy = (centred**2).sum(ALL_BUT_CHANNELS)
    alive = energy > 1e-6 * energy.max()  # a channel whose gamma is 0 says nothing of eps
    if len(variance) < 2 or not alive.any():  # of one channel, a scale would say the same
        return
    with np.errstate(all="ignore"):
        found = (energy / (centred * came).sum(ALL_BUT_CHANNELS)) ** 2 - variance
    eps = float(found[np.argmin(np.where(alive & (variance > 0), variance, np.inf))])
    if np.isfinite(eps) and eps > 0:
        for digits in (1, 2, 3, 5):
            tried = float(f"{eps:.{digits}g}")
            yield f"eps {tried:g} instead of {step['eps']:g}", step.having(eps=tried)


def _swapped_scale_and_offset(step: Step) -> Variants:
    weight, bias = step.parameters["weight"], step.parameters["bias"]
    yield "gamma and beta (weight and bias) are swapped", step.holding(weight=bias, bias=weight)


def _swapped_statistics(step: Step) -> Variants:
    if not step["training"]:
        mean, variance = step.parameters["running_mean"], step.parameters["running_var"]
        yield (
            "running mean and variance are swapped",
            step.holding(running_mean=variance, running_var=mean),
        )


def _mode(step: Step) -> Variants:
    if step["training"]:
        yield (
            "normalises by the running statistics: evaluation mode left on",
            step.having(training=False),
        )
    else:
        yield "normalises by the batch's statistics: train mode left on", step.having(training=True)


def _variance(step: Step) -> Variants:
    if step.kind == "running variance":
        yield (
            "keeps the biased variance (divided by n), as Flax and Keras do",
            step.having(biased=True),
        )
    elif step["training"]:
        yield "normalises by the unbiased variance (divided by n - 1)", step.having(unbiased=True)


DECAYS = (0.99, 0.9, 0.1, 0.999, 0.95, 0.01, 0.0)


def _other_decay(step: Step) -> Variants:
    for decay in DECAYS:
        if decay != step["decay"]:
            meaning = (
                f", momentum for decay: {decay:g} is the part kept"
                if decay == round(1 - step["decay"], 12)
                else ""
            )
            yield f"decay {decay:g} instead of {step['decay']:g}{meaning}", step.having(decay=decay)
    yield "is not moved by training", step.having(decay=1.0)


def _solved_decay(step: Step, inputs: Inputs, actual: Array) -> Variants:
    running, batch, n = inputs
    batch = batch if step["biased"] or step.kind == "running mean" else batch * n / (n - 1)
    apart = running - batch
    decay = float(((actual - batch) * apart).sum() / (apart**2).sum())
    if len(running) < 2 or not 0 <= decay <= 1:  # one number is any decay's
        return
    for digits in (2, 3, 5):
        tried = float(f"{decay:.{digits}g}")
        yield f"decay {tried:g} instead of {step['decay']:g}", step.having(decay=tried)


def _other_activation(step: Step) -> Variants:
    for name in ACTIVATIONS:
        if name != step.kind:
            yield f"{name} instead of {step.kind}", step.having(activation=name)


def _channel_order(step: Step) -> Variants:
    channels = step["channels"]
    for order in _orders(channels):
        known = " (BGR for RGB)" if order == (2, 1, 0) else ""
        yield f"image channels in the order {_short(order)}{known}", step.having(order=order)


# Of images in [0, 1].
NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "less the mean and divided by the deviation of ImageNet": (
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
    "less the mean and divided by the deviation of CIFAR-10": (
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "brought from [0, 1] to [-1, 1]": ((0.5,), (0.5,)),
    "divided by 255": ((0.0,), (255.0,)),
    "brought from [0, 255] to [-1, 1]": ((127.5,), (127.5,)),
}


def _normalisation(step: Step) -> Variants:
    for words, (mean, deviation) in NORMALISATIONS.items() if step.kind == "input" else ():
        if len(mean) in (1, step["channels"]):
            scale, offset = 1 / np.array(deviation), -np.array(mean) / np.array(deviation)
            yield f"image {words}", step.having(scale=scale, offset=offset)
            yield (
                f"image not {words}, though ours is",
                step.having(scale=1 / scale, offset=-offset / scale),
            )


def _solved_normalisation(step: Step, inputs: Inputs, actual: Array) -> Variants:
    """A scale and an offset for each channel of the image, by least squares on what came out."""
    x = inputs[0]
    if not all(np.isfinite(array).all() for array in (x, actual, *step.parameters.values())):
        return
    if step.kind == "convolution":
        if not step["of_image"] or x.shape[1] > 16:
            return
        bare = step.holding(
            **(
                {"bias": np.zeros_like(step.parameters["bias"])}
                if "bias" in step.parameters
                else {}
            )
        )
        shift = compute(step, (np.zeros_like(x),))
        columns = [
            compute(
                bare, (np.where(np.arange(x.shape[1])[None, :, None, None] == channel, part, 0.0),)
            ).ravel()
            for part in (x, np.ones_like(x))
            for channel in range(x.shape[1])
        ]
        found = np.linalg.lstsq(np.stack(columns, 1), (actual - shift).ravel(), rcond=None)[
            0
        ].reshape(2, -1)
        scale, offset = found
    else:
        pairs = [
            (x[:, channel].ravel(), actual[:, channel].ravel()) for channel in range(x.shape[1])
        ]
        fits = [
            np.polyfit(given, came, 1) if np.ptp(given) > 0 else (1.0, 0.0) for given, came in pairs
        ]
        scale, offset = np.transpose(fits)
    words = (
        f"image scaled by {_short(map(float, scale))} and shifted by {_short(map(float, offset))}"
    )
    yield words, step.having(scale=scale, offset=offset)


def _layout(step: Step) -> Variants:
    if step.kind == "input":
        for words in LAYOUTS:
            yield words, step.having(input_layout=words)
    elif step.kind == "linear":
        weight = step.parameters["weight"]
        features = weight.shape[1]
        for channels in (size for size in range(2, features) if features % size == 0):
            turned = weight.reshape(len(weight), channels, -1).swapaxes(1, 2).reshape(weight.shape)
            words = f"{features} features flattened channels last, where the weights have {channels} channels first"
            yield words, step.holding(weight=turned)
    else:
        for words in OUTPUT_LAYOUTS:
            yield words, step.having(output_layout=words)


def _missing_term(step: Step) -> Variants:
    yield "the shortcut is not added", step.having(terms=(0,))
    yield "the main path is not added", step.having(terms=(1,))


PRODUCTS = ("convolution", "linear")
ACTIVATED = ("relu", "sigmoid", "hard_sigmoid", "hard_swish")
RUNNING = ("running mean", "running variance")

CAUSES = (
    Cause("SAME padding", ("convolution",), _same_padding),
    Cause("batch norm eps", ("batch_norm", "layer_norm"), _other_eps, _solved_eps),
    Cause("train or evaluation mode", ("batch_norm",), _mode),
    Cause("biased or unbiased variance", ("batch_norm", "running variance"), _variance),
    Cause("batch norm decay", RUNNING, _other_decay, _solved_decay),
    Cause("gamma and beta swapped", ("batch_norm", "layer_norm"), _swapped_scale_and_offset),
    Cause("mean and variance swapped", ("batch_norm",), _swapped_statistics),
    Cause("missing bias", (*PRODUCTS, "batch_norm", "layer_norm"), _missing_bias),
    Cause("initial values", ("batch_norm", "layer_norm"), _initial_values),
    Cause("transposed kernel", PRODUCTS, _transposed_kernel),
    Cause("flipped kernel", ("convolution",), _flipped_kernel),
    Cause("permuted channels", PRODUCTS, _permuted_kernel, _solved_permutation),
    Cause("activation", ACTIVATED, _other_activation),
    Cause("channel order of the image", ("input",), _channel_order),
    Cause(
        "normalisation of the image",
        ("input", "convolution"),
        _normalisation,
        _solved_normalisation,
    ),
    Cause("layout flattening", ("input", "linear", "convolution", "relu"), _layout),
    Cause("missing term", ("sum",), _missing_term),
    Cause("reduced precision", PRODUCTS, _reduced_precision),
    Cause("rounded outcome", tuple(KINDS), _stored, _single_precision),
)


@dataclass(frozen=True)
class Explanation:
    """A cause that explains a difference. words: how; step: what is then computed; left: the
    relative difference left.
    """

    cause: str
    words: str
    step: Step
    left: float

    def __str__(self) -> str:
        return f"{self.cause}: {self.words}"


def variants(
    step: Step, inputs: Inputs | None = None, actual: Array | None = None
) -> Iterator[tuple[Cause, str, Step]]:
    """Every way in which every cause could have changed a step; with what went in and came out,
    also those solved for.
    """
    for cause in CAUSES:
        if step.kind in cause.kinds:
            found = list(cause.variants(step))
            if inputs is not None and actual is not None:
                found += cause.solved(step, inputs, actual)
            yield from ((cause, words, changed) for words, changed in found)


def left_over(step: Step, computed: Array, actual: Array, tolerance: float) -> float | None:
    """How far a computed output is from the actual one, relative to the greatest magnitude; None
    where that is too far.

    What was rounded to a low format may be its next number where a last bit before it decided; nine
    in ten must be equal.
    """
    if computed.shape != actual.shape:
        return None
    finite = np.isfinite(computed) & np.isfinite(actual)
    if not np.array_equal(np.isfinite(computed), np.isfinite(actual)) or not finite.any():
        return None
    scale = float(np.abs(actual[finite]).max()) or 1.0
    apart = np.abs(np.where(finite, computed - actual, 0.0))
    form = step["output_format"]
    if form == "float32":  # its sums are rounded at every step, in an order of their own
        left = float(apart.max()) / scale
        return left if left <= SINGLE else None
    if form:
        room = np.maximum(
            RESOLUTION[form] * np.abs(np.where(finite, actual, 0.0)) * 1.01, tolerance * scale
        )
        equal = apart <= tolerance * scale
        return float(apart.max()) / scale if (apart <= room).all() and equal.mean() >= 0.9 else None
    left = float(apart.max()) / scale
    return left if left <= tolerance else None


def explanations(
    step: Step, inputs: Inputs, actual: Array, tolerance: float, pairs: bool = True
) -> list[Explanation]:
    """The causes that explain what a stage made of its inputs, the best first; two at once only
    where no single one does.

    tolerance: relative to the greatest magnitude of what came out.
    """
    if step.kind not in KINDS:
        return []
    before = _distance(compute(step, inputs), actual)
    single = (
        (cause.name, words, changed) for cause, words, changed in variants(step, inputs, actual)
    )
    found = [each for each in _tried(inputs, actual, tolerance, single) if _better(each, before)]
    if found or not pairs:
        return found
    both = (
        (f"{first.name} and {second.name}", f"{words} and {more}", changed)
        for first, words, halfway in variants(step)
        for second, more, changed in variants(halfway)
        if CAUSES.index(second) > CAUSES.index(first)
    )
    return [
        each
        for each in _tried(inputs, actual, tolerance, both, screen=True)
        if _better(each, before)
    ]


def _better(explanation: Explanation, before: float) -> bool:
    """Whether it leaves much less than there was; of float32 for float64 the values speak, all of
    which it has.
    """
    return explanation.left <= before / 4 or explanation.step["output_format"] == "float32"


def _distance(computed: Array, actual: Array) -> float:
    """Relative to the greatest magnitude, where both are numbers; a cause must bring it down, not
    only under a tolerance.
    """
    if computed.shape != actual.shape:
        return np.inf
    both = np.isfinite(computed) & np.isfinite(actual)
    if not both.all() or not both.any():
        return np.inf
    return float(np.abs(computed - actual).max() / (np.abs(actual).max() or 1))


def _tried(
    inputs: Inputs,
    actual: Array,
    tolerance: float,
    candidates: Iterable[tuple[str, str, Step]],
    screen: bool = False,
) -> list[Explanation]:
    """Those that explain it: of each cause the first, unless another is much better, since usual
    ways come before those found by solving. screen: try one image first, where none depends on
    another."""
    found: dict[str, Explanation] = {}
    for cause, words, changed in candidates:
        few = screen and not changed["training"] and changed.kind not in RUNNING and len(actual) > 1
        if few:
            part = compute(changed, tuple(array[:1] for array in inputs))
            if left_over(changed, part, actual[:1], 4 * tolerance) is None:
                continue
        left = left_over(changed, compute(changed, inputs), actual, tolerance)
        if left is not None and (cause not in found or left < found[cause].left / 4):
            found[cause] = Explanation(cause, words, changed, left)
    return sorted(found.values(), key=lambda each: each.left)

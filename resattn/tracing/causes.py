"""The known causes of a difference. Each changes the specification of a stage.

A cause is tried, never guessed: it explains a difference if the changed stage computes, from the
same inputs, the output that the model gave. See `resattn.tracing.explanations`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.computation import (
    ACTIVATIONS,
    ALL_BUT_CHANNELS,
    FORMULAS,
    Inputs,
    StageSpec,
    compute,
)
from resattn.tracing.formats import PRODUCT_FORMATS, RESOLUTION

Variants = Iterable[tuple[str, StageSpec]]


@dataclass(frozen=True)
class Cause:
    """A known mistake.

    kinds: of the stages that can have it.
    vary: the usual ways to make it, each with its words and the changed specification.
    solve: ways with other numbers, computed from the stage's inputs and the model's output.
    """

    name: str
    kinds: tuple[str, ...]
    vary: Callable[[StageSpec], Variants] = lambda spec: ()
    solve: Callable[[StageSpec, Inputs, Array], Variants] = lambda spec, inputs, actual: ()


def apply_causes(
    spec: StageSpec, inputs: Inputs | None = None, actual: Array | None = None
) -> Iterator[tuple[Cause, str, StageSpec]]:
    """Every way in which each cause can change a stage.

    inputs, actual: with both, also the ways that a cause solves for.
    """
    for cause in CAUSES:
        if spec.kind in cause.kinds:
            found = list(cause.vary(spec))
            if inputs is not None and actual is not None:
                found += cause.solve(spec, inputs, actual)
            yield from ((cause, words, changed) for words, changed in found)


# Padding and precision


def _vary_padding(spec: StageSpec) -> Variants:
    if max(spec["padding"]) > 0:
        words = (
            "pads as SAME does in TensorFlow and JAX, with an odd pixel at the end, instead of "
            f"{spec['padding']} on both sides"
        )
        yield words, spec.with_settings(same=True)


def _vary_output_format(spec: StageSpec) -> Variants:
    for form in RESOLUTION:
        yield f"rounds its output to {form}", spec.with_settings(output_format=form)


def _solve_output_format(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """float32, if every value of a float64 output is one that float32 has."""
    if actual.dtype == np.float64 and np.array_equal(actual, actual.astype(np.float32)):
        words = "computes in float32 instead of float64"
        yield words, spec.with_settings(output_format="float32")


def _vary_product_format(spec: StageSpec) -> Variants:
    for form in PRODUCT_FORMATS:
        yield f"multiplies in {form} instead of full precision", spec.with_settings(format=form)
    for form in RESOLUTION:
        words = f"multiplies in {form} and rounds its output to it"
        yield words, spec.with_settings(format=form, output_format=form)


# Kernels


def _vary_kernel_axes(spec: StageSpec) -> Variants:
    kernel = spec.parameters["weight"]
    seen = [kernel]
    for words, turned in (*_transpose_kernel(kernel), *_reshape_kernel(kernel)):
        if not any(np.array_equal(turned, other) for other in seen):
            seen.append(turned)
            yield words, spec.with_parameters(weight=turned)


def _transpose_kernel(kernel: Array) -> Iterator[tuple[str, Array]]:
    """The kernel with its axes in every order that keeps the shape."""
    names = ("out", "in", "row", "col")[: kernel.ndim]
    for axes in permutations(range(kernel.ndim)):
        turned = kernel.transpose(axes)
        if turned.shape == kernel.shape:
            order = " ".join(names[axis] for axis in axes)
            yield f"reads the kernel's axes ({' '.join(names)}) as ({order})", turned


def _reshape_kernel(kernel: Array) -> Iterator[tuple[str, Array]]:
    """The kernel reshaped between channels first and channels last where it should be
    transposed.
    """
    last = (2, 3, 1, 0) if kernel.ndim == 4 else (1, 0)
    yield (
        "the channels-last kernel is reshaped instead of transposed",
        kernel.transpose(last).reshape(kernel.shape),
    )
    yield (
        "the kernel is reshaped to channels last instead of transposed",
        kernel.reshape([kernel.shape[axis] for axis in last]).transpose(np.argsort(last)),
    )


def _flip_kernel(spec: StageSpec) -> Variants:
    kernel = spec.parameters["weight"]
    for words, axes in (
        ("rotated by 180 degrees (convolution instead of cross-correlation)", (2, 3)),
        ("flipped upside down", (2,)),
        ("mirrored from left to right", (3,)),
    ):
        if all(kernel.shape[axis] > 1 for axis in axes):
            yield f"the kernel is {words}", spec.with_parameters(weight=np.flip(kernel, axes))


def _vary_channel_order(spec: StageSpec) -> Variants:
    """Orders of the input channels. Orders of the output channels are solved for."""
    kernel = spec.parameters["weight"]
    for order in _list_orders(kernel.shape[1]):
        yield (
            f"the kernel's input channels are in the order {_shorten(order)}",
            spec.with_parameters(weight=kernel[:, list(order)]),
        )


def _list_orders(channels: int) -> Iterator[tuple[int, ...]]:
    """All other orders of up to four channels; of more, only the reverse."""
    same = tuple(range(channels))
    orders = permutations(same) if channels <= 4 else [same[::-1]]
    return (order for order in orders if order != same)


def _shorten(values: Iterable[Any], most: int = 8) -> str:
    items = [f"{value:.5g}" if isinstance(value, float) else str(value) for value in values]
    return f"({', '.join(items[:most])}{', ...' if len(items) > most else ''})"


def _solve_channel_order(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """The order of the output channels: of kernel and bias, or of the kernel alone."""
    kernel, bias = spec.parameters["weight"], spec.parameters.get("bias")
    right = compute(spec, inputs)
    order = _match_channels(right, actual)
    if order is not None:
        moved = {"weight": kernel[order]} | ({} if bias is None else {"bias": bias[order]})
        words = f"the output channels are in the order {_shorten(order.tolist())}"
        yield words, spec.with_parameters(**moved)
    if bias is not None:
        shift = bias.reshape(1, -1, *(1,) * (right.ndim - 2))
        order = _match_channels(right - shift, actual - shift)
        if order is not None:
            what = "the kernel's output channels, but not the bias, are"
            words = f"{what} in the order {_shorten(order.tolist())}"
            yield words, spec.with_parameters(weight=kernel[order])


def _match_channels(right: Array, actual: Array) -> Array | None:
    """The order that makes the channels of `right` those of `actual`; None if there is no such
    order, or if it changes nothing.
    """
    channels = right.shape[1]
    rows = [np.moveaxis(array, 1, 0).reshape(channels, -1) for array in (right, actual)]
    distances = np.abs(rows[1][:, None, :64] - rows[0][None, :, :64]).max(axis=2)
    order = distances.argmin(axis=1)
    whole = len(set(order.tolist())) == channels and not np.array_equal(order, np.arange(channels))
    return order if whole else None


# Biases and norms


def _drop_bias(spec: StageSpec) -> Variants:
    bias = spec.parameters.get("bias")
    if bias is not None and np.any(bias):
        yield "the bias is missing", spec.with_parameters(bias=np.zeros_like(bias))


def _reset_parameters(spec: StageSpec) -> Variants:
    """Parameters that were never loaded: a norm starts as the identity."""
    weight, bias = np.ones_like(spec.parameters["weight"]), np.zeros_like(spec.parameters["bias"])
    yield "the scale is missing or was never loaded: it is 1", spec.with_parameters(weight=weight)
    yield (
        "scale and offset were never loaded: they are 1 and 0",
        spec.with_parameters(weight=weight, bias=bias),
    )
    if spec.kind == "batch_norm" and not spec["training"]:
        statistics = {"running_mean": bias, "running_var": weight}
        yield (
            "the running statistics were never loaded: they are 0 and 1",
            spec.with_parameters(**statistics),
        )
        yield (
            "none of its parameters was loaded",
            spec.with_parameters(weight=weight, bias=bias, **statistics),
        )


EPS = (1e-3, 1e-5, 1e-6, 1e-4, 1e-7, 1e-8, 1.001e-5, 2e-5, 1e-2, 0.0)


def _vary_eps(spec: StageSpec) -> Variants:
    for eps in EPS:
        if eps != spec["eps"]:
            yield f"eps {eps:g} instead of {spec['eps']:g}", spec.with_settings(eps=eps)


def _solve_eps(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """The eps by which the channel with the least variance was normalised."""
    if spec.kind != "batch_norm":
        return
    x, leaves = inputs[0], spec.parameters
    mean, variance = leaves["running_mean"], leaves["running_var"]
    if spec["training"]:
        mean, variance = x.mean(ALL_BUT_CHANNELS), x.var(ALL_BUT_CHANNELS)
    shape = (1, -1, 1, 1)
    centred = (x - mean.reshape(shape)) * leaves["weight"].reshape(shape)
    scaled = actual - leaves["bias"].reshape(shape)
    energy = (centred**2).sum(ALL_BUT_CHANNELS)
    alive = energy > 1e-6 * energy.max()  # a channel with gamma 0 does not depend on eps
    if len(variance) < 2 or not alive.any():  # in one channel, any scale looks like an eps
        return
    with np.errstate(all="ignore"):
        found = (energy / (centred * scaled).sum(ALL_BUT_CHANNELS)) ** 2 - variance
    eps = float(found[np.argmin(np.where(alive & (variance > 0), variance, np.inf))])
    if np.isfinite(eps) and eps > 0:
        for digits in (1, 2, 3, 5):
            tried = float(f"{eps:.{digits}g}")
            yield f"eps {tried:g} instead of {spec['eps']:g}", spec.with_settings(eps=tried)


def _swap_scale_and_offset(spec: StageSpec) -> Variants:
    weight, bias = spec.parameters["weight"], spec.parameters["bias"]
    yield (
        "gamma and beta (weight and bias) are swapped",
        spec.with_parameters(weight=bias, bias=weight),
    )


def _swap_statistics(spec: StageSpec) -> Variants:
    if not spec["training"]:
        mean, variance = spec.parameters["running_mean"], spec.parameters["running_var"]
        yield (
            "running mean and variance are swapped",
            spec.with_parameters(running_mean=variance, running_var=mean),
        )


def _switch_mode(spec: StageSpec) -> Variants:
    if spec["training"]:
        words = "normalises by the running statistics: it is still in evaluation mode"
        yield words, spec.with_settings(training=False)
    else:
        words = "normalises by the batch's statistics: it is still in training mode"
        yield words, spec.with_settings(training=True)


def _vary_variance(spec: StageSpec) -> Variants:
    if spec.kind == "running variance":
        words = "keeps the biased variance (divided by n), as Flax and Keras do"
        yield words, spec.with_settings(biased=True)
    elif spec["training"]:
        words = "normalises by the unbiased variance (divided by n - 1)"
        yield words, spec.with_settings(unbiased=True)


DECAYS = (0.99, 0.9, 0.1, 0.999, 0.95, 0.01, 0.0)


def _vary_decay(spec: StageSpec) -> Variants:
    for decay in DECAYS:
        if decay != spec["decay"]:
            words = f"decay {decay:g} instead of {spec['decay']:g}"
            if decay == round(1 - spec["decay"], 12):
                words += " (1 - decay: momentum and decay are confused)"
            yield words, spec.with_settings(decay=decay)
    yield "is not updated in training", spec.with_settings(decay=1.0)


def _solve_decay(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    running, batch, n = inputs
    batch = batch if spec["biased"] or spec.kind == "running mean" else batch * n / (n - 1)
    apart = running - batch
    decay = float(((actual - batch) * apart).sum() / (apart**2).sum())
    if len(running) < 2 or not 0 <= decay <= 1:  # in one channel, any number looks like a decay
        return
    for digits in (2, 3, 5):
        tried = float(f"{decay:.{digits}g}")
        yield f"decay {tried:g} instead of {spec['decay']:g}", spec.with_settings(decay=tried)


# Activations and sums


def _vary_activation(spec: StageSpec) -> Variants:
    for name in ACTIVATIONS:
        if name != spec.kind:
            yield f"{name} instead of {spec.kind}", spec.with_settings(activation=name)


def _drop_term(spec: StageSpec) -> Variants:
    yield "the shortcut is not added", spec.with_settings(terms=(0,))
    yield "the main path is not added", spec.with_settings(terms=(1,))


# The image and its layout


def _vary_image_order(spec: StageSpec) -> Variants:
    for order in _list_orders(spec["channels"]):
        known = " (BGR instead of RGB)" if order == (2, 1, 0) else ""
        words = f"the image's channels are in the order {_shorten(order)}{known}"
        yield words, spec.with_settings(order=order)


# Mean and deviation that are usual for images in [0, 1], or in [0, 255].
NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "normalised with the mean and deviation of ImageNet": (
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
    "normalised with the mean and deviation of CIFAR-10": (
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    "scaled from [0, 1] to [-1, 1]": ((0.5,), (0.5,)),
    "divided by 255": ((0.0,), (255.0,)),
    "scaled from [0, 255] to [-1, 1]": ((127.5,), (127.5,)),
}


def _vary_normalisation(spec: StageSpec) -> Variants:
    for words, (mean, deviation) in NORMALISATIONS.items() if spec.kind == "input" else ():
        if len(mean) in (1, spec["channels"]):
            scale, offset = 1 / np.array(deviation), -np.array(mean) / np.array(deviation)
            yield f"the image is {words}", spec.with_settings(scale=scale, offset=offset)
            yield (
                f"the image is not {words}, but it should be",
                spec.with_settings(scale=1 / scale, offset=-offset / scale),
            )


def _solve_normalisation(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """A scale and an offset for each channel of the image, by least squares on the output."""
    x = inputs[0]
    if not all(np.isfinite(array).all() for array in (x, actual, *spec.parameters.values())):
        return
    if spec.kind == "input":
        scale, offset = _fit_channels(x, actual)
    elif spec["of_image"] and x.shape[1] <= 16:
        scale, offset = _fit_convolution(spec, x, actual)
    else:
        return
    words = (
        f"the image is scaled by {_shorten(map(float, scale))} and shifted by "
        f"{_shorten(map(float, offset))}"
    )
    yield words, spec.with_settings(scale=scale, offset=offset)


def _fit_channels(x: Array, actual: Array) -> Array:
    """The scale and the offset of each channel between two images: (2, channels)."""
    fits = []
    for channel in range(x.shape[1]):
        given, found = x[:, channel].ravel(), actual[:, channel].ravel()
        fits.append(np.polyfit(given, found, 1) if np.ptp(given) > 0 else np.array([1.0, 0.0]))
    return np.transpose(fits)


def _fit_convolution(spec: StageSpec, x: Array, actual: Array) -> Array:
    """The scale and the offset of each channel of the image, from a convolution's output:
    (2, channels).
    """
    bias = spec.parameters.get("bias")
    bare = spec if bias is None else spec.with_parameters(bias=np.zeros_like(bias))
    shift = compute(spec, (np.zeros_like(x),))
    channels = np.arange(x.shape[1])
    columns = [
        compute(bare, (np.where(channels[None, :, None, None] == channel, part, 0.0),)).ravel()
        for part in (x, np.ones_like(x))
        for channel in channels
    ]
    found: Array = np.linalg.lstsq(np.stack(columns, 1), (actual - shift).ravel(), rcond=None)[0]
    return found.reshape(2, -1)


LAST_AS_FIRST = "(height, width, channels) values are read as (channels, height, width)"
FIRST_AS_LAST = "(channels, height, width) values are read as (height, width, channels)"
LAST = "the axes (batch, height, width, channels) are taken for (batch, channels, height, width)"


def _vary_layout(spec: StageSpec) -> Variants:
    if spec.kind == "input":
        yield LAST_AS_FIRST, spec.with_settings(input_layout="last as first")
        yield FIRST_AS_LAST, spec.with_settings(input_layout="first as last")
    elif spec.kind == "linear":
        yield from _vary_flattening(spec)
    else:
        yield LAST_AS_FIRST, spec.with_settings(output_layout="last as first")
        yield LAST, spec.with_settings(output_layout="last")


def _vary_flattening(spec: StageSpec) -> Variants:
    weight = spec.parameters["weight"]
    outputs, features = weight.shape
    for channels in (size for size in range(2, features) if features % size == 0):
        turned = weight.reshape(outputs, channels, -1).swapaxes(1, 2).reshape(weight.shape)
        words = (
            f"the {features} features are flattened channels last, but the weights have their "
            f"{channels} channels first"
        )
        yield words, spec.with_parameters(weight=turned)


PRODUCTS = ("convolution", "linear")
NORMS = ("batch_norm", "layer_norm")
ACTIVATED = ("relu", "sigmoid", "hard_sigmoid", "hard_swish")
RUNNING = ("running mean", "running variance")

CAUSES = (
    Cause("SAME padding", ("convolution",), _vary_padding),
    Cause("batch norm eps", NORMS, _vary_eps, _solve_eps),
    Cause("train or evaluation mode", ("batch_norm",), _switch_mode),
    Cause("biased or unbiased variance", ("batch_norm", "running variance"), _vary_variance),
    Cause("batch norm decay", RUNNING, _vary_decay, _solve_decay),
    Cause("gamma and beta swapped", NORMS, _swap_scale_and_offset),
    Cause("mean and variance swapped", ("batch_norm",), _swap_statistics),
    Cause("missing bias", (*PRODUCTS, *NORMS), _drop_bias),
    Cause("initial values", NORMS, _reset_parameters),
    Cause("transposed kernel", PRODUCTS, _vary_kernel_axes),
    Cause("flipped kernel", ("convolution",), _flip_kernel),
    Cause("permuted channels", PRODUCTS, _vary_channel_order, _solve_channel_order),
    Cause("activation", ACTIVATED, _vary_activation),
    Cause("channel order of the image", ("input",), _vary_image_order),
    Cause(
        "normalisation of the image",
        ("input", "convolution"),
        _vary_normalisation,
        _solve_normalisation,
    ),
    Cause("layout", ("input", "linear", "convolution", "relu"), _vary_layout),
    Cause("missing term", ("sum",), _drop_term),
    Cause("reduced precision", PRODUCTS, _vary_product_format),
    Cause("rounded output", tuple(FORMULAS), _vary_output_format, _solve_output_format),
)

"""Mistakes of convolutions and linear layers: padding, precision, kernels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.cause import PRODUCTS, Variants, list_orders, shorten_list
from resattn.tracing.computation import Inputs, StageSpec, compute
from resattn.tracing.formats import PRODUCT_FORMATS, RESOLUTION, round_to, round_to_integers
from weights.language import say


def vary_padding(spec: StageSpec) -> Variants:
    if _differs_from_same(spec):
        words = say(
            "pads as SAME does in TensorFlow and JAX, with an odd pixel at the end, instead "
            "of {padding} on both sides",
            padding=spec["padding"],
        )
        yield words, spec.with_settings(same=True)


def _differs_from_same(spec: StageSpec) -> bool:
    """At stride 1, SAME is the same as padding by half of an odd kernel."""
    extent, apart = spec.parameters["weight"].shape[2:], spec["dilation"]
    sides = zip(spec["padding"], extent, spec["stride"], strict=True)
    return max(spec["padding"]) > 0 and any(
        stride > 1 or 2 * margin != apart * (size - 1) for margin, size, stride in sides
    )


def vary_sides(spec: StageSpec) -> Variants:
    rows, cols = (2 * size for size in spec["padding"])
    if max(rows, cols) > 0:
        words = say(
            "pads only at the start, by {rows} and {cols}, instead of on both sides",
            rows=rows,
            cols=cols,
        )
        yield words, spec.with_settings(margins=((rows, 0), (cols, 0)))
        if max(spec["stride"]) == 1:  # at another stride it is what SAME does
            words = say(
                "pads only at the end, by {rows} and {cols}, instead of on both sides",
                rows=rows,
                cols=cols,
            )
            yield words, spec.with_settings(margins=((0, rows), (0, cols)))


def vary_output_format(spec: StageSpec) -> Variants:
    for form in RESOLUTION:
        yield say("rounds its output to {form}", form=form), spec.with_settings(output_format=form)


def solve_output_format(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """float32, if every value of a float64 output is one that float32 has."""
    if actual.dtype == np.float64 and np.array_equal(actual, actual.astype(np.float32)):
        words = say("computes in float32 instead of float64")
        yield words, spec.with_settings(output_format="float32")


def vary_product_format(spec: StageSpec) -> Variants:
    for form in PRODUCT_FORMATS:
        words = say("multiplies in {form} instead of full precision", form=form)
        yield words, spec.with_settings(format=form)
    for form in RESOLUTION:
        words = say("multiplies in {form} and rounds its output to it", form=form)
        yield words, spec.with_settings(format=form, output_format=form)


# Kernels


def vary_kernel_axes(spec: StageSpec) -> Variants:
    kernel = spec.parameters["weight"]
    seen = [kernel]
    for words, turned in (*_transpose_kernel(kernel), *_reshape_kernel(kernel)):
        if all(_differ(turned, other) for other in seen):
            seen.append(turned)
            yield words, spec.with_parameters(weight=turned)


def _differ(first: Array, second: Array) -> bool:
    """Whether two arrays of one shape differ; large ones mostly do in the first values."""
    if not np.array_equal(first[:1], second[:1]):
        return True
    return not np.array_equal(first, second)


def _transpose_kernel(kernel: Array) -> Iterator[tuple[str, Array]]:
    """The kernel with its axes in every order that keeps the shape."""
    names = ("out", "in", "row", "col")[: kernel.ndim]
    for axes in permutations(range(kernel.ndim)):
        turned = kernel.transpose(axes)
        if turned.shape == kernel.shape:
            order = " ".join(names[axis] for axis in axes)
            yield (
                say(
                    "reads the kernel's axes ({names}) as ({order})",
                    names=" ".join(names),
                    order=order,
                ),
                turned,
            )


def _reshape_kernel(kernel: Array) -> Iterator[tuple[str, Array]]:
    """The kernel reshaped between channels first and channels last where it should be
    transposed.
    """
    last = (2, 3, 1, 0) if kernel.ndim == 4 else (1, 0)
    yield (
        say("the channels-last kernel is reshaped instead of transposed"),
        kernel.transpose(last).reshape(kernel.shape),
    )
    yield (
        say("the kernel is reshaped to channels last instead of transposed"),
        kernel.reshape([kernel.shape[axis] for axis in last]).transpose(np.argsort(last)),
    )


def flip_kernel(spec: StageSpec) -> Variants:
    kernel = spec.parameters["weight"]
    for words, axes in (
        (
            say("the kernel is rotated by 180 degrees (convolution instead of cross-correlation)"),
            (2, 3),
        ),
        (say("the kernel is flipped upside down"), (2,)),
        (say("the kernel is mirrored from left to right"), (3,)),
    ):
        if all(kernel.shape[axis] > 1 for axis in axes):
            yield words, spec.with_parameters(weight=np.flip(kernel, axes))


def vary_channel_order(spec: StageSpec) -> Variants:
    """Orders of the input channels. Orders of the output channels are solved for."""
    kernel = spec.parameters["weight"]
    for order in list_orders(kernel.shape[1]):
        yield (
            say("the kernel's input channels are in the order {order}", order=shorten_list(order)),
            spec.with_parameters(weight=kernel[:, list(order)]),
        )


def solve_channel_order(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """The order of the output channels: of kernel and bias, or of the kernel alone."""
    kernel, bias = spec.parameters["weight"], spec.parameters.get("bias")
    right = compute(spec, inputs)
    order = _match_channels(right, actual)
    if order is not None:
        moved = {"weight": kernel[order]} | ({} if bias is None else {"bias": bias[order]})
        words = say(
            "the output channels are in the order {order}", order=shorten_list(order.tolist())
        )
        yield words, spec.with_parameters(**moved)
    if bias is not None:
        shift = bias.reshape(1, -1, *(1,) * (right.ndim - 2))
        order = _match_channels(right - shift, actual - shift)
        if order is not None:
            words = say(
                "the kernel's output channels, but not the bias, are in the order {order}",
                order=shorten_list(order.tolist()),
            )
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


# Windows

PADDING_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def vary_padding_mode(spec: StageSpec) -> Variants:
    if max(spec["padding"]) > 0:
        for name, mode in PADDING_MODES.items():
            words = say("pads by the mode {name} instead of with zeros", name=name)
            yield words, spec.with_settings(padding_mode=mode)


def vary_dilation(spec: StageSpec) -> Variants:
    extent = spec.parameters["weight"].shape[2:]
    for dilation in (1, 2, 3, 4):
        if dilation != spec["dilation"] and max(extent) > 1:
            padding = tuple(dilation * (size // 2) for size in extent)
            words = say(
                "dilation {dilation} instead of {old}",
                dilation=dilation,
                old=spec["dilation"],
            )
            yield words, spec.with_settings(dilation=dilation, padding=padding)


def crop_kernel(spec: StageSpec) -> Variants:
    """A smaller kernel: the taps outside of it are 0."""
    weight = spec.parameters["weight"]
    rows, cols = weight.shape[2:]
    if min(rows, cols) >= 3 and weight.ndim == 4:
        for margin in range(1, min(rows, cols) // 2 + 1):
            inner = np.zeros_like(weight)
            part = np.s_[:, :, margin : rows - margin, margin : cols - margin]
            inner[part] = weight[part]
            size = f"{rows - 2 * margin} x {cols - 2 * margin}"
            words = say(
                "only the middle {size} of the {rows} x {cols} kernel is used",
                size=size,
                rows=rows,
                cols=cols,
            )
            yield words, spec.with_parameters(weight=inner)


def pool_before(spec: StageSpec) -> Variants:
    """As the shortcut of ResNet-D (He et al. 2018, figure 2c)."""
    if max(spec["stride"]) > 1 and spec.parameters["weight"].shape[2:] == (1, 1):
        steps = " x ".join(map(str, spec["stride"]))
        for kind, words in (
            (
                "average",
                say(
                    "takes the average of {steps} pixels before the kernel instead of every second",
                    steps=steps,
                ),
            ),
            (
                "maximum",
                say(
                    "takes the maximum of {steps} pixels before the kernel instead of every second",
                    steps=steps,
                ),
            ),
        ):
            yield words, spec.with_settings(pool_before=kind)
        words = say(
            "takes the average of {steps} pixels before the kernel, zeros beyond the edge "
            "among them, instead of every second",
            steps=steps,
        )
        yield words, spec.with_settings(pool_before="counting")
        first = tuple(min(1, step - 1) for step in spec["stride"])
        words = say("reads pixels 1, 3, ... instead of 0, 2, ...")
        yield words, spec.with_settings(first_pixel=first)


# Stored in another format

STORED_FORMATS = ("bfloat16", "float16")


def vary_stored_format(spec: StageSpec) -> Variants:
    """Rounded where it was stored; what is computed with it is exact."""
    leaves = spec.parameters
    for form in STORED_FORMATS:
        rounded = {leaf: round_to(array, form) for leaf, array in leaves.items()}
        if any(_differ(array, leaves[leaf]) for leaf, array in rounded.items()):
            yield (
                say("its parameters were rounded to {form}", form=form),
                spec.with_parameters(**rounded),
            )
            if spec.kind in PRODUCTS and np.any(leaves.get("bias", 0)):
                words = say("its kernel, but not its bias, was rounded to {form}", form=form)
                yield words, spec.with_parameters(weight=rounded["weight"])
    if spec.kind in PRODUCTS:
        kernel = leaves["weight"]
        for words, axes in (
            (say("its kernel was quantised to 8 bits with one scale"), None),
            (
                say("its kernel was quantised to 8 bits with a scale for each output channel"),
                tuple(range(1, kernel.ndim)),
            ),
        ):
            whole = round_to_integers(kernel, axes)
            yield words, spec.with_parameters(weight=whole)

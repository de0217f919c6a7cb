"""Mistakes of activations, sums, gates and pooling."""

from __future__ import annotations

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.activations import ACTIVATIONS
from resattn.tracing.cause import Variants
from resattn.tracing.computation import Inputs, StageSpec
from weights.language import mark, say


def vary_activation(spec: StageSpec) -> Variants:
    for name in ACTIVATIONS:
        if name != spec.kind:
            yield (
                say("{name} instead of {kind}", name=name, kind=spec.kind),
                spec.with_settings(activation=name),
            )


def solve_slope(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """The slope of a leaky relu."""
    below = inputs[0] < 0
    if spec.kind != "relu" or actual.shape != inputs[0].shape:
        return
    if below.any() and np.isfinite(actual).all():
        x, y = inputs[0][below], actual[below]
        slope = float(f"{(x * y).sum() / (x**2).sum():.5g}")
        words = say("leaky relu with a slope of {slope:g} instead of relu", slope=slope)
        yield words, spec.with_settings(activation="leaky relu", slope=slope)


def drop_term(spec: StageSpec) -> Variants:
    yield say("the shortcut is not added"), spec.with_settings(factors=(1, 0))
    yield say("the main path is not added"), spec.with_settings(factors=(0, 1))


def vary_factors(spec: StageSpec) -> Variants:
    """Residual scaling, and other sums of two terms."""
    for factor in (0.1, 0.2, 0.3, 0.5, 2.0):
        words = say("the main path is multiplied by {factor:g} before the sum", factor=factor)
        yield words, spec.with_settings(factors=(factor, 1))
        words = say("the shortcut is multiplied by {factor:g} before the sum", factor=factor)
        yield words, spec.with_settings(factors=(1, factor))
    yield say("the mean of both paths instead of their sum"), spec.with_settings(factors=(0.5, 0.5))
    half = 0.5**0.5
    yield say("the sum is divided by the root of 2"), spec.with_settings(factors=(half, half))
    yield say("the shortcut is subtracted"), spec.with_settings(factors=(1, -1))
    yield say("the main path is subtracted"), spec.with_settings(factors=(-1, 1))
    yield say("the main path is added twice"), spec.with_settings(factors=(2, 0))


def solve_factors(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    if len(inputs) != 2 or inputs[0].shape != actual.shape:
        return
    if not all(np.isfinite(array).all() for array in (*inputs, actual)):
        return
    columns = np.stack([np.broadcast_to(x, actual.shape).ravel() for x in inputs], 1)
    found = np.linalg.lstsq(columns, actual.ravel(), rcond=None)[0]
    factors = tuple(float(f"{factor:.5g}") for factor in found)
    words = say(
        "the main path is multiplied by {main:g} and the shortcut by {shortcut:g}",
        main=factors[0],
        shortcut=factors[1],
    )
    yield words, spec.with_settings(factors=factors)


GATINGS = {
    "x (1 + g)": mark("multiplies by 1 + gate instead of the gate"),
    "x + g": mark("adds the gate instead of multiplying by it"),
    "2 x g": mark("multiplies by twice the gate"),
    "x": mark("the gate is not applied"),
    "g": mark("gives the gate alone, without multiplying by it"),
    "x g g": mark("the gate is applied twice"),
    "x (1 - g)": mark("multiplies by 1 - gate instead of the gate"),
}


def vary_gate(spec: StageSpec) -> Variants:
    for formula, words in GATINGS.items():
        yield say(words), spec.with_settings(formula=formula)


def solve_gate(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """A factor and an offset of the product: scale * x * gate."""
    product = inputs[0] * inputs[1]
    if product.shape != actual.shape:
        return
    if np.isfinite(product).all() and np.isfinite(actual).all() and np.any(product):
        factor = float(f"{(product * actual).sum() / (product**2).sum():.5g}")
        words = say("the product with the gate is multiplied by {factor:g}", factor=factor)
        yield words, spec.with_settings(factor=factor)


# Pooling


def vary_pooling(spec: StageSpec) -> Variants:
    kernel, padding = spec["kernel"], (*spec["padding"], *(spec["after"] or ()))
    size = " x ".join(map(str, kernel))
    words = say("the average of {size} pixels instead of their maximum", size=size)
    if max(padding) > 0:
        yield (
            say("{words}, counting the padding", words=words),
            spec.with_settings(pooling="counting"),
        )
        yield (
            say("{words}, not counting the padding", words=words),
            spec.with_settings(pooling="present"),
        )
    else:
        yield words, spec.with_settings(pooling="present")
    for name, changed in _resize_windows(spec):
        yield name, changed
        for pooling in ("counting", "present"):
            yield (
                say("{words}, by average ({pooling})", words=name, pooling=pooling),
                changed.with_settings(pooling=pooling),
            )


def _resize_windows(spec: StageSpec) -> Variants:
    after = spec["after"]
    if max(spec["padding"]) > 0 and not after:
        words = say(
            "pads as SAME does in TensorFlow and JAX, with an odd pixel at the end, instead "
            "of {padding} on both sides",
            padding=spec["padding"],
        )
        yield words, spec.with_settings(same=True)
    if max(spec["padding"]) > 0:
        words = say("does not pad, and looks beyond the end (ceil mode), instead of padding")
        yield words, spec.with_settings(padding=(0, 0), after=None, ceil=True)
    usual = (
        say("{before} before and {after} after", before=spec["padding"], after=after)
        if after
        else spec["padding"]
    )
    for extent in (1, 2, 3, 4, 5):
        for margin in (0, 1, 2)[: 1 + extent // 2]:
            same = (extent, extent) == tuple(spec["kernel"])
            if same and ((margin, margin) == tuple(spec["padding"]) or not after):
                continue
            words = say(
                "pools {extent} x {extent} pixels, padded by {margin}, instead of {kernel}, "
                "padded by {usual}",
                extent=extent,
                margin=margin,
                kernel=" x ".join(map(str, spec["kernel"])),
                usual=usual,
            )
            window = {"kernel": (extent, extent), "padding": (margin, margin), "after": None}
            yield words, spec.with_settings(**window)


REDUCED = {
    "average": mark("the average"),
    "maximum": mark("the maximum"),
    "sum": mark("the sum"),
    "deviation": mark("the deviation"),
    "average and maximum": mark("average + maximum"),
    "middle": mark("the mean of average and maximum"),
}


def vary_reduction(spec: StageSpec) -> Variants:
    for kind, words in REDUCED.items():
        if kind != spec.kind:
            yield (
                say("{words} instead of {usual}", words=words, usual=REDUCED[spec.kind]),
                spec.with_settings(reduction=kind),
            )

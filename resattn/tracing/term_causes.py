"""Mistakes of activations, sums, gates and pooling."""

from __future__ import annotations

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.activations import ACTIVATIONS
from resattn.tracing.cause import Variants
from resattn.tracing.computation import Inputs, StageSpec


def vary_activation(spec: StageSpec) -> Variants:
    for name in ACTIVATIONS:
        if name != spec.kind:
            yield f"{name} instead of {spec.kind}", spec.with_settings(activation=name)


def solve_slope(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """The slope of a leaky relu."""
    below = inputs[0] < 0
    if spec.kind != "relu" or actual.shape != inputs[0].shape:
        return
    if below.any() and np.isfinite(actual).all():
        x, y = inputs[0][below], actual[below]
        slope = float(f"{(x * y).sum() / (x**2).sum():.5g}")
        words = f"leaky relu with a slope of {slope:g} instead of relu"
        yield words, spec.with_settings(activation="leaky relu", slope=slope)


def drop_term(spec: StageSpec) -> Variants:
    yield "the shortcut is not added", spec.with_settings(factors=(1, 0))
    yield "the main path is not added", spec.with_settings(factors=(0, 1))


def vary_factors(spec: StageSpec) -> Variants:
    """Residual scaling, and other sums of two terms."""
    for factor in (0.1, 0.2, 0.3, 0.5, 2.0):
        words = f"the main path is multiplied by {factor:g} before the sum"
        yield words, spec.with_settings(factors=(factor, 1))
        words = f"the shortcut is multiplied by {factor:g} before the sum"
        yield words, spec.with_settings(factors=(1, factor))
    yield "the mean of both paths instead of their sum", spec.with_settings(factors=(0.5, 0.5))
    half = 0.5**0.5
    yield "the sum is divided by the root of 2", spec.with_settings(factors=(half, half))
    yield "the shortcut is subtracted", spec.with_settings(factors=(1, -1))
    yield "the main path is subtracted", spec.with_settings(factors=(-1, 1))
    yield "the main path is added twice", spec.with_settings(factors=(2, 0))


def solve_factors(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    if len(inputs) != 2 or inputs[0].shape != actual.shape:
        return
    if not all(np.isfinite(array).all() for array in (*inputs, actual)):
        return
    columns = np.stack([np.broadcast_to(x, actual.shape).ravel() for x in inputs], 1)
    found = np.linalg.lstsq(columns, actual.ravel(), rcond=None)[0]
    factors = tuple(float(f"{factor:.5g}") for factor in found)
    words = f"the main path is multiplied by {factors[0]:g} and the shortcut by {factors[1]:g}"
    yield words, spec.with_settings(factors=factors)


GATINGS = {
    "x (1 + g)": "multiplies by 1 + gate instead of the gate",
    "x + g": "adds the gate instead of multiplying by it",
    "2 x g": "multiplies by twice the gate",
    "x": "the gate is not applied",
    "g": "gives the gate alone, without multiplying by it",
    "x g g": "the gate is applied twice",
    "x (1 - g)": "multiplies by 1 - gate instead of the gate",
}


def vary_gate(spec: StageSpec) -> Variants:
    for formula, words in GATINGS.items():
        yield words, spec.with_settings(formula=formula)


def solve_gate(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """A factor and an offset of the product: scale * x * gate."""
    product = inputs[0] * inputs[1]
    if product.shape != actual.shape:
        return
    if np.isfinite(product).all() and np.isfinite(actual).all() and np.any(product):
        factor = float(f"{(product * actual).sum() / (product**2).sum():.5g}")
        words = f"the product with the gate is multiplied by {factor:g}"
        yield words, spec.with_settings(factor=factor)


# Pooling


def vary_pooling(spec: StageSpec) -> Variants:
    kernel, padding = spec["kernel"], (*spec["padding"], *(spec["after"] or ()))
    size = " x ".join(map(str, kernel))
    words = f"the average of {size} pixels instead of their maximum"
    if max(padding) > 0:
        yield f"{words}, counting the padding", spec.with_settings(pooling="counting")
        yield f"{words}, not counting the padding", spec.with_settings(pooling="present")
    else:
        yield words, spec.with_settings(pooling="present")
    for name, changed in _resize_windows(spec):
        yield name, changed
        for pooling in ("counting", "present"):
            yield f"{name}, by average ({pooling})", changed.with_settings(pooling=pooling)


def _resize_windows(spec: StageSpec) -> Variants:
    after = spec["after"]
    if max(spec["padding"]) > 0 and not after:
        words = "pads as SAME does in TensorFlow and JAX, with an odd pixel at the end, instead of "
        yield f"{words}{spec['padding']} on both sides", spec.with_settings(same=True)
    if max(spec["padding"]) > 0:
        words = "does not pad, and looks beyond the end (ceil mode), instead of padding"
        yield words, spec.with_settings(padding=(0, 0), after=None, ceil=True)
    usual = f"{spec['padding']} before and {after} after" if after else spec["padding"]
    for extent in (1, 2, 3, 4, 5):
        for margin in (0, 1, 2)[: 1 + extent // 2]:
            same = (extent, extent) == tuple(spec["kernel"])
            if same and ((margin, margin) == tuple(spec["padding"]) or not after):
                continue
            words = f"pools {extent} x {extent} pixels, padded by {margin}, instead of "
            words += f"{' x '.join(map(str, spec['kernel']))}, padded by {usual}"
            window = {"kernel": (extent, extent), "padding": (margin, margin), "after": None}
            yield words, spec.with_settings(**window)


REDUCED = {
    "average": "the average",
    "maximum": "the maximum",
    "sum": "the sum",
    "deviation": "the deviation",
    "average and maximum": "average + maximum",
    "middle": "the mean of average and maximum",
}


def vary_reduction(spec: StageSpec) -> Variants:
    for kind, words in REDUCED.items():
        if kind != spec.kind:
            yield f"{words} instead of {REDUCED[spec.kind]}", spec.with_settings(reduction=kind)

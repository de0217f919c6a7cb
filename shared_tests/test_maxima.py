"""Maxima: the slope goes to one place, also among equal values, and whatever a compiler does."""

from __future__ import annotations

import numpy as np
import pytest

from resattn.checking.backends import precise
from weights.live import part

# Channels last; many values are equal, as those that a relu made 0.
X = np.maximum(np.random.default_rng(0).integers(-3, 3, (2, 4, 5, 3)), 0).astype("float64")
AXES = {"positions": (1, 2), "channels": (3,), "rows": (1,)}
FIRST = {  # PyTorch's axes
    "positions": [2, 3], "channels": [1], "rows": [2],
}  # fmt: skip


def first_places(over):
    """1 at the first of equal maxima, row by row, as in the oracle."""
    last = range(-len(AXES[over]), 0)
    flat = np.moveaxis(X, AXES[over], last)
    shape = flat.shape
    flat = flat.reshape(*shape[: -len(last)], -1)
    found = np.zeros_like(flat)
    np.put_along_axis(found, flat.argmax(-1, keepdims=True), 1, -1)
    return np.moveaxis(found.reshape(shape), last, AXES[over])


def value_and_slope(framework, over, x=X):
    """The maximum, and the gradient of the sum of its values, each times another number."""
    maximum = part(framework, "maxima").maximum
    factor = np.arange(1.0, 1 + x.max(AXES[over], keepdims=True).size)
    factor = factor.reshape(x.max(AXES[over], keepdims=True).shape)
    if framework == "torch":
        import torch

        image = torch.tensor(np.moveaxis(x, -1, 1), requires_grad=True)
        y = maximum(image, FIRST[over])
        (y * torch.tensor(np.moveaxis(factor, -1, 1))).sum().backward()
        return (np.moveaxis(each.detach().numpy(), 1, -1) for each in (y, image.grad)), factor
    if framework == "jax":
        import jax

        y = maximum(jax.numpy.asarray(x), list(AXES[over]))
        slope = jax.grad(lambda x: (maximum(x, list(AXES[over])) * factor).sum())
        return (np.asarray(each) for each in (y, slope(jax.numpy.asarray(x)))), factor
    return _keras_value_and_slope(maximum, over, x, factor), factor


def _keras_value_and_slope(maximum, over, x, factor):
    import keras

    native = part("tf", "bridge.native")
    layer = keras.layers.Layer(dtype="float64")
    y, slope, _ = native.pullback(
        layer,
        lambda x: maximum(x, list(AXES[over])),
        [],
        keras.ops.convert_to_tensor(x),
        keras.ops.convert_to_tensor(factor),
    )
    return native.to_canonical(y, False), native.to_canonical(slope, False)


@pytest.mark.parametrize("over", AXES)
def test_one_place_takes_the_slope(framework, over):
    with precise((framework,), "float64"):
        (y, slope), factor = value_and_slope(framework, over)
    expected = X.max(AXES[over], keepdims=True)
    assert y.dtype == slope.dtype == np.float64
    assert (y == expected).all()
    assert ((slope != 0).sum(AXES[over]) == 1).all()
    assert (slope == factor * first_places(over)).all()


@pytest.mark.parametrize("over", FIRST)
def test_without_gradients_the_same_values(torch, over):
    maximum, x = part("torch", "maxima").maximum, torch.tensor(np.moveaxis(X, -1, 1))
    with torch.no_grad():
        plain = maximum(x, FIRST[over])
    assert torch.equal(plain, maximum(x, FIRST[over]))


@pytest.mark.parametrize("over", AXES)
def test_values_that_xla_computed_otherwise(jax, over):
    """Where none equals the maximum, the place is found by comparing them."""
    module, x = part("jax", "maxima"), jax.numpy.asarray(X, "float32")
    number = jax.numpy.arange(x.size).reshape(x.shape).astype("int32")
    peak = x.max(AXES[over], keepdims=True)
    right = module._find_greatest(AXES[over], x, peak, number)
    assert (module._find_equal(AXES[over], x, peak, number) == right).all()
    assert (module._find_equal(AXES[over], x, peak + 1e-3, number) == right).all()
    assert (jax.numpy.take(x, right) == peak).all()


def test_values_that_xla_computed_otherwise_in_keras(keras):
    module, x = part("tf", "maxima"), keras.ops.convert_to_tensor(X.astype("float32"))
    numbers = keras.ops.reshape(keras.ops.arange(3, dtype="int32"), (1, 1, 1, 3))
    peak = keras.ops.max(x, axis=3, keepdims=True)
    right = X.argmax(3, keepdims=True)
    for other in (peak, peak + 1e-3):
        found = module._find_equal(x, other, numbers, 3)
        assert (keras.ops.convert_to_numpy(found) == right).all()


def test_jaxs_transformations(jax):
    """Forward mode, second derivatives, vmap and jit give what they give for x.max."""
    maximum = part("jax", "maxima").maximum
    x = np.random.default_rng(1).normal(size=X.shape).astype("float32")

    def ours(x):
        return (maximum(jax.numpy.sin(x), [0, 1]) ** 2).sum()

    def theirs(x):
        return (jax.numpy.sin(x).max((0, 1)) ** 2).sum()

    for change in (jax.grad, jax.hessian, jax.jacfwd, lambda f: jax.jit(jax.grad(f))):
        found, expected = (jax.vmap(change(function))(x) for function in (ours, theirs))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_pytorchs_transformations(torch):
    maximum = part("torch", "maxima").maximum
    x = torch.tensor(np.random.default_rng(1).normal(size=X.shape))

    def ours(x):
        return (maximum(x.sin(), [1, 2]) ** 2).sum()

    def theirs(x):
        return (x.sin().amax((1, 2)) ** 2).sum()

    for change in (torch.func.grad, torch.func.hessian, torch.func.jacfwd):
        found, expected = (torch.func.vmap(change(function))(x[None])
                           for function in (lambda x: ours(x), theirs))  # fmt: skip
        torch.testing.assert_close(found, expected)

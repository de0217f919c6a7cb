"""JAX on CPU convolves small maps by patches and a matrix product. It must be the same function."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from weights import BlockConfig
from weights.graph import graph

MAPS = ((1, 1), (2, 1), (1, 3), (5, 4), (9, 8))
KERNELS = ((1, 1), (3, 3), (5, 3), (1, 7))
STRIDES = ((1, 1), (2, 1), (2, 3))
NHWC = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}


def draw(jax, shape, kernel, channels=(3, 4), batch=2):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, *shape, channels[0]))
    return jax.numpy.asarray(x), jax.numpy.asarray(rng.normal(size=(*kernel, *channels)))


@pytest.mark.parametrize("strides", STRIDES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", MAPS)
def test_patches(jax, shape, kernel, strides):
    from jax_impl.layers import _convolve_patches

    padding = [(size // 2, size // 2) for size in kernel]
    with jax.enable_x64(True):
        x, weight = draw(jax, shape, kernel)
        expected, pull = jax.vjp(
            lambda x, w: jax.lax.conv_general_dilated(x, w, strides, padding, **NHWC), x, weight
        )
        found, pull_found = jax.vjp(
            lambda x, w: _convolve_patches(x, w, strides, padding), x, weight
        )
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
        slope = draw(jax, expected.shape[1:3], (1, 1), (4, 4))[0]
        for one, other in zip(pull(slope), pull_found(slope), strict=True):
            np.testing.assert_allclose(other, one, rtol=0, atol=1e-12)


def primitives(jax, batch, size, channels, kernel=(3, 3), stride=(1, 1), **changes):
    from jax_impl.layers import convolve

    settings = {"feature_group_count": 1, "rhs_dilation": (1, 1), **NHWC, **changes}
    padding = [(reach // 2, reach // 2) for reach in kernel]
    run = partial(convolve, window_strides=stride, padding=padding, **settings)
    groups = settings["feature_group_count"]
    x = jax.ShapeDtypeStruct((batch, *size, channels[0]), "float32")
    weight = jax.ShapeDtypeStruct((*kernel, channels[0] // groups, channels[1]), "float32")
    return {equation.primitive.name for equation in jax.make_jaxpr(run)(x, weight).eqns}


@pytest.mark.parametrize(
    ("arguments", "by_patches"),
    [
        ((8, (2, 2), (512, 512)), True),
        ((8, (2, 9), (64, 64)), True),
        ((1, (1, 1), (64, 128)), True),
        ((8, (7, 7), (512, 512)), True),
        ((8, (14, 14), (256, 512), (3, 3), (2, 2)), True),
        ((8, (8, 8), (512, 512)), False),
        ((8, (2, 2), (32, 64)), False),
        ((8, (3, 3), (64, 64)), False),
        ((1, (56, 56), (64, 64)), False),
    ],
)
def test_choice(jax, arguments, by_patches):
    found = primitives(jax, *arguments)
    assert ("dot_general" in found) == by_patches
    assert ("conv_general_dilated" in found) != by_patches


@pytest.mark.parametrize("changes", [{"feature_group_count": 2}, {"rhs_dilation": (2, 2)}])
def test_groups_and_dilation(jax, changes):
    assert "conv_general_dilated" in primitives(jax, 8, (2, 2), (512, 512), **changes)


def test_accelerators(jax, monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert "conv_general_dilated" in primitives(jax, 8, (2, 2), (512, 512))


def test_block_with_small_maps(backend):
    """64 channels on a map of 2 x 1: the size at which the choice changes."""
    from shared_tests.test_forward import check_forward

    check_forward(backend, BlockConfig(64, 64), (2, 1), "float64", batch=3)


def test_reading_small_maps(jax):
    """The graph of a model is read with XLA's own convolution."""
    from resattn.checking.backends import Backend
    from resattn.checking.draws import random_arrays
    from resattn.reading.compare import first_difference
    from resattn.reading.drawn import read_drawing
    from resattn.reading.models import read_operations

    config = BlockConfig(64, 64, attention="none")
    model = Backend("jax", "cpu").build(config, random_arrays(config))
    model.eval()
    drawn = read_drawing(graph(config, (2, 2)))
    assert first_difference("jax", read_operations(model, (2, 2)), drawn) is None

"""Poolings, and what pads and drops pixels. Nothing is left to a framework's default."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from jax_impl import axes
from jax_impl.inputs import check_maps
from jax_impl.layers import cast_like, widen
from jax_impl.shapes import Maps, NewMaps, ResizedMaps
from weights.checks import Pair
from weights.operations import same_padding
from weights.stages import stage


@stage
def pad_same(x: Maps, kernel_size: Pair, stride: Pair, dilation: Pair) -> ResizedMaps:
    """Zeros around the map by TensorFlow's rule SAME, see `weights.operations.same_padding`."""
    rows, cols = _same_margins(x, kernel_size, stride, dilation)
    return jnp.pad(x, ((0, 0), rows, cols, (0, 0)))


def _same_margins(x: Maps, kernel_size: Pair, stride: Pair, dilation: Pair) -> list[Pair]:
    sizes = (x.shape[axes.ROWS], x.shape[axes.COLS])
    windows = zip(sizes, kernel_size, stride, dilation, strict=True)
    return [same_padding(n, apart * (k - 1) + 1, step) for n, k, step, apart in windows]


def _pool_maxima(x: Maps, size: int, stride: int, padding: list[Pair]) -> ResizedMaps:
    """padding: of -inf, before and after each axis."""
    return nnx.max_pool(x, (size, size), (stride, stride), padding)


@stage
def max_pool(x: Maps) -> ResizedMaps:
    """3x3 maximum with stride 2 and padding 1 of -inf on all four sides.

    He et al. 2015, table 1, with PyTorch's padding.
    """
    return _pool_maxima(x, 3, 2, [(1, 1), (1, 1)])


@stage
def max_pool_2x2(x: Maps) -> ResizedMaps:
    """2x2 maximum with stride 2. An odd last row or column is dropped."""
    return _pool_maxima(x, 2, 2, [(0, 0), (0, 0)])


@stage
def max_pool_dense(x: Maps) -> Maps:
    """3x3 maximum without stride, with padding 1 of -inf on all four sides."""
    return _pool_maxima(x, 3, 1, [(1, 1), (1, 1)])


@stage
def max_pool_ceil(x: Maps) -> ResizedMaps:
    """3x3 maximum with stride 2 and no padding; a last window may reach over the edge (Caffe)."""
    check_maps(x, "max_pool_ceil", least=(2, 4))
    after = [(0, (x.shape[axis] - 3) % 2) for axis in (axes.ROWS, axes.COLS)]
    return _pool_maxima(x, 3, 2, after)


@stage
def max_pool_same(x: Maps) -> ResizedMaps:
    """3x3 maximum with stride 2 and the padding of `pad_same`, of -inf."""
    return _pool_maxima(x, 3, 2, _same_margins(x, (3, 3), (2, 2), (1, 1)))


@stage
def average_pool(x: Maps, stride: Pair, ceil: bool) -> ResizedMaps:
    """The mean of windows of the size of the stride.

    ceil: whether an odd last row or column has a window of its own, the mean of the pixels that are
        there; else it is dropped.
    """
    if not ceil:
        check_maps(x, "average_pool", least=(2, 4))
    sizes = (x.shape[axes.ROWS], x.shape[axes.COLS])
    after = [(0, -n % step if ceil else 0) for n, step in zip(sizes, stride, strict=True)]
    y = nnx.avg_pool(widen(x), stride, stride, after, count_include_pad=False)
    return cast_like(y, x)


@stage
def blur_pool(x: Maps, stride: Pair) -> ResizedMaps:
    """A 3x3 binomial filter at every stride-th pixel (Zhang 2019, Making Convolutional Networks
    Shift-Invariant Again, section 3.2). At its edges the image is reflected.
    """
    check_maps(x, "blur_pool", least=(2, 4))
    wide = widen(x)
    channels = x.shape[axes.CHANNELS]
    row = jnp.asarray([1.0, 2.0, 1.0], wide.dtype) / 4
    kernel = jnp.tile((row[:, None] * row)[:, :, None, None], (1, 1, 1, channels))
    y = jax.lax.conv_general_dilated(
        jnp.pad(wide, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect"),
        kernel,
        stride,
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )
    return cast_like(y, x)


@stage
def subsample(x: Maps, stride: Pair, channels: int) -> NewMaps:
    """Every stride-th pixel, and channels of zeros on both sides of those that there are (He et al.
    2015, section 4.2, option A).

    channels: of the output. Of an odd number of new channels one more is after the others.
    """
    added = channels - x.shape[axes.CHANNELS]
    kept = x[:, :: stride[0], :: stride[1]]
    return jnp.pad(kept, ((0, 0), (0, 0), (0, 0), (added // 2, added - added // 2)))


@stage
def average_around(x: Maps, extent: int) -> ResizedMaps:
    """At every extent-th pixel, the mean of the pixels less than `extent` rows and columns away.

    Only pixels inside the image count.
    """
    window, margin = (2 * extent - 1, 2 * extent - 1), (extent - 1, extent - 1)
    y = nnx.avg_pool(widen(x), window, (extent, extent), (margin, margin), count_include_pad=False)
    return cast_like(y, x)

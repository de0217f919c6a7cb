"""Poolings, and what pads and drops pixels. Nothing is left to a framework's default.

Keras' poolings pad as TensorFlow does, so these pad by themselves. Sizes may be tensors, where they
are not known before the graph runs.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from tf_impl import axes
from tf_impl.inputs import check_maps
from tf_impl.layers import cast_like, widen
from tf_impl.shapes import Maps, NewMaps, ResizedMaps
from weights.checks import Pair
from weights.operations import same_padding
from weights.stages import stage


@stage
def pad_same(x: Maps, kernel_size: Pair, stride: Pair, dilation: Pair) -> ResizedMaps:
    """Zeros around the map by TensorFlow's rule SAME, see `weights.operations.same_padding`."""
    rows, cols = _same_margins(x, kernel_size, stride, dilation)
    return ops.pad(x, ((0, 0), rows, cols, (0, 0)))


def _same_margins(x: Maps, kernel_size: Pair, stride: Pair, dilation: Pair) -> list[Any]:
    windows = zip(_sizes(x), kernel_size, stride, dilation, strict=True)
    return [_margins(n, apart * (k - 1) + 1, step) for n, k, step, apart in windows]


def _margins(size: Any, reach: int, stride: int) -> Any:
    """`same_padding`, also of a size that is a tensor."""
    if isinstance(size, int):
        return same_padding(size, reach, stride)
    total = ops.maximum((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def _sizes(x: Maps) -> tuple[Any, Any]:
    shape = ops.shape(x)
    return shape[axes.ROWS], shape[axes.COLS]


def _pool_maxima(x: Maps, size: int, stride: int, padding: list[Any]) -> ResizedMaps:
    """padding: of -inf, before and after each axis."""
    x = ops.pad(x, ((0, 0), *padding, (0, 0)), constant_values=float("-inf"))
    return ops.max_pool(
        x, (size, size), (stride, stride), padding="valid", data_format="channels_last"
    )


@stage
def max_pool(x: Maps) -> ResizedMaps:
    """3x3 maximum with stride 2 and padding 1 of -inf on all four sides.

    He et al. 2015, table 1, with PyTorch's padding.
    """
    return _pool_maxima(x, 3, 2, [(1, 1), (1, 1)])


@stage
def max_pool_2x2(x: Maps) -> ResizedMaps:
    """2x2 maximum with stride 2. An odd last row or column is dropped."""
    return ops.max_pool(x, (2, 2), (2, 2), padding="valid", data_format="channels_last")


@stage
def max_pool_dense(x: Maps) -> Maps:
    """3x3 maximum without stride, with padding 1 of -inf on all four sides."""
    return _pool_maxima(x, 3, 1, [(1, 1), (1, 1)])


@stage
def max_pool_ceil(x: Maps) -> ResizedMaps:
    """3x3 maximum with stride 2 and no padding; a last window may reach over the edge (Caffe)."""
    check_maps(x, "max_pool_ceil", least=(2, 4))
    return _pool_maxima(x, 3, 2, [(0, (size - 3) % 2) for size in _sizes(x)])


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
    after = [(0, -n % step if ceil else 0) for n, step in zip(_sizes(x), stride, strict=True)]
    return _pool_averages(x, stride, stride, after)


@stage
def blur_pool(x: Maps, stride: Pair) -> ResizedMaps:
    """A 3x3 binomial filter at every stride-th pixel (Zhang 2019, Making Convolutional Networks
    Shift-Invariant Again, section 3.2). At its edges the image is reflected.
    """
    check_maps(x, "blur_pool", least=(2, 4))
    y = widen(x)
    row = ops.convert_to_tensor([1.0, 2.0, 1.0], y.dtype) / 4
    channels = x.shape[axes.CHANNELS]
    kernel = ops.tile((row[:, None] * row)[:, :, None, None], (1, 1, channels, 1))
    # Not ops.pad with "reflect": on PyTorch it takes no maps with channels last.
    y = ops.concatenate([y[:, 1:2], y, y[:, -2:-1]], axis=axes.ROWS)
    y = ops.concatenate([y[:, :, 1:2], y, y[:, :, -2:-1]], axis=axes.COLS)
    y = ops.depthwise_conv(y, kernel, stride, padding="valid", data_format="channels_last")
    return cast_like(y, x)


@stage
def subsample(x: Maps, stride: Pair, channels: int) -> NewMaps:
    """Every stride-th pixel, and channels of zeros on both sides of those that there are (He et al.
    2015, section 4.2, option A).

    channels: of the output. Of an odd number of new channels one more is after the others.
    """
    added = channels - x.shape[axes.CHANNELS]
    kept = x[:, :: stride[0], :: stride[1]]
    return ops.pad(kept, ((0, 0), (0, 0), (0, 0), (added // 2, added - added // 2)))


@stage
def average_around(x: Maps, extent: int) -> ResizedMaps:
    """At every extent-th pixel, the mean of the pixels less than `extent` rows and columns away.

    Only pixels inside the image count.
    """
    window, margin = (2 * extent - 1, 2 * extent - 1), (extent - 1, extent - 1)
    return _pool_averages(x, window, (extent, extent), [margin, margin])


def _pool_averages(x: Maps, size: Pair, stride: Pair, padding: list[Any]) -> ResizedMaps:
    """The mean of the pixels inside the image: that of the window by the share that is inside."""
    margins = ((0, 0), *padding, (0, 0))
    window: dict[str, Any] = {
        "pool_size": size,
        "strides": stride,
        "padding": "valid",
        "data_format": "channels_last",
    }
    wide = widen(x)
    share = ops.average_pool(ops.pad(ops.ones_like(wide[:1, :, :, :1]), margins), **window)
    return cast_like(ops.average_pool(ops.pad(wide, margins), **window) / share, x)

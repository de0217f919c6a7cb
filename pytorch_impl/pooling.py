"""Poolings, and what pads and drops pixels. Nothing is left to a framework's default."""

from __future__ import annotations

import torch
from torch.nn import functional

from pytorch_impl import axes
from pytorch_impl.inputs import check_maps
from pytorch_impl.shapes import Maps, NewMaps, ResizedMaps
from weights.checks import Pair
from weights.operations import same_padding
from weights.stages import stage


@stage
def pad_same(x: Maps, kernel_size: Pair, stride: Pair, dilation: Pair) -> ResizedMaps:
    """Zeros around the map by TensorFlow's rule SAME, see `weights.operations.same_padding`."""
    (top, bottom), (left, right) = _same_margins(x, kernel_size, stride, dilation)
    return functional.pad(x, (left, right, top, bottom))


def _same_margins(x: Maps, kernel_size: Pair, stride: Pair, dilation: Pair) -> list[Pair]:
    sizes = (x.shape[axes.ROWS], x.shape[axes.COLS])
    windows = zip(sizes, kernel_size, stride, dilation, strict=True)
    return [same_padding(n, apart * (k - 1) + 1, step) for n, k, step, apart in windows]


@stage
def max_pool(x: Maps) -> ResizedMaps:
    """3x3 maximum with stride 2 and padding 1 of -inf on all four sides.

    He et al. 2015, table 1, with PyTorch's padding.
    """
    return functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)


@stage
def max_pool_2x2(x: Maps) -> ResizedMaps:
    """2x2 maximum with stride 2. An odd last row or column is dropped."""
    return functional.max_pool2d(x, kernel_size=2, stride=2)


@stage
def max_pool_dense(x: Maps) -> Maps:
    """3x3 maximum without stride, with padding 1 of -inf on all four sides."""
    return functional.max_pool2d(x, kernel_size=3, stride=1, padding=1)


@stage
def max_pool_ceil(x: Maps) -> ResizedMaps:
    """3x3 maximum with stride 2 and no padding; a last window may reach over the edge (Caffe)."""
    check_maps(x, "max_pool_ceil", least=(2, 4))
    return functional.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)


@stage
def max_pool_same(x: Maps) -> ResizedMaps:
    """3x3 maximum with stride 2 and the padding of `pad_same`, of -inf."""
    (top, bottom), (left, right) = _same_margins(x, (3, 3), (2, 2), (1, 1))
    x = functional.pad(x, (left, right, top, bottom), value=-torch.inf)
    return functional.max_pool2d(x, kernel_size=3, stride=2)


@stage
def average_pool(x: Maps, stride: Pair, ceil: bool) -> ResizedMaps:
    """The mean of windows of the size of the stride.

    ceil: whether an odd last row or column has a window of its own, the mean of the pixels that are
        there; else it is dropped.
    """
    if not ceil:
        check_maps(x, "average_pool", least=(2, 4))
    return functional.avg_pool2d(x, stride, stride, ceil_mode=ceil, count_include_pad=False)


@stage
def blur_pool(x: Maps, stride: Pair) -> ResizedMaps:
    """A 3x3 binomial filter at every stride-th pixel (Zhang 2019, Making Convolutional Networks
    Shift-Invariant Again, section 3.2). At its edges the image is reflected.
    """
    check_maps(x, "blur_pool", least=(2, 4))
    channels = x.shape[axes.CHANNELS]
    row = x.new_tensor([1.0, 2.0, 1.0]) / 4
    kernel = (row[:, None] * row).expand(channels, 1, 3, 3)
    padded = functional.pad(x, (1, 1, 1, 1), mode="reflect")
    return functional.conv2d(padded, kernel, stride=stride, groups=channels)


@stage
def subsample(x: Maps, stride: Pair, channels: int) -> NewMaps:
    """Every stride-th pixel, and channels of zeros on both sides of those that there are (He et al.
    2015, section 4.2, option A).

    channels: of the output. Of an odd number of new channels one more is after the others.
    """
    added = channels - x.shape[axes.CHANNELS]
    kept = x[:, :, :: stride[0], :: stride[1]]
    return functional.pad(kept, (0, 0, 0, 0, added // 2, added - added // 2))


@stage
def average_around(x: Maps, extent: int) -> ResizedMaps:
    """At every extent-th pixel, the mean of the pixels less than `extent` rows and columns away.

    Only pixels inside the image count.
    """
    return functional.avg_pool2d(x, 2 * extent - 1, extent, extent - 1, count_include_pad=False)

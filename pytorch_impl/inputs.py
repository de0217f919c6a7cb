"""Checks of a model's inputs, with the messages of `weights.checks`."""

from __future__ import annotations

import torch
from torch import fx

from pytorch_impl import axes
from pytorch_impl.shapes import Maps, NewMaps
from weights.checks import check_format, check_input, check_map, check_statistics, check_sum

# torch.jit.script and torch.fx.symbolic_trace know no sizes, so what they make checks none. The
# first does not read the body of `if not torch.jit.is_scripting()`, but it reads a whole condition.


def check_images(x: Maps, channels: int) -> None:
    """Raises ValueError unless x has the axes of maps, that many channels, no size of 0, and a
    dtype of `IMAGE_FORMATS`.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102
        if not isinstance(x, fx.Proxy):
            check_input(x.shape, "batch channels height width", channels)
            check_format(str(x.dtype)[6:])  # without "torch."


def check_maps(
    x: Maps, kind: str, size: tuple[int, int] | None = None, least: tuple[int, int] = (1, 1)
) -> None:
    """Raises ValueError unless an attention module of that kind can use maps of the size of x.

    size: the only size it can use. least: how many (rows or columns, positions) it needs.
    """
    if not torch.jit.is_scripting():  # noqa: SIM102
        if not isinstance(x, fx.Proxy):
            check_map(kind, x.shape[axes.ROWS], x.shape[axes.COLS], size=size, least=least)


def check_paths(main: NewMaps, shortcut: NewMaps) -> None:
    """Raises ValueError where main path and shortcut of a block end at different sizes."""
    if not torch.jit.is_scripting():  # noqa: SIM102
        if not isinstance(main, fx.Proxy):
            check_sum(main.shape[axes.ROWS :], shortcut.shape[axes.ROWS :])


def check_batch(x: Maps) -> None:
    """Raises ValueError when a batch norm in training gets fewer than two values per channel."""
    if not torch.jit.is_scripting():  # noqa: SIM102
        if not isinstance(x, fx.Proxy):
            check_statistics(x.shape[axes.BATCH] * x.shape[axes.ROWS] * x.shape[axes.COLS])

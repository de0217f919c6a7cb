"""What a model says about an input it cannot use: the same words in all three frameworks."""

from collections.abc import Sequence
from typing import Any


def check_input(shape: Sequence[int | None], axes: str, channels: int) -> None:
    """Raises ValueError unless `shape` has the axes named in `axes` and that many channels. None is
    a size not known yet.
    """
    names = axes.split()
    if len(shape) != len(names) or shape[names.index("channels")] not in (channels, None):
        expected = ", ".join(str(channels) if name == "channels" else name for name in names)
        raise ValueError(f"input: expected ({expected}), got {tuple(shape)}")


def check_statistics(count: int) -> None:
    """Raises ValueError when a batch norm in training has fewer than two values a channel: their
    variance is not defined.
    """
    if count < 2:
        raise ValueError(
            "batch norm in training: expected more than one value per channel, got batch x height "
            f"x width = {count}; use a larger batch or image, or evaluation mode"
        )


def check_map(
    what: str,
    rows: Any,
    cols: Any,
    *,
    size: tuple[int, int] | None = None,
    least: tuple[int, int] = (1, 1),
) -> None:
    """Raises ValueError unless an attention module can use a map of rows x cols. None, or a tensor,
    is a size not known yet.

    size: the only one it can use. least: (sizes along each axis, positions in all) that it needs at
    least.
    """
    if not isinstance(rows, int) or not isinstance(cols, int):
        return
    if size is not None and (rows, cols) != tuple(size):
        raise ValueError(
            f"{what}: was made for maps of {size[0]} x {size[1]} (height x width) by its option "
            f"size, got {rows} x {cols}"
        )
    if min(rows, cols) < least[0] or rows * cols < least[1]:
        need = (
            f"{least[0]} or more along each axis"
            if least[0] > 1
            else f"maps of {least[1]} or more positions"
        )
        raise ValueError(f"{what}: expected {need}, got {rows} x {cols} (height x width)")

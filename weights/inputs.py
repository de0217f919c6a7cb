"""What a model says about an input it cannot use: the same words in all three frameworks."""

from collections.abc import Sequence


def check_input(shape: Sequence[int | None], axes: str, channels: int) -> None:
    """Raises ValueError unless `shape` has the axes named in `axes` and that many channels. None is a size not known yet."""
    names = axes.split()
    if len(shape) != len(names) or shape[names.index("channels")] not in (channels, None):
        expected = ", ".join(str(channels) if name == "channels" else name for name in names)
        raise ValueError(f"input: expected ({expected}), got {tuple(shape)}")


def check_statistics(count: int) -> None:
    """Raises ValueError when a batch norm in training has fewer than two values a channel: their variance is not defined."""
    if count < 2:
        raise ValueError(
            f"batch norm in training: expected more than one value per channel, got batch x height x width = {count}; use a "
            f"larger batch or image, or evaluation mode"
        )

"""Devices by name, the same names in every framework: "cpu" and "cuda"."""

from __future__ import annotations

from collections.abc import Sequence

from weights.errors import ArgumentError
from weights.language import say


def check_device(device: str | None, available: Sequence[str], label: str) -> None:
    """Raises ArgumentError for a device that a framework does not see here.

    device: None for the framework's own choice. label: of the framework.
    """
    if device is None or device in available:
        return
    found = say(
        "device {device!r}: {framework} sees only {available} on this machine",
        device=device,
        framework=label,
        available=" and ".join(available),
    )
    if device == "cuda":
        raise ArgumentError(
            say(
                "{found}; install a build of it for CUDA and the driver of the GPU, or use 'cpu'",
                found=found,
            )
        )
    choice = " or ".join(map(repr, available))
    raise ArgumentError(
        say(
            "{found}; use {choice}, or None for the framework's own choice",
            found=found,
            choice=choice,
        )
    )

"""Devices by name, the same names in every framework: "cpu" and "cuda"."""

from __future__ import annotations

from collections.abc import Sequence

from weights.errors import ArgumentError


def check_device(device: str | None, available: Sequence[str], label: str) -> None:
    """Raises ArgumentError for a device that a framework does not see here.

    device: None for the framework's own choice. label: of the framework.
    """
    if device is None or device in available:
        return
    found = f"device {device!r}: {label} sees only {' and '.join(available)} on this machine"
    if device == "cuda":
        raise ArgumentError(
            f"{found}; install a build of it for CUDA and the driver of the GPU, or use 'cpu'"
        )
    choice = " or ".join(map(repr, available))
    raise ArgumentError(f"{found}; use {choice}, or None for the framework's own choice")

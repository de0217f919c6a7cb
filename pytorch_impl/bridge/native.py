"""Modes, devices and arrays of PyTorch, for the adapter, the recorder and the training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weights.convert import BFLOAT16
from weights.errors import ArgumentError


@contextmanager
def training_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Within it, the model trains or infers. Restores the mode of every part on exit."""
    modes = {module: getattr(module, "training", None) for module in model.modules()}
    before = {module: mode for module, mode in modes.items() if mode is not None}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


def to_native(model: nn.Module, array: np.ndarray) -> Tensor:
    """A canonical array as a tensor on the model's device."""
    parameter = next(model.parameters(), None)
    return from_numpy(array).to(None if parameter is None else parameter.device)


def to_canonical(value: Tensor, is_map: bool = True) -> np.ndarray:
    """A tensor as a canonical array. PyTorch's order of axes is the canonical one."""
    return to_numpy(value)


def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor with a copy of the values. The array may have any byte order and be read-only."""
    array = np.array(array, array.dtype.newbyteorder("="), order="C")
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_numpy(leaf: Tensor) -> np.ndarray:
    """A parameter as a NumPy array in the framework's layout."""
    if hasattr(leaf, "placements"):
        raise ArgumentError(
            "the model: its parameters are divided over processes; pytorch_impl.sharding.gather "
            "puts them together"
        )
    leaf = leaf.detach().cpu()
    if leaf.dtype == torch.bfloat16:
        array: Any = leaf.view(torch.int16).numpy().view(BFLOAT16)
        return array
    return leaf.numpy()


def lower_dtype(model: nn.Module) -> str | None:
    """The dtype of the autocast that `adapter.create` has put around the model's forward method."""
    forward: Any = vars(getattr(model, "_orig_mod", model)).get("forward")
    for cell in getattr(forward, "__closure__", None) or ():
        if isinstance(cell.cell_contents, torch.autocast):
            return str(cell.cell_contents.fast_dtype).removeprefix("torch.")
    return None

"""Models that are not ours <-> NumPy, by their own names and in their own axis orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from pytorch_impl.bridge.native import from_numpy, to_numpy
from weights.checks import Pair, pair_of
from weights.frameworks import FRAMEWORKS


def foreign_arrays(model: nn.Module) -> dict[str, np.ndarray]:
    """The parameters and statistics of any model, by its own names."""
    return {name: to_numpy(value) for name, value in model.state_dict().items()}


def foreign_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of any model by their paths in it; the model itself is ""."""
    return dict(model.named_modules())


def foreign_variables(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers of any model by their paths in it."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def foreign_strides(model: nn.Module) -> dict[str, tuple[Pair, Pair]]:
    """The stride and the dilation of each 2-d convolution, by its own name."""
    return {
        name: (_pair(module.stride), _pair(module.dilation))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    }


def assign_foreign(model: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Loads arrays into any model by its own names, strictly but for counters."""
    state = {name: from_numpy(array) for name, array in arrays.items()}
    held = model.state_dict()
    counters = {
        name: value
        for name, value in held.items()
        if name.rpartition(".")[2] in FRAMEWORKS["torch"].unread and name not in state
    }
    model.load_state_dict({**state, **counters}, strict=True)


def _pair(values: int | Sequence[int]) -> Pair:
    return pair_of("strides", tuple(values) if isinstance(values, Sequence) else values)

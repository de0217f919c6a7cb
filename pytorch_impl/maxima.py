"""Maxima: a plain forward pass, and a slope that goes to one place, by index."""

from __future__ import annotations

import torch
from torch import fx

from pytorch_impl.shapes import AnyValues, Values
from weights.stages import stage


@stage
def maximum(x: AnyValues, over: list[int]) -> AnyValues:
    """The maximum over some axes, which keep size 1. Its gradient goes to one place, by index.

    Not amax where gradients are recorded: its gradient is shared by values equal to the maximum,
    and a value that a compiler computes twice need not be equal. Without gradients amax gives the
    same values without the index, 2 to 10 times faster on CPU.
    """
    return _greatest(x, over)


@fx.wrap
def _greatest(x: AnyValues, over: list[int]) -> AnyValues:
    """One step of a traced graph: whether gradients are recorded is asked when it runs."""
    if not torch.is_grad_enabled():
        return x.amax(over, keepdim=True)
    for axis in over[::-1]:  # the last axis is contiguous: twice as fast as the first one first
        x = x.max(dim=axis, keepdim=True).values
    return x


@stage
def greater(x: Values, y: Values) -> Values:
    """The greater of x and y, value by value."""
    return torch.maximum(x, y)

"""Sums over the processes of a group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


class _Sum(torch.autograd.Function):
    """torch.distributed.nn.functional.all_reduce computes the same, but PyTorch 2.13 warns that it
    will be removed.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        """Each part is in the results of all processes, so their slopes add up."""
        return sum_over_ranks(slopes[0])


def sum_over_ranks(part: Tensor) -> Tensor:
    """The sum of the parts of all processes, in each of them, with its gradient."""
    return _Sum.apply(part)

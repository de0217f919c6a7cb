"""What a model computes, stage by stage, forward and backward, as NumPy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from pytorch_impl.adapter import _mode, _tensor, to_numpy
from weights.layouts import LAYOUTS
from weights.tracing import Recorder, Recording, calls_recorded, functions_recorded, norm_statistics, resolve, stage_of

LAYOUT = LAYOUTS["torch"]


def trace(
    model: nn.Module,
    x: np.ndarray,
    cotangent: Callable[[tuple[int, ...]], np.ndarray],
    *,
    training: bool,
    last: str = "output",
    stages: Mapping[str, str] | None = None,
) -> Recording:
    """Every stage's output, and the gradient of sum(output * cotangent) with respect to it. The model is left as it was.

    model: ours, or with `stages` any module: {stage: path of the module whose output it is}. x: (batch, channels, height,
    width). cotangent: makes the slopes of the output from its shape. last: the stage that the model's own output is.
    Raises ValueError for a path that does not exist.
    """
    modules = _named(model, stages, last)
    recorder = Recorder({id(module): name for name, module in modules.items()}, last, every=stages is None)
    image = _tensor(model, x).requires_grad_()
    recorder.know(image)
    ours = [module for name, module in sys.modules.items() if name.startswith("pytorch_impl.")]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with _mode(model, training), functions_recorded(recorder, ours), calls_recorded(recorder, [nn.Module]):
        model(image)
    statistics = {name: to_numpy(leaf).copy() for name, leaf in norm_statistics(LAYOUT, modules).items()}
    output = recorder.values[last]
    slope = torch.as_tensor(cotangent(tuple(output.shape)), dtype=output.dtype, device=output.device)
    sources = {"input": image, **recorder.values}
    slopes = torch.autograd.grad(output, list(sources.values()), slope, allow_unused=True)
    with torch.no_grad():  # not earlier: the gradients read them
        for buffer, before in buffers:
            buffer.copy_(before)
    return Recording(
        {name: to_numpy(value) for name, value in sources.items()},
        {
            name: to_numpy(value)
            for name, value in zip(sources, slopes, strict=True)
            if value is not None and name not in recorder.given
        },
        statistics,
        to_numpy(recorder.received),
    )


def _named(model: nn.Module, stages: Mapping[str, str] | None, last: str) -> dict[str, nn.Module]:
    """The modules that are stages; the model itself is "" unless another is the last stage."""
    if stages is None:
        return {stage_of(LAYOUT, name.split(".")): module for name, module in model.named_modules()}
    found = {stage: resolve(model, path, _part) for stage, path in stages.items()}
    return found if last in found else {"": model, **found}


def _part(module: nn.Module, name: str) -> nn.Module:
    return module[int(name)] if name.isdigit() and not hasattr(module, name) else getattr(module, name)

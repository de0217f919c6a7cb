"""What a model computes, stage by stage, forward and backward, as NumPy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from pytorch_impl.bridge.adapter import _mode, _tensor, to_numpy
from weights.frameworks import FRAMEWORKS
from weights.stages import (
    Recorder,
    Recording,
    calls_recorded,
    check_recorded,
    functions_recorded,
    mapped,
    norm_statistics,
    stage_of,
)

LAYOUT = FRAMEWORKS["torch"]


def trace(
    model: nn.Module,
    x: np.ndarray,
    cotangent: Callable[[tuple[int, ...]], np.ndarray],
    *,
    training: bool,
    last: str = "output",
    stages: Mapping[str, str] | None = None,
) -> Recording:
    """Every stage's output, and the gradient of sum(output * cotangent) with respect to it. The
    model is left as it was.

    model: ours, or with `stages` any module: {stage: path of the module whose output it is}. x:
    (batch, channels, height, width). cotangent: makes the slopes of the output from its shape.
    last: the stage that the model's own output is.
    Raises ValueError for a path that does not exist.
    """
    modules = _named(model, stages, last)
    names = {id(module): name for name, module in modules.items()}
    # In place, as nn.ReLU(inplace=True) works, a user's model would change what was recorded.
    own = {} if stages is None else {"copied": torch.clone}
    recorder = Recorder(names, last, every=stages is None, **own)
    image = _as_held(model, _tensor(model, x)).requires_grad_()
    recorder.know(image)
    ours = [module for name, module in sys.modules.items() if name.startswith("pytorch_impl.")]
    with _restored(model), torch.enable_grad():
        with (
            _mode(model, training),
            functions_recorded(recorder, ours),
            calls_recorded(recorder, [nn.Module]),
        ):
            model(image if stages is None else image.clone())
        check_recorded(recorder, last, stages)
        statistics = {
            name: to_numpy(leaf).copy() for name, leaf in norm_statistics(LAYOUT, modules).items()
        }
        output = recorder.values[last]
        slope = torch.as_tensor(
            cotangent(tuple(output.shape)), dtype=output.dtype, device=output.device
        )
        sources = {
            name: value
            for name, value in {"input": image, **recorder.values}.items()
            if value.requires_grad
        }
        slopes = (
            torch.autograd.grad(output, list(sources.values()), slope, allow_unused=True)
            if output.requires_grad
            else ()
        )
    return Recording(
        {name: to_numpy(value) for name, value in {"input": image, **recorder.values}.items()},
        {
            name: to_numpy(value)
            for name, value in zip(sources, slopes, strict=output.requires_grad)
            if value is not None and name not in recorder.given
        },
        statistics,
        None if recorder.received is None else to_numpy(recorder.received),
    )


@contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Behind it, what a training pass moves is as it was before."""
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _as_held(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    """An image in the dtype of the model's parameters."""
    held = next(model.parameters(), image)
    return image.to(held.dtype)


def _named(model: nn.Module, stages: Mapping[str, str] | None, last: str) -> dict[str, nn.Module]:
    """The modules that are stages; the model itself is "" unless another is the last stage."""
    if stages is None:
        return {stage_of(LAYOUT, name.split(".")): module for name, module in model.named_modules()}
    return mapped(model, stages, last, _part, nn.Module)


def _part(module: nn.Module, name: str) -> nn.Module:
    return (
        module[int(name)] if name.isdigit() and not hasattr(module, name) else getattr(module, name)
    )

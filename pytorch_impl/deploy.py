"""Inference as fast as PyTorch can."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from importlib import import_module
from types import FunctionType
from typing import Any

import torch
from torch import nn

from pytorch_impl.inputs import check_images
from pytorch_impl.shapes import Maps, Outputs
from weights.fold import fold_model


def deploy(model: nn.Module) -> Callable[[Maps], Outputs]:
    """The fastest function that computes what a trained block or network computes in evaluation.

    Batch norms are folded into convolutions (`weights.fold`), and the rest is compiled, with the
    weights as constants, by `torch.compile` at the first call for each size of image. That takes
    seconds, and memory for a copy of the weights. Where there is no C++ compiler it runs
    uncompiled, and a warning says so.

    model: stays as it is, and later changes of it do not change the function.
    The function takes what the model takes: x, (batch, channels, height, width), of its dtype and
    on its device. It has no gradient.
    Raises ModelError for what is no model of ours, for a class derived from ours, for a model that
    was changed after it was made, and for one with parameters of several dtypes.
    """
    folded = fold_model(model).requires_grad_(False).to(memory_format=torch.channels_last)
    run: Callable[[Maps], Outputs] = _compile(folded) if _can_compile(folded) else folded

    def _infer(x: Maps) -> Outputs:
        check_images(x, folded.in_channels)  # an error within what is compiled would split it
        with torch.no_grad():
            return run(x)

    return _infer


def _compile(model: nn.Module) -> Callable[[Maps], Outputs]:
    """A function that compiles a model at its first call for each size of image."""
    made: dict[Any, Callable[[Maps], Outputs]] = {}
    # Imported here, since it takes long. Nothing else compiles while the lock is held.
    settings: Any = import_module("torch._inductor.config")
    lock = import_module("torch._dynamo.convert_frame").compile_lock

    def _run(x: Maps) -> Outputs:
        size = (x.shape, x.stride())
        if size not in made:
            # The setting must be global: as an option of torch.compile it comes too late, after
            # the weights have become arguments, and convolutions reorder them at each call. For a
            # block from 256 to 512 channels, one image of 14 x 14, that takes 1.9 times as long as
            # ONNX Runtime on one core, and so 1.05.
            # Weights in float64 have one order alone, and cannot be reordered.
            with lock, settings.patch(freezing=x.dtype != torch.float64):
                function = _compile_for_one_size(model)
                function(x)
            made[size] = function
        return made[size](x)

    return _run


def _compile_for_one_size(model: nn.Module) -> Callable[[Maps], Outputs]:
    """torch.compile, which compiles at the first call.

    Not for any size, as it does by itself once it has seen two sizes, even in another model: then
    it cannot choose the order of the weights.
    """

    def _call(x: Maps) -> Outputs:
        return model(x)

    # torch.compile keeps what it has compiled with the code of the function, up to a limit. All
    # functions that are made here would share it; so each gets code of its own.
    own = FunctionType(_call.__code__.replace(), _call.__globals__, closure=_call.__closure__)
    compiled: Callable[[Maps], Outputs] = torch.compile(own, dynamic=False)
    return compiled


def _can_compile(model: nn.Module) -> bool:
    on_cpu = next(model.parameters()).device.type == "cpu"
    if not on_cpu or any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "cl"))):
        return True
    warnings.warn(
        "there is no C++ compiler, which torch.compile needs: deploy gives an uncompiled function; "
        "install one (g++ or clang++) and call deploy again",
        stacklevel=3,
    )
    return False

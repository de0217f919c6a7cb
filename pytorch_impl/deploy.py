"""Inference as fast as PyTorch can."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from types import FunctionType

import torch
from torch import nn

from pytorch_impl.inputs import check_images
from pytorch_impl.shapes import Maps, Outputs
from weights.fold import fold_model


def deploy(model: nn.Module) -> Callable[[Maps], Outputs]:
    """The fastest function that computes what a trained block or network computes in evaluation.

    Batch norms are folded into convolutions (`weights.fold`), and the rest is compiled, with the
    weights as constants, by `torch.compile` at the first call for each size of image; that takes
    seconds. Where there is no C++ compiler it runs uncompiled, and a warning says so.

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
    def _call(x: Maps) -> Outputs:
        return model(x)

    # torch.compile keeps what it has compiled with the code of the function, up to a limit. All
    # functions that are made here would share it; so each gets code of its own.
    own = FunctionType(_call.__code__.replace(), _call.__globals__, closure=_call.__closure__)
    compiled: Callable[[Maps], Outputs] = torch.compile(own, options={"freezing": True})
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

"""Live models <-> NumPy: the functions of a framework for `weights` and the cross-check.

Images and outputs are NumPy arrays in canonical order, (batch, channels, height, width). Parameters
stay in the framework's own layout; `weights` reorders them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from pytorch_impl.bridge.native import (
    from_numpy,
    to_canonical,
    to_native,
    training_mode,
)
from pytorch_impl.bridge.native import to_numpy as to_numpy
from pytorch_impl.network import ResidualAttentionNetwork
from pytorch_impl.variant import build_block
from weights.config import BlockConfig, Config

FLOAT64_HELP = "PyTorch needs no setting for it"


def versions() -> str:
    """The framework with its version."""
    return f"torch {torch.__version__}"


def devices() -> tuple[str, ...]:
    """The devices that models can be on here."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@contextmanager
def precise(dtype: str) -> Iterator[None]:
    """Within it, float32 is computed in float32 (no TF32) and float64 can be used."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def flags() -> str:
    """The settings that decide the precision of float32, as they are now."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    return f"TF32 in matrix products {matmul}, in cuDNN {cudnn}"


def holds_float64() -> bool:
    """Whether parameters can be float64 with the current settings."""
    return True


def create(
    config: Config, *, dtype: str, device: str | None = None, compute: str | None = None
) -> nn.Module:
    """A new model of a config, to be loaded, with parameters in `dtype`.

    compute: a lower dtype to compute in, by autocast.
    """
    make: Any = (
        build_block if isinstance(config, BlockConfig) else ResidualAttentionNetwork.from_config
    )
    model: nn.Module = make(config, dtype=getattr(torch, dtype), device=device)
    if compute is not None:
        model.forward = torch.autocast(
            next(model.parameters()).device.type, getattr(torch, compute)
        )(model.forward)
    return model


def variables(model: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and statistics of the model, by the framework's own names."""
    return model.state_dict(keep_vars=True)


def dtype_name(leaf: torch.Tensor) -> str:
    """NumPy's name of a parameter's dtype."""
    return str(leaf.dtype).removeprefix("torch.")


def assign(leaf: torch.Tensor, array: np.ndarray) -> None:
    """Puts an array of the same shape and dtype into a parameter."""
    with torch.no_grad():
        leaf.copy_(from_numpy(array))


def is_training(model: nn.Module) -> bool:
    """Whether the model is in training mode."""
    return model.training


def set_training(model: nn.Module, training: bool) -> None:
    """Puts the model in training or evaluation mode."""
    model.train(training)


def forward(model: nn.Module, x: np.ndarray, *, training: bool = False) -> np.ndarray:
    """The model's output.

    Running statistics change if training. The model's mode stays as it is.
    """
    with training_mode(model, training), torch.no_grad():
        return to_canonical(model(to_native(model, x)))


def gradients(
    model: nn.Module,
    leaves: Mapping[str, torch.Tensor],
    x: np.ndarray,
    cotangent: np.ndarray,
    *,
    training: bool,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The output, and the gradients of sum(output * cotangent) for the input and for each leaf."""
    image = to_native(model, x).requires_grad_()
    with training_mode(model, training):
        y = model(image)
    slopes = torch.autograd.grad(
        y, [image, *leaves.values()], to_native(model, cotangent).to(y.dtype)
    )
    first, *rest = map(to_numpy, slopes)
    return to_canonical(y), first, dict(zip(leaves, rest, strict=True))

"""Live models <-> NumPy: what `weights` and the cross-check need of a framework, as functions.

Images and outputs are NumPy arrays in canonical order, (batch, channels, height, width). Parameters
stay in the framework's own layout; `weights` reorders them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pytorch_impl.block import ResidualBlockWithAttention
from pytorch_impl.network import ResidualAttentionNetwork
from weights.config import BlockConfig, Config
from weights.convert import BFLOAT16

FLOAT64_HELP = "PyTorch needs no setting for it"


def versions() -> str:
    """What computes, with versions."""
    return f"torch {torch.__version__}"


def devices() -> tuple[str, ...]:
    """The devices that models can be put on here."""
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
    """What decides the precision of float32, as it is set now."""
    return f"TF32 in matrix products {torch.backends.cuda.matmul.allow_tf32}, in cuDNN {torch.backends.cudnn.allow_tf32}"


def holds_float64() -> bool:
    """Whether float64 parameters can be held as things are set."""
    return True


def create(
    config: Config, *, dtype: str, device: str | None = None, compute: str | None = None
) -> nn.Module:
    """A new model of a config, its parameters in `dtype`, to be loaded. compute: a lower dtype to
    compute in (autocast).
    """
    kind = (
        ResidualBlockWithAttention if isinstance(config, BlockConfig) else ResidualAttentionNetwork
    )
    model = kind.from_config(config, dtype=getattr(torch, dtype), device=device)
    if compute is not None:
        model.forward = torch.autocast(
            next(model.parameters()).device.type, getattr(torch, compute)
        )(model.forward)
    return model


def variables(model: nn.Module) -> dict[str, torch.Tensor]:
    """Everything that the model keeps, parameters and persistent buffers, by the framework's own
    names.
    """
    return model.state_dict(keep_vars=True)


def to_numpy(leaf: torch.Tensor) -> np.ndarray:
    """A parameter as a NumPy array in the framework's layout."""
    leaf = leaf.detach().cpu()
    return (
        leaf.view(torch.int16).numpy().view(BFLOAT16)
        if leaf.dtype == torch.bfloat16
        else leaf.numpy()
    )


def dtype_name(leaf: torch.Tensor) -> str:
    """The name of a parameter's dtype, as NumPy calls it."""
    return str(leaf.dtype).removeprefix("torch.")


def assign(leaf: torch.Tensor, array: np.ndarray) -> None:
    """Puts an array of the same shape and dtype into a parameter."""
    with torch.no_grad():
        leaf.copy_(_from_numpy(array))


def is_training(model: nn.Module) -> bool:
    """Whether the model is in training mode."""
    return model.training


def set_training(model: nn.Module, training: bool) -> None:
    """Puts the model in training or evaluation mode."""
    model.train(training)


def forward(model: nn.Module, x: np.ndarray, *, training: bool = False) -> np.ndarray:
    """The model's output; its running statistics move if training. Its mode is left as it was."""
    with _mode(model, training), torch.no_grad():
        return to_numpy(model(_tensor(model, x)))


def gradients(
    model: nn.Module,
    leaves: Mapping[str, torch.Tensor],
    x: np.ndarray,
    cotangent: np.ndarray,
    *,
    training: bool,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Output, and the gradients of sum(output * cotangent) with respect to the input and to each
    leaf, by its name.
    """
    image = _tensor(model, x).requires_grad_()
    with _mode(model, training):
        y = model(image)
    slopes = torch.autograd.grad(
        y, [image, *leaves.values()], _tensor(model, cotangent).to(y.dtype)
    )
    first, *rest = map(to_numpy, slopes)
    return to_numpy(y), first, dict(zip(leaves, rest, strict=True))


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Within it, the model trains or infers; behind it, every part is in the mode it was in."""
    before = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


def _tensor(model: nn.Module, array: np.ndarray) -> torch.Tensor:
    held = next(model.parameters(), None)
    return _from_numpy(array).to(None if held is None else held.device)


def _from_numpy(array: np.ndarray) -> torch.Tensor:
    """A copy, whatever the order of its bytes and whether or not it can be written to."""
    array = np.array(array, array.dtype.newbyteorder("="), order="C")
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def read_file(path: Path) -> tuple[str | None, dict[str, np.ndarray]]:
    """The config (JSON text, or None) and the arrays of a file that `torch.save` wrote. Reads
    tensors, runs nothing.
    """
    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise TypeError(f"expected a mapping of names to tensors, got {type(content).__name__}")
    state = content.get("state_dict", content)
    if not isinstance(state, Mapping):
        raise TypeError(f"expected a mapping of names to tensors, got {type(state).__name__}")
    config = content.get("config")
    return (
        config if isinstance(config, str) else None,
        {name: to_numpy(value) for name, value in state.items() if isinstance(value, torch.Tensor)},
    )


def write_file(path: Path, config: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays and config (JSON text) so that `torch.load(path,
    weights_only=True)["state_dict"]` gives tensors.
    """
    torch.save(
        {
            "config": config,
            "state_dict": {name: _from_numpy(array) for name, array in arrays.items()},
        },
        path,
    )

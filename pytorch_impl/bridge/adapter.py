"""Live models <-> NumPy: the functions of a framework for `weights` and the cross-check.

Images and outputs are NumPy arrays in canonical order, (batch, channels, height, width). Parameters
stay in the framework's own layout; `weights` reorders them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import increment_version
from torch.overrides import TorchFunctionMode

from pytorch_impl.bridge.native import (
    from_numpy,
    lower_dtype,
    to_canonical,
    to_native,
    training_mode,
)
from pytorch_impl.bridge.native import to_numpy as to_numpy
from pytorch_impl.network import ResidualAttentionNetwork
from pytorch_impl.variant import build_block
from weights.config import BlockConfig, Config, own_kinds
from weights.copying import Arena
from weights.flags import (
    EXECUTIONS,
    chosen_execution,
    hold_deterministic_torch,
    hold_tf32_of_torch,
    uses_tf32_of_torch,
)
from weights.settings import HOOKS, ModuleSettings, own_settings

FLOAT64_HELP = "PyTorch needs no setting for it"


def versions() -> str:
    """The framework with its version."""
    return f"torch {torch.__version__}"


def devices() -> tuple[str, ...]:
    """The devices that models can be on here."""
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def precise(dtype: str) -> AbstractContextManager[None]:
    """Within it, float32 is computed in float32 and float64 can be used. dtype "tf32": products of
    float32 are computed in TF32 where the device has it. It holds for the whole process.
    """
    return hold_tf32_of_torch(torch, dtype == "tf32")


def flags() -> str:
    """The settings that decide the precision of float32, as they are now."""
    matmul, cudnn = uses_tf32_of_torch(torch)
    return f"TF32 in matrix products {matmul}, in cuDNN {cudnn}"


def deterministic() -> AbstractContextManager[None]:
    """Within it, the same bits are computed each time. An operation that cannot raises an error.

    On CUDA the process must have started with CUBLAS_WORKSPACE_CONFIG=:4096:8.
    """
    return hold_deterministic_torch(torch)


def executions() -> tuple[str, ...]:
    """The ways to compute gradients that there are, see `weights.flags.execution`."""
    return EXECUTIONS


def threads() -> str:
    """How many threads it computes with."""
    between = torch.get_num_interop_threads()
    return f"{torch.get_num_threads()} in an operation, {between} between operations"


def device_of(model: nn.Module) -> str:
    """The device that any module is on, with the name of a GPU."""
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    if device.type != "cuda":
        return device.type
    return f"{device.type} ({torch.cuda.get_device_name(device)})"


def holds_float64() -> bool:
    """Whether parameters can be float64 with the current settings."""
    return True


def create(
    config: Config, *, dtype: str, device: str | None = None, compute: str | None = None
) -> nn.Module:
    """A new model of a config, to be loaded, with parameters in `dtype` that have any values.

    compute: a lower dtype to compute in, by autocast.
    """

    class NoDraws(TorchFunctionMode):
        """Within it, no random numbers are drawn. To draw them takes longer than to load a model;
        for tensors without memory PyTorch would import 800 modules.
        """

        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            if func.__name__ in ("normal_", "uniform_"):
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    make: Any = (
        build_block if isinstance(config, BlockConfig) else ResidualAttentionNetwork.from_config
    )
    # A module of a user's own may draw what is no parameter.
    drawn = own_kinds(config) and device != "meta"
    with nullcontext() if drawn else NoDraws():
        model: nn.Module = make(config, dtype=getattr(torch, dtype), device=device)
    if compute is not None:
        model.forward = torch.autocast(
            next(model.parameters()).device.type, getattr(torch, compute)
        )(model.forward)
    return model


def create_like(model: nn.Module, config: Config) -> nn.Module:
    """A new model of another config, to be loaded, with the dtype and the device of a model."""
    weight = next(model.parameters())
    return create(
        config, dtype=dtype_name(weight), device=str(weight.device), compute=lower_dtype(model)
    )


def variables(model: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and statistics of the model, by the framework's own names."""
    return model.state_dict(keep_vars=True)


def memory(leaf: torch.Tensor) -> tuple[str, int, int]:
    """Where a parameter is: on which device, its first byte and the one after its last."""
    try:
        start = leaf.data_ptr()
    except (RuntimeError, NotImplementedError):  # a tensor without memory of its own
        start = 0
    reach = sum((size - 1) * step for size, step in zip(leaf.shape, leaf.stride(), strict=True))
    end = start + (reach + 1) * leaf.element_size()
    return (str(leaf.device), start, end) if start else ("", id(leaf), id(leaf) + 1)


def settings(model: nn.Module) -> ModuleSettings:
    """The settings of all modules of the model, see `weights.settings`."""
    return {place: value for path, part in _parts("", model)
            for place, value in _settings(path, part).items()}  # fmt: skip


def _parts(path: str, part: Any) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model by their paths, without the wrappers of torch.compile."""
    part = getattr(part, "_orig_mod", part)
    yield path, part
    for name, child in part.named_children():
        yield from _parts(f"{path}.{name}".lstrip("."), child)


def _settings(path: str, part: nn.Module) -> ModuleSettings:
    forward: Any = vars(part).get("forward")
    # That of `create`, around our method and no other.
    origin = getattr(forward, "__globals__", {}).get("__name__")
    inner: Any = getattr(forward, "__wrapped__", None)
    ours = getattr(inner, "__self__", None) is part and inner.__func__ is type(part).forward
    computes_lower = origin == "torch.amp.autocast_mode" and path == "" and ours
    skipped = ("training", "forward") if computes_lower else ("training",)
    hooks = [
        hook
        for name, found in vars(part).items()
        if name.endswith(("forward_hooks", "forward_pre_hooks", "backward_hooks",
                          "backward_pre_hooks"))
        for hook in found.values()
    ]  # fmt: skip
    names = [getattr(hook, "__qualname__", type(hook).__qualname__) for hook in hooks
             if not getattr(hook, "__module__", "").startswith("pytorch_impl.")]  # fmt: skip
    found = {**own_settings(path, part, skipped), f"{path} {HOOKS}": tuple(names)}
    if isinstance(part, nn.Sequential):
        found[f"{path} modules"] = len(part)
    return found


def outline(config: Config) -> nn.Module:
    """A model of a config to read settings from. It has no memory."""

    return create(config, dtype="float32", device="meta")


def dtype_name(leaf: torch.Tensor) -> str:
    """NumPy's name of a parameter's dtype."""
    return str(leaf.dtype).removeprefix("torch.")


def snapshot(leaf: torch.Tensor) -> np.ndarray:
    """The values of a parameter, which stay as they are when it gets others."""
    return np.array(to_numpy(leaf))


def room(leaf: torch.Tensor, shape: tuple[int, ...], dtype: np.dtype, arena: Arena) -> np.ndarray:
    """Memory for new values of a parameter: its own, or some of an arena where the framework would
    keep what it is given.
    """
    if leaf.device.type == "cpu":
        return to_numpy(leaf)
    return arena.empty(shape, dtype)


def assign(leaves: Sequence[torch.Tensor], arrays: Sequence[np.ndarray]) -> None:
    """Makes arrays, which `room` gave memory for, the values of parameters."""
    for leaf, array in zip(leaves, arrays, strict=True):
        if leaf.device.type == "cpu":
            increment_version(leaf)  # so that autograd notices that its memory was written to
        else:
            with torch.no_grad():
                leaf.copy_(from_numpy(array))


def is_training(model: nn.Module) -> bool:
    """Whether the model is in training mode."""
    return model.training


def set_training(model: nn.Module, training: bool) -> None:
    """Puts the model in training or evaluation mode."""
    model.train(training)


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Within it the model can be trained; on exit it is as it was, with its gradients."""
    before = [
        (tensor, tensor.detach().clone(), tensor.grad)
        for tensor in (*model.parameters(), *model.buffers())
    ]
    # A gradient in place of the user's own, which a step could change.
    for tensor, _, _ in before:
        tensor.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value, slope in before:
                tensor.copy_(value)
                tensor.grad = slope


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
        y = (torch.compile(model) if chosen_execution() == "compiled" else model)(image)
    # Of the sum: to be given slopes, autograd imports SymPy, most of the time of a small check.
    product = y * to_native(model, cotangent).to(y.dtype)
    slopes = torch.autograd.grad(product.sum(), [image, *leaves.values()])
    first, *rest = map(to_numpy, slopes)
    return to_canonical(y), first, dict(zip(leaves, rest, strict=True))

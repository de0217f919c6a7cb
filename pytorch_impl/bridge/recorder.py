"""A model's stages, forward and backward, as NumPy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pytorch_impl.bridge.native import to_canonical, to_native, to_numpy, training_mode
from weights.errors import ArgumentError, ModelError
from weights.frameworks import FRAMEWORKS
from weights.outputs import attempt_gradients, blame_model
from weights.stages import (
    Recorder,
    Recording,
    activate,
    check_recorded,
    find_modules,
    first_argument,
    norm_statistics,
    stage_of,
)

FRAMEWORK = FRAMEWORKS["torch"]


def trace(
    model: nn.Module,
    x: np.ndarray,
    cotangent: Callable[[tuple[int, ...]], np.ndarray],
    *,
    training: bool,
    last: str = "output",
    stages: Mapping[str, str] | None = None,
) -> Recording:
    """Every stage's output, and the gradient of sum(output * cotangent) for each.

    The model stays as it was.

    model: ours, or with `stages` any module. stages: {stage: path of the module that computes it}.
    x: (batch, channels, height, width). cotangent: makes the gradient of the output from its shape.
    training: sets the mode. A module of a user's own infers in the mode in which it is.
    last: the stage that is the model's own output.
    Raises ArgumentError for stages that do not exist or give no array, ModelError for a failure.
    """
    ours = stages is None
    modules = _modules_by_stage(model, stages, last)
    recorder = _make_recorder(modules, last, ours)
    image = _cast_like_parameters(to_native(model, x), model).requires_grad_()
    recorder.know(image)
    with _restore_buffers(model), torch.enable_grad():
        with (
            training_mode(model, training) if ours or training else nullcontext(),
            _without_compiled_code(),
            activate(recorder),
            _watch_modules(recorder, modules.values()),
            blame_model(model, x, ours),
        ):
            model(image if ours else image.clone())
        _check_calls(model, recorder, stages)
        leaves = norm_statistics(FRAMEWORK, modules)
        statistics = {name: to_numpy(leaf).copy() for name, leaf in leaves.items()}
        output = recorder.values[last]
        values = {"input": image, **recorder.values}
        slopes = attempt_gradients(
            lambda: _slopes(output, values, cotangent(tuple(output.shape))),
            {},
            None if ours else recorder.notes,
        )
    return Recording(
        {name: to_canonical(value) for name, value in values.items()},
        {
            name: to_canonical(slope)
            for name, slope in slopes.items()
            if slope is not None and name not in recorder.inputs
        },
        statistics,
        None if recorder.received is None else to_canonical(recorder.received),
        tuple(recorder.notes),
    )


def _make_recorder(modules: Mapping[str, nn.Module], last: str, ours: bool) -> Recorder:
    names = {id(module): name for name, module in modules.items()}
    # A user's model may change what was recorded in place, as nn.ReLU(inplace=True) does.
    copy: dict[str, Any] = {} if ours else {"copy": torch.clone}
    return Recorder(names, last, every=ours, is_array=torch.is_tensor, **copy)


def _check_calls(model: nn.Module, recorder: Recorder, stages: Mapping[str, str] | None) -> None:
    """Raises ArgumentError when a mapped module was not called, or more than once."""
    unseen = [stage for stage in stages or () if stage not in recorder.values]
    if unseen and any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ArgumentError(
            f"stages: {', '.join(unseen)}: the model was scripted or traced by torch.jit, which "
            "does not call its parts as modules; map nothing inside it, or give the model itself"
        )
    check_recorded(recorder, stages)


def _slopes(
    output: Tensor, values: Mapping[str, Tensor], cotangent: np.ndarray
) -> dict[str, Tensor | None]:
    """The gradients of sum(output * cotangent) by value, None where the output does not use it."""
    if not output.requires_grad:
        return {}
    sources = {name: value for name, value in values.items() if value.requires_grad}
    slope = torch.as_tensor(cotangent, dtype=output.dtype, device=output.device)
    slopes = torch.autograd.grad(output, list(sources.values()), slope, allow_unused=True)
    return dict(zip(sources, slopes, strict=True))


@contextmanager
def _watch_modules(recorder: Recorder, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within it, the recorder sees the calls of these modules that its thread makes."""

    def enter(module: nn.Module, arguments: Any, options: Any) -> None:
        if recorder.active:
            recorder.enter(module, first_argument(arguments, options))

    def leave(module: nn.Module, arguments: Any, value: Any) -> Any:
        return recorder.leave(module, value) if recorder.active else None

    with ExitStack() as hooks:
        for module in modules:
            # Functions of nn.Module: a ScriptModule refuses them as methods, but runs the hooks.
            before = nn.Module.register_forward_pre_hook(
                module, enter, prepend=True, with_kwargs=True
            )
            after = nn.Module.register_forward_hook(module, leave)
            hooks.callback(before.remove)
            hooks.callback(after.remove)
        yield


def _without_compiled_code() -> AbstractContextManager[Any]:
    """Within it, a compiled model runs as it was written: compiled code has other values."""
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and importing it takes seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def _restore_buffers(model: nn.Module) -> Iterator[None]:
    """Restores running statistics and all other buffers on exit."""
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _cast_like_parameters(image: Tensor, model: nn.Module) -> Tensor:
    """An image in the dtype of the model's parameters. Raises ModelError if they have no values."""
    reference = next((each for each in model.parameters() if each.is_floating_point()), image)
    if reference.is_meta:
        raise ModelError("the model is on the device meta, so its parameters have no values")
    return image.to(reference.dtype)


def _modules_by_stage(
    model: nn.Module, stages: Mapping[str, str] | None, last: str
) -> dict[str, nn.Module]:
    """The modules that are stages. The model itself is "" unless another is the last stage."""
    if stages is None:
        return {
            stage_of(FRAMEWORK, name.split(".")): module for name, module in model.named_modules()
        }
    return find_modules(model, stages, last, _child, nn.Module)


def _child(module: Any, name: str) -> Any:
    """The part of a module at one part of a path: an index or an attribute."""
    by_index = name.isdigit() and not hasattr(module, name)
    return module[int(name)] if by_index else getattr(module, name)

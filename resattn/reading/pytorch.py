"""PyTorch models: their graph is that of torch.export."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from importlib import import_module
from types import GenericAlias
from typing import Any

from resattn.reading.admission import take_output
from resattn.reading.form import CHANNELS_FIRST, ImageValues
from resattn.reading.machine import Machine
from resattn.reading.outcome import join_failed
from resattn.reading.sources import Failed, locate_call
from resattn.reading.torch_export import read_export
from weights.live import part


def read_pytorch(
    machine: Machine,
    model: Any,
    shape: tuple[int, ...],
    training: bool,
    names: Mapping[str, str],
) -> tuple[ImageValues, Failed | None]:
    """The output of a PyTorch model in a mode, and why it failed.

    shape: (batch, height, width, channels). names: of parameters, by the model's own names.
    """
    torch = import_module("torch")
    batch, *size, channels = shape
    x = torch.zeros((batch, channels, *size), **_type_of(torch, model))
    image = machine.image(tuple(x.shape), CHANNELS_FIRST)
    names = {**names, **_aliases(model, names)}
    mode = part("torch", "bridge.native").training_mode(model, training)
    failures: list[Failed] = []
    with mode, torch.no_grad():
        if machine.strict:
            exported = torch.export.export(model, (x,), strict=False)
        else:
            with silence_fake_tensors():
                try:  # a model may catch errors itself
                    wrapped = _make_wrapper(torch, model, None)
                    exported = torch.export.export(wrapped, (x,), strict=False)
                except Exception:
                    wrapped = _make_wrapper(torch, model, failures)
                    exported = torch.export.export(wrapped, (x,), strict=False)
            names = {f"model.{own}": name for own, name in names.items()}
    found = read_export(machine, exported, names, image, "" if machine.strict else "model")
    if failures:
        return join_failed(machine, failures[0], found, machine.origin), failures[0]
    return take_output(found), None


def _aliases(model: Any, names: Mapping[str, str]) -> dict[str, str]:
    """The names of parameters that modules share, by their other names."""
    tensors = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    first = {id(tensor): names[own] for own, tensor in tensors if own in names}
    return {own: first[id(tensor)] for own, tensor in tensors if id(tensor) in first}


def _type_of(torch: Any, model: Any) -> dict[str, Any]:
    """The dtype and device of a model's parameters."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return {"dtype": parameter.dtype, "device": parameter.device}
    return {"dtype": torch.float32}


@contextmanager
def silence_fake_tensors() -> Iterator[None]:
    """Within it, PyTorch does not log what a model cannot compute: the caller says it."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


@cache
def _mark_failed() -> Any:
    """An operator that takes the place of one that failed, with the same tensors."""
    torch = import_module("torch")

    def compute(operands: Any) -> Any:
        return torch.empty_like(operands[0])

    # The schema of the operator comes from these.
    tensors = GenericAlias(list, (torch.Tensor,))
    compute.__annotations__ = {"operands": tensors, "return": torch.Tensor}
    marked = torch.library.custom_op("resattn::failed", compute, mutates_args=())
    marked.register_fake(lambda operands: torch.empty_like(operands[0]))
    return marked


def _make_wrapper(torch: Any, model: Any, failures: list[Failed] | None) -> Any:
    """A module that calls the model. With `failures`, a function that fails is `_mark_failed` in
    the graph, and what is known of it comes into the list.

    The error itself must not pass torch.export, which would then lose count of the modules.
    """

    class Watch(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, arguments: Any = (), options: Any = None
        ) -> Any:
            try:
                return function(*arguments, **(options or {}))
            except Exception as error:
                given = torch.utils._pytree.tree_leaves((arguments, options))
                held = torch.nn.Parameter
                operands = [x for x in given if torch.is_tensor(x) and not isinstance(x, held)]
                if not operands or failures is None:
                    raise
                failures.append(locate_call(str(error), getattr(function, "__name__", "")))
                return _mark_failed()(operands)

    class Wrapper(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            with nullcontext() if failures is None else Watch():
                return self.model(x)

    return Wrapper()

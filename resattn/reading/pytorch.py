"""PyTorch models: their graph is that of torch.export."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from resattn.reading.form import CHANNELS_FIRST, ImageValues
from resattn.reading.machine import Machine
from resattn.reading.outcome import Failed, join_failed
from resattn.reading.sources import OPERATIONS, locate_error
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
    parameter = next((each for each in model.parameters() if each.is_floating_point()), None)
    dtype, device = (
        (torch.float32, None) if parameter is None else (parameter.dtype, parameter.device)
    )
    x = torch.zeros((batch, channels, *size), dtype=dtype, device=device)
    image = machine.image(tuple(x.shape), CHANNELS_FIRST)
    mode = part("torch", "bridge.native").training_mode(model, training)
    failed: Failed | None = None
    with mode, torch.no_grad():
        if machine.strict:
            exported = torch.export.export(model, (x,), strict=False)
        else:
            wrapped = _make_wrapper(torch, model)
            exported = torch.export.export(wrapped, (x,), strict=False)
            failed = wrapped.failed
            names = {f"model.{own}": name for own, name in names.items()}
    found = read_export(machine, exported, names, image, "" if machine.strict else "model")
    if failed is not None:
        return join_failed(machine, failed, found), failed
    (output,) = found
    return output, None


def _make_wrapper(torch: Any, model: Any) -> Any:
    """A module that calls the model. Where the model fails, it gives the values that were to be
    joined, and keeps what is known of the failure in `failed`.
    """

    class Watch(torch.overrides.TorchFunctionMode):  # type: ignore[misc, name-defined]
        """Keeps the arguments of the first function that fails."""

        name, operands = "", ()

        def __torch_function__(
            self, function: Any, types: Any, arguments: Any = (), options: Any = None
        ) -> Any:
            try:
                return function(*arguments, **(options or {}))
            except Exception:
                if not self.name:
                    self.name = getattr(function, "__name__", "")
                    given = torch.utils._pytree.tree_leaves((arguments, options))
                    self.operands = tuple(each for each in given if torch.is_tensor(each))
                raise

    class Wrapper(torch.nn.Module):  # type: ignore[misc, name-defined]
        failed: Failed | None = None

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            watch = Watch()
            try:
                with watch:
                    return self.model(x)
            except Exception as error:
                file, line, operation, _ = locate_error(error, torch.is_tensor)
                operation = operation or OPERATIONS.get(watch.name, "")
                self.failed = Failed(str(error), operation, file, line)
                operands = [
                    each for each in watch.operands if not isinstance(each, torch.nn.Parameter)
                ]
                if not operands:
                    raise
                return tuple(operands)

    return Wrapper()

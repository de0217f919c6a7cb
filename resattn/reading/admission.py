"""Which live models can be read: wrappers are taken off, and others are refused with a reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from resattn.reading.form import ImageValues
from weights.errors import ModelError

# Errors of a model's own code, whatever the shape of its images is.
OWN_ERRORS = (NameError, AttributeError, KeyError, ImportError, SyntaxError)


def admit_model(model: Any, framework: str) -> Any:
    """The model without the wrappers of torch.compile and of data-parallel training.

    Raises ModelError for a model that has no code or no arrays that can be read.
    """
    return ADMISSIONS[framework](model)


def _admit_torch(model: Any) -> Any:
    torch = import_module("torch")
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while isinstance(model, parallel) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, parallel) else model._orig_mod
    kind = type(model).__qualname__
    if any(isinstance(each, torch.jit.ScriptModule) for each in model.modules()):
        raise ModelError(
            f"{kind}: holds a scripted or traced module (torch.jit), whose code cannot be read; "
            "pass the module that it was made of"
        )
    if getattr(type(model), "forward", None) is torch.nn.Module.forward:
        raise ModelError(f"{kind}: has no forward of its own; pass a module that can be called")
    tensors = [*model.parameters(), *model.buffers()]
    if any(torch.nn.parameter.is_lazy(each) for each in tensors):
        raise ModelError(f"{kind}: has lazy modules that were never called; call it once first")
    if any(each.is_meta for each in tensors):
        raise ModelError(
            f"{kind}: is on the meta device, where parameters have no values; make it on another "
            'device, or give it values with model.to_empty(device="cpu") and load_state_dict'
        )
    return model


def _admit_flax(model: Any) -> Any:
    if not callable(model):
        raise ModelError(
            f"{type(model).__qualname__}: has no __call__ of its own; pass a module that can be "
            "called"
        )
    return model


def _admit_keras(model: Any) -> Any:
    keras = import_module("keras")
    if type(model).call is keras.layers.Layer.call:
        raise ModelError(
            f"{type(model).__qualname__}: has no call of its own; pass a layer that can be called"
        )
    if not model.built and not model.variables:
        raise ModelError(
            f"{type(model).__qualname__}: was never called, so it has no variables; call it once "
            "with a batch of images first"
        )
    return model


ADMISSIONS: dict[str, Callable[[Any], Any]] = {
    "torch": _admit_torch,
    "jax": _admit_flax,
    "tf": _admit_keras,
}


def take_output(found: Sequence[Any]) -> ImageValues:
    """The one array that a model gives. Raises ModelError for several, and for none."""
    arrays = [each for each in found if each is not None]
    if len(arrays) != 1:
        raise ModelError(
            f"the model gives {len(arrays) or 'no'} arrays, expected one; wrap it in a module that "
            "returns the one that you mean"
        )
    (output,) = arrays
    if not isinstance(output, ImageValues):
        raise ModelError("the output of the model does not depend on the image")
    return output

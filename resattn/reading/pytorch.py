"""PyTorch models: their graph is that of torch.export."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from resattn.reading.form import BATCH, CHANNELS_FIRST, ImageValues
from resattn.reading.machine import Machine
from resattn.reading.torch_export import read_export
from weights.live import LiveModel, adapter


def read_pytorch(
    machine: Machine, model: Any, size: tuple[int, int], training: bool
) -> ImageValues:
    torch = import_module("torch")
    shape = (BATCH, model.config.in_channels, *size)
    adapter("torch").set_training(model, training)
    try:
        with torch.no_grad():
            exported = torch.export.export(model, (torch.zeros(shape),))
    finally:
        adapter("torch").set_training(model, False)
    image = machine.image(shape, CHANNELS_FIRST)
    return read_export(machine, exported, _owners(model), image)


def _owners(model: Any) -> dict[str, str]:
    """Canonical names of parameters, by the names that the model has for them."""
    names = {id(leaf): name for name, leaf in LiveModel.of(model).leaves.items()}
    variables = adapter("torch").variables(model)
    return {own: names[id(leaf)] for own, leaf in variables.items() if id(leaf) in names}

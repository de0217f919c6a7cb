"""Live models of other libraries: timm's, torchvision's and Keras' residual networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from weights.config import NetworkConfig
from weights.convert import check
from weights.dialects import DIALECTS
from weights.dialects.back import list_differences
from weights.dialects.recognise import (
    Recognised,
    adapt,
    prepare_as_said,
    recognise,
    to_canonical_names,
    to_dialect_names,
)
from weights.errors import ArgumentError, ModelError, WeightsError
from weights.files.formats import Checkpoint
from weights.graph import graph, probe_size
from weights.live import owner, part
from weights.schema import schema

_SHOWN = 4  # convolutions that an error lists


def adopt(
    model: Any, architecture: str | None = None, config: NetworkConfig | None = None
) -> Checkpoint:
    """The weights of a live model of another library, as ours.

    model: a torch.nn.Module or a keras.Model with the names and shapes of a published ResNet, such
        as timm.create_model("seresnet50") or keras.applications.ResNet50(). A softmax at its end is
        left out: our network gives logits.
    architecture: its name, where names and shapes fit several; config: what the network is, for one
        that was never published.
    Raises what `weights.read` raises for a file with such names, and ModelError where convolutions
    have other strides or dilations than the network's.
    """
    found, arrays, source = _look(model, architecture, config)
    _check_strides(model, found, source)
    notes: tuple[str, ...] = ()
    if config is None:
        said = getattr(model, "pretrained_cfg", None)
        found, notes = prepare_as_said(found, said if isinstance(said, Mapping) else None)
    canonical = to_canonical_names(found, arrays, source)
    check(schema(found.config), canonical, headline=f"{source} does not fit its config")
    return Checkpoint(found.config, canonical, found.origin, (found.describe(), *notes))


def load_into(
    model: Any,
    config: NetworkConfig,
    arrays: Mapping[str, np.ndarray],
    architecture: str | None = None,
) -> None:
    """Puts canonical arrays into a live model of another library, strictly.

    model, architecture: as for `adopt`. config: of the arrays; it must be what the model computes.
    Raises ModelError where the model is another network than the config's, WeightsError for arrays
    that do not fit the config, or whose shapes are not those of the model.
    """
    check(schema(config), arrays)
    found, held, source = _look(model, None, config)
    _refuse_another(found, config, source, architecture, _said_by(model))
    _check_strides(model, found, source)
    made = to_dialect_names(found.dialect, config, arrays)
    misshapen = [
        f"{name}: expected {held[name].shape}, got {array.shape}"
        for name, array in made.items()
        if held[name].shape != array.shape
    ]
    if misshapen:
        raise WeightsError(f"{source}: has other shapes than the config:", misshapen)
    part(owner(model), "bridge.foreign").assign_foreign(model, made)


def _refuse_another(
    found: Recognised, config: NetworkConfig, source: str, asked: str | None, said: str | None
) -> None:
    """Raises ModelError for a model that is a published network with the names and shapes of a
    config, but computes something else.

    asked, said: the architecture that the user and that the model says it is.
    """
    name = asked or said
    names = set(found.dialect.names(config))
    owners = [each for each in DIALECTS.values() if name is not None and name in each.architectures]
    for dialect in owners:
        theirs = adapt(dialect.architecture(str(name)), config)
        theirs = replace(theirs, output_stride=config.output_stride)  # `_check_strides` sees it
        unlike = list_differences(theirs, config)
        fits = schema(theirs) == schema(config) and set(dialect.names(config)) == names
        if fits and unlike:
            raise ModelError(
                f"{source}: is a {name}, which computes something else than the config: {unlike}"
            )
        if fits:
            return
    if asked is not None:
        raise ModelError(f"{source}: is no {asked}, by the names and shapes of the config")


def _look(
    model: Any, architecture: str | None, config: NetworkConfig | None
) -> tuple[Recognised, dict[str, np.ndarray], str]:
    if config is not None and not isinstance(config, NetworkConfig):
        raise ArgumentError(f"config: expected a NetworkConfig, got {type(config).__name__}")
    framework = owner(model)
    source = f"{type(model).__module__}.{type(model).__qualname__}"
    arrays = part(framework, "bridge.foreign").foreign_arrays(model)
    reason = None
    if architecture is None and config is None:
        architecture, reason = _said_by(model), "the model says so"
    found = recognise(arrays, source, architecture, config, reason)
    return found, arrays, source


def _check_strides(model: Any, found: Recognised, source: str) -> None:
    """Raises ModelError for a model whose convolutions have other strides or dilations than the
    network that it was found to be, as with timm's output_stride.
    """
    held = part(owner(model), "bridge.foreign").foreign_strides(model)
    separator = found.dialect.separator
    names = {
        parameter.module: name.rpartition(separator)[0]
        for name, parameter in found.dialect.names(found.config).items()
    }
    faults = []
    for operation in graph(found.config, probe_size(found.config), opened=False):
        name = names.get(operation.module or "")
        if operation.kind != "convolution" or name not in held:
            continue
        settings = operation.settings
        (stride, dilation), apart = held[name], settings["dilation"]
        if stride != settings["stride"]:
            faults.append(f"{name}: expected stride {settings['stride']}, got {stride}")
        if settings["kernel"] != (1, 1) and dilation != (apart, apart):
            faults.append(f"{name}: expected dilation {apart}, got {dilation}")
    if faults:
        network = f"a {found.architectures[0]}" if found.is_published else "the config"
        raise ModelError(
            f"{source}: has the names and shapes of {network}, but computes something else; if it "
            f"has an output stride, say so in config=: {', '.join(faults[:_SHOWN])}"
        )


def _said_by(model: Any) -> str | None:
    """The architecture that a model says it is, as timm's do."""
    said = getattr(model, "default_cfg", None)
    return said.get("architecture") if isinstance(said, Mapping) else None

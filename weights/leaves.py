"""The arrays of a live model: where they are, and whether they are those of its config."""

from collections.abc import Mapping
from itertools import pairwise
from types import ModuleType
from typing import Any

from weights.config import Config, own_kinds
from weights.errors import WeightsError
from weights.frameworks import FRAMEWORKS, Framework
from weights.parameters import Parameter, Parameters


def find_leaves(
    model: Any, framework: str, adapter: ModuleType, config: Config, parameters: Parameters
) -> dict[str, Any]:
    """The live arrays of a model, by canonical name. adapter: that of its framework.

    Raises WeightsError when they are not what the config describes.
    """
    row = FRAMEWORKS[framework]
    live: dict[str, Any] = {}
    for parameter in parameters:
        try:
            live[parameter.name] = walk(model, row.path(parameter))
        except (AttributeError, IndexError, TypeError):
            live[parameter.name] = None
    _check_ties(adapter, live)
    absent = [f"{name}: missing" for name, leaf in live.items() if leaf is None]
    known = {id(leaf) for leaf in live.values()}
    strange = [
        f"{name}: unexpected"
        for name, leaf in adapter.variables(model).items()
        if id(leaf) not in known and name.split(".")[-1] not in row.unread
    ]
    misshapen = [
        f"{parameter.name}: expected {shape} as {row.label} holds it, got {tuple(leaf.shape)}"
        for parameter in parameters
        if (leaf := live[parameter.name]) is not None
        and tuple(leaf.shape) != (shape := shape_in(row, parameter))
    ]
    faults = absent + strange + misshapen
    if faults:
        headline = f"the model is not what its config describes; {_suspicion(config)}"
        raise WeightsError(headline, faults)
    return live


def _check_ties(adapter: ModuleType, leaves: Mapping[str, Any]) -> None:
    """Raises WeightsError for parameters that share their values: loaded, both would hold what the
    last one gets.
    """
    memory = adapter.memory
    places = sorted(
        (*memory(leaf), name) for name, leaf in leaves.items() if hasattr(leaf, "shape")
    )
    tied = []
    for (device, start, end, name), (other, first, last, second) in pairwise(places):
        if device == other and first < end:
            whole = (start, end) == (first, last)
            tied.append(
                f"{name} and {second}: are {'one array' if whole else 'parts of one array'}"
            )
    if tied:
        raise WeightsError(
            "the model has tied parameters, and loading or training one would change the other; "
            "give each an array of its own, a copy",
            tied,
        )


def shape_in(row: Framework, parameter: Parameter) -> tuple[int, ...]:
    """The shape of a parameter as the framework holds it."""
    sizes = dict(zip(parameter.axes.split(), parameter.shape, strict=True))
    return tuple(sizes[name] for name in row.axes(parameter).split())


def _suspicion(config: Config) -> str:
    own = own_kinds(config)
    if own:
        return (
            f"does the module registered as {own[0]!r} hold, once constructed, the arrays that its "
            "parameters= name, and no others?"
        )
    return "was a part of it replaced?"


def walk(model: Any, path: str) -> Any:
    """The part of a model at a dotted path of attributes and positions."""
    for part in path.split("."):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model

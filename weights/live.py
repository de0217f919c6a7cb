"""Live models: export, load, port. Knows no framework; the adapter of the model's own package does
the touching.

An implementation's package is named in `layouts` and imported when a model of it is first met,
never before.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from weights.config import Config, own_kinds
from weights.convert import DTYPES, LOW, Arrays, WeightsError, check, layout, reorder, to_native
from weights.errors import MissingFramework
from weights.frameworks import LAYOUTS
from weights.parameters import Parameters
from weights.schema import schema

INSTALL = {"torch": "torch", "jax": "jax flax", "tf": "keras tensorflow"}


def adapter(framework: str) -> ModuleType:
    """The adapter of our implementation in a framework. Raises MissingFramework when the framework
    is not installed.
    """
    return part(framework, "bridge.adapter")


def part(framework: str, name: str) -> ModuleType:
    """A module of our implementation in a framework. Raises MissingFramework when the framework is
    not installed.
    """
    package = layout(framework).package
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in (package, "weights"):
            raise
        raise MissingFramework(
            f"{layout(framework).label} is not installed ({error.name} was not found): pip "
            f"install {INSTALL[framework]}",
            name=error.name,
        ) from None


def framework_of(model: object) -> str:
    """Which framework a live model of ours belongs to. Raises TypeError for anything else."""
    framework = _origin(model)
    # A wrapper of the model, such as torch.compile's, passes `config` through and is of the same
    # framework.
    if framework is not None and isinstance(getattr(model, "config", None), Config):
        return framework
    raise TypeError(
        "expected a ResidualBlockWithAttention or a ResidualAttentionNetwork of pytorch_impl, "
        f"jax_impl or tf_impl, got {type(model).__module__}.{type(model).__qualname__}; if your "
        "model holds one, pass that part of it"
    )


def owner(model: object) -> str:
    """Which framework any live model belongs to. Raises TypeError for what is none."""
    framework = _origin(model)
    if framework is None:
        kind = type(model)
        raise TypeError(
            "expected a PyTorch module, a Flax module or a Keras layer, got "
            f"{kind.__module__}.{kind.__qualname__}"
        )
    return framework


def _origin(model: object) -> str | None:
    """The first that fits: on its PyTorch backend Keras' layers are PyTorch modules as well."""
    owners = {
        module: framework
        for framework, described in LAYOUTS.items()
        for module in described.modules
    }
    origins = (kind.__module__.split(".")[0] for kind in type(model).__mro__)
    return next((owners[origin] for origin in origins if origin in owners), None)


def leaves(model: Any) -> dict[str, Any]:
    """The live arrays of a model, by canonical name. Raises WeightsError when they are not what its
    config describes.
    """
    framework = framework_of(model)
    described = layout(framework)
    live, absent = {}, []
    for parameter in schema(model.config):
        try:
            live[parameter.name] = _walk(model, described.name(parameter))
        except (AttributeError, IndexError, TypeError):
            live[parameter.name] = None
        if live[parameter.name] is None:
            absent.append(f"{parameter.name}: missing")
    known = {id(leaf) for leaf in live.values()}
    expected = {
        p.name: reorder(np.empty(p.shape, bool), p.axes, described.axes(p)).shape
        for p in schema(model.config)
    }
    misshapen = [
        f"{name}: expected {expected[name]} as {described.label} holds it, got {tuple(leaf.shape)}"
        for name, leaf in live.items()
        if leaf is not None and tuple(leaf.shape) != expected[name]
    ]
    strange = [
        f"{name}: unexpected"
        for name, leaf in adapter(framework).variables(model).items()
        if id(leaf) not in known and name.split(".")[-1] not in described.unread
    ]
    faults = absent + strange + misshapen
    if faults:
        raise WeightsError(
            f"the model is not what its config describes; {_suspicion(model.config)}", faults
        )
    return live


def _suspicion(config: Config) -> str:
    own = own_kinds(config)
    if own:
        return (
            f"does the module registered as {own[0]!r} hold, once constructed, the arrays that its "
            "parameters= name, and no others?"
        )
    return "was a part of it replaced?"


def _walk(model: Any, path: str) -> Any:
    for part in path.split("."):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model


def export(model: Any) -> Arrays:
    """{canonical name: NumPy array}: copies of all parameters and running statistics, canonical
    layout, dtypes kept.

    model: a ResidualBlockWithAttention or ResidualAttentionNetwork of any of the three packages.
    Raises TypeError for another object, WeightsError when the model is not what its config
    describes.
    """
    framework = framework_of(model)
    module, described, live = adapter(framework), layout(framework), leaves(model)
    foreign = {
        name: module.dtype_name(leaf)
        for name, leaf in live.items()
        if module.dtype_name(leaf) not in DTYPES
    }
    if foreign:
        raise WeightsError(
            f"cannot export a {described.label} model with parameters in other dtypes than "
            f"{', '.join(DTYPES)}:",
            [f"{name}: {dtype}" for name, dtype in foreign.items()],
        )
    return {
        parameter.name: reorder(
            module.to_numpy(live[parameter.name]), described.axes(parameter), parameter.axes
        )
        for parameter in schema(model.config)
    }


def load(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Puts canonical arrays into a live model. Strict: names, shapes and dtypes must be those of
    the model.

    Running statistics are held in float32 at least: where they come in bfloat16 or float16 they are
    widened, which is exact.
    Raises WeightsError with every fault; the model is then as it was before.
    """
    framework = framework_of(model)
    module, parameters, live = adapter(framework), schema(model.config), leaves(model)
    dtypes = {name: module.dtype_name(leaf) for name, leaf in live.items()}
    arrays = _with_wide_statistics(parameters, arrays)
    given = {array.dtype.name for array in arrays.values() if isinstance(array, np.ndarray)}
    if "float64" in given and not module.holds_float64():
        raise WeightsError(f"cannot load float64 arrays: {module.FLOAT64_HELP}", [])
    check(parameters, arrays, dtypes, f"the arrays do not fit this {layout(framework).label} model")
    natives = to_native(framework, parameters, arrays)
    before = {name: module.to_numpy(leaf).copy() for name, leaf in live.items()}
    try:
        for parameter in parameters:
            module.assign(live[parameter.name], natives[layout(framework).name(parameter)])
    except BaseException:
        for name, leaf in live.items():
            module.assign(leaf, before[name])
        raise


def _with_wide_statistics(parameters: Parameters, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The same arrays, running statistics in bfloat16 or float16 in float32 instead."""
    statistics = {parameter.name for parameter in parameters if not parameter.trainable}
    low = {
        name
        for name in statistics & set(arrays)
        if isinstance(arrays[name], np.ndarray) and arrays[name].dtype.name in LOW
    }
    return {
        name: array.astype(np.float32) if name in low else array for name, array in arrays.items()
    }


def build(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    framework: str,
    device: str | None = None,
    compute: str | None = None,
) -> Any:
    """A new model of `config` in a framework, with these arrays, in their dtype and in evaluation
    mode.

    compute: "bfloat16" or "float16" for mixed precision, as the framework does it: parameters as
        they are, computed lower.
    Raises ValueError for another `compute`.
    """
    if compute is not None and compute not in LOW:
        raise ValueError(
            f"compute: expected one of {', '.join(LOW)}, or None for the dtype of the arrays, got "
            f"{compute!r}"
        )
    parameters = schema(config)
    check(parameters, arrays)
    module = adapter(framework)
    # That of the parameters: running statistics may be wider.
    given = [arrays[parameter.name].dtype for parameter in parameters if parameter.trainable]
    dtype = min(given, key=lambda dtype: dtype.itemsize).name
    model = module.create(config, dtype=dtype, device=device, compute=compute)
    load(model, arrays)
    module.set_training(model, False)
    return model


def port(model: Any, to: str, device: str | None = None) -> Any:
    """The same model in another framework ("torch", "jax" or "tf"): same config, parameters,
    statistics and dtype.

    It is in training mode if `model` is. (Keras models keep no mode, and infer unless called with
    training=True: what is ported from Keras comes in evaluation mode.)
    device: "cpu" or "cuda"; by default where the framework puts new models.
    Raises MissingFramework when the other framework is not installed, TypeError for a class derived
    from ours, which may compute something else, and what `export` and `load` raise.
    """
    layout(to)
    framework = framework_of(model)
    source = adapter(framework)
    kind = type(getattr(model, "_orig_mod", model))  # what torch.compile wrapped
    if kind.__module__.split(".")[0] != layout(framework).package:
        raise TypeError(
            f"{kind.__module__}.{kind.__qualname__} is derived from our class and may compute "
            "something else, which would be lost; port a plain model, or export this one's "
            "weights and load them into yours"
        )
    ported = build(model.config, export(model), to, device)
    adapter(to).set_training(ported, source.is_training(model))
    return ported

"""The graph that a live model executes, in the common form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from resattn.reading.admission import OWN_ERRORS, admit_model, find_obstacle
from resattn.reading.flax import read_flax
from resattn.reading.form import BATCH, ImageValues, size_of
from resattn.reading.keras import read_keras
from resattn.reading.machine import Machine
from resattn.reading.pytorch import read_pytorch
from resattn.reading.reading import Failure, Reading
from resattn.reading.sources import Failed
from resattn.reading.steps import CommonStep, normalize
from weights import schema
from weights.checks import Pair, pair_of
from weights.errors import ModelError
from weights.frameworks import FRAMEWORKS, framework_named
from weights.live import framework_of, owner, part

ModelReader = Callable[
    [Machine, Any, tuple[int, ...], bool, Mapping[str, str]], tuple[ImageValues, Failed | None]
]
READERS: dict[str, ModelReader] = {"torch": read_pytorch, "jax": read_flax, "tf": read_keras}
# Tried in this order where nobody says the size of the images.
DEFAULT_SIZES = ((224, 224), (32, 32))


def read_operations(model: Any, size: Pair, training: bool = False) -> list[CommonStep]:
    """The operations that a model of ours executes, in the common form and in order.

    size: (height, width) of the images. Raises KeyError, with the name of the primitive, for a
    primitive that no table knows, and ModelError for an object that is no model of ours.
    """
    framework = framework_of(model)
    row = framework_named(framework)
    parameters = schema(model.config)
    names = {row.path(each): each.name for each in parameters}
    shape = (BATCH, *size, model.config.in_channels)
    output, _ = READERS[framework](Machine(), model, shape, training, names)
    return normalize(output, {each.name: each.module for each in parameters})


def read_model(model: Any, size: Pair | None = None, in_channels: int | None = None) -> Reading:
    """The operations that any live model executes in evaluation.

    model: a PyTorch module, a Flax NNX module or a Keras layer that takes one batch of images and
        gives one array. A Keras layer must have been built, that is called once.
    size: (height, width) of the images. Default: what a functional Keras model says, else 224 x
        224, or 32 x 32 if the model fails for these.
    in_channels: of the images. Default: what the model's own kernels take.
    What no table knows is an operation of the kind "unknown". A model that fails is read up to the
    failure. A model that torch.compile or a data-parallel wrapper holds is read without it.
    Raises ModelError where nothing can be read: for what is no model, a scripted model, one on the
    meta device, one that was never built, and one that takes or gives several arrays. Errors of
    the model's own code that have nothing to do with shapes, such as a NameError, are raised as
    they are.
    """
    framework = owner(model)
    model = admit_model(model, framework)
    variables = part(framework, "bridge.foreign").foreign_variables(model)
    to_numpy = part(framework, "bridge.native").to_numpy
    arrays = {name: np.array(to_numpy(variable)) for name, variable in variables.items()}
    sizes = _sizes(model, framework) if size is None else (pair_of("size", size),)
    channels = [in_channels] if in_channels else list(_channels(model, framework, arrays))
    if not channels:
        raise ModelError(
            f"{_title(model)}: has no convolution, so nobody knows how many channels its images "
            "have; say so with in_channels=... (--channels)"
        )
    best: Reading | None = None
    errors: list[Exception] = []
    for number in channels:
        for each in sizes:
            try:
                found = _read(model, framework, (BATCH, *each, number), arrays)
            except (ModelError, *OWN_ERRORS):
                raise
            except Exception as error:  # of the model, for images of this shape
                errors.append(error)
                continue
            if found.failure is None:
                return found
            if errors and not any(step.roles for step in found.steps):
                continue  # for the first images it came further
            best = found if best is None or len(found.steps) > len(best.steps) else best
        if best is not None and any(step.roles for step in best.steps):
            break  # it takes so many channels, and fails later
    if best is None:
        obstacle = find_obstacle(model, framework, errors[0])
        if obstacle is not None:
            raise ModelError(f"{_title(model)}: {obstacle}") from errors[0]
        shape = f"{sizes[0][0]} x {sizes[0][1]} x {channels[0]}"
        raise ModelError(
            f"{_title(model)}: cannot be read with images of {shape} (rows, cols, channels); give "
            "others with size=... (--size) and in_channels=... (--channels): "
            f"{str(errors[0]) or type(errors[0]).__name__}"
        ) from errors[0]
    return best


def _read(
    model: Any, framework: str, shape: tuple[int, ...], arrays: Mapping[str, np.ndarray]
) -> Reading:
    names = {name: name for name in arrays}
    modules = {name: _module_of(name) for name in arrays}
    machine = Machine(strict=False)
    output, failed = READERS[framework](machine, model, shape, False, names)
    steps = normalize(machine.settle(output), modules)
    size = (shape[1], shape[2])
    canonical = {**arrays, **_canonical(steps, arrays)}
    failure = None if failed is None else _failure(failed, steps[-1], framework)
    decays = part(framework, "bridge.foreign").foreign_decays(model)
    return Reading(framework, _title(model), size, tuple(steps), canonical, failure, decays)


def _module_of(name: str) -> str:
    """The path of the module that has a parameter. PyTorch keeps those that others are computed
    from in modules of their own (torch.nn.utils.parametrize).
    """
    path = name.rpartition(".")[0].split(".")
    return ".".join(path[: path.index("parametrizations")] if "parametrizations" in path else path)


def _title(model: Any) -> str:
    """The name of the model's class; of a functional or sequential Keras model its own name."""
    kind = type(model)
    if kind.__module__.split(".")[0] == "keras" and hasattr(model, "name"):
        return str(model.name)
    return kind.__qualname__.rpartition("<locals>.")[2]


def _failure(failed: Failed, last: CommonStep, framework: str) -> Failure:
    shapes = [tuple(map(size_of, step.axes[1:])) for step in last.inputs]
    if framework != "torch":  # the channels are last
        shapes = [(*shape[-1:], *shape[:-1]) for shape in shapes]
    message = failed.message.strip().splitlines()[0] if failed.message.strip() else ""
    return Failure(message, failed.operation, tuple(shapes), failed.file, failed.line)


def _shape_of_input(model: Any, framework: str) -> Sequence[int | None]:
    """(batch, rows, cols, channels) of the images, None where it is open; () if nothing says so."""
    shape = getattr(model, "input_shape", None) if framework == "tf" else None
    return shape if isinstance(shape, Sequence) and len(shape) == 4 else ()


def _sizes(model: Any, framework: str) -> Sequence[Pair]:
    shape = _shape_of_input(model, framework)
    if shape and shape[1] and shape[2]:
        return ((shape[1], shape[2]),)
    return DEFAULT_SIZES


def _channels(model: Any, framework: str, arrays: Mapping[str, np.ndarray]) -> Iterator[int]:
    """How many channels the images may have, the most likely first: what its kernels take."""
    shape = _shape_of_input(model, framework)
    if shape and shape[-1]:
        yield shape[-1]
        return
    axis = FRAMEWORKS[framework].leaves["convolution kernel"][1].split().index("in")
    kernels = dict.fromkeys(each.shape[axis] for each in arrays.values() if each.ndim == 4)
    yield from kernels
    if kernels and 3 not in kernels:
        yield 3  # a first layer without a kernel may take pixels apart into channels


def _canonical(
    steps: Sequence[CommonStep], arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The kernels with their entries in our order, wherever a model moves them before their use."""
    found = {}
    for step in steps:
        name = step.roles.get("weight", "")
        # Tables of relative positions are no kernel: their roles are not known.
        clear = step.held is not None and step.held.names == {*step.roles.values()}
        if step.op not in OPS_WITH_KERNELS or not clear or name not in arrays:
            continue
        index = next((held.index for _, held in step.uses if held.names == {name}), None)
        if index is not None and index.size == arrays[name].size:
            flat = len(step.settings["window"].dims) == 1 if "window" in step.settings else False
            canonical = arrays[name].reshape(-1)[index]
            found[name] = canonical.reshape(*index.shape[:2], -1) if flat else canonical
    return found


OPS_WITH_KERNELS = ("convolution", "depthwise convolution", "linear")

"""Live models <-> NumPy: the functions of a framework for `weights` and the cross-check.

Images and outputs are NumPy arrays in canonical order, (batch, channels, height, width). Parameters
stay in the framework's own layout; `weights` reorders them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_impl.bridge.keys import one_key
from jax_impl.bridge.native import modes, to_canonical, to_native, training_mode
from jax_impl.bridge.native import to_numpy as to_numpy
from jax_impl.layers import FLOAT64_HELP as FLOAT64_HELP
from jax_impl.network import ResidualAttentionNetwork
from jax_impl.variant import build_block
from weights.config import BlockConfig, Config, own_kinds
from weights.copying import Arena, aligned_zeros
from weights.flags import EXECUTIONS, check_flag, chosen_execution
from weights.settings import ModuleSettings, own_settings


def versions() -> str:
    """The framework with its version."""
    return f"flax {flax.__version__}, jax {jax.__version__}"


def devices() -> tuple[str, ...]:
    """The devices that models can be on here."""
    return (
        ("cpu", "cuda") if any(device.platform == "gpu" for device in jax.devices()) else ("cpu",)
    )


@contextmanager
def precise(dtype: str) -> Iterator[None]:
    """Within it, float32 is computed in float32 and float64 can be used. dtype "tf32": products of
    float32 are computed in TF32 where the device has it. It holds for this thread.
    """
    with ExitStack() as stack:
        precision = "tensorfloat32" if dtype == "tf32" else "highest"
        stack.enter_context(jax.default_matmul_precision(precision))
        if dtype == "float64":
            stack.enter_context(jax.enable_x64(True))
        yield


def flags() -> str:
    """The settings that decide the precision of float32, as they are now."""
    config: Any = jax.config
    precision, enabled = config.jax_default_matmul_precision, config.jax_enable_x64
    return f"matrix products in precision {precision}, 64 bits enabled {enabled}"


def deterministic() -> AbstractContextManager[None]:
    """Within it, the same bits are computed each time.

    XLA reads the setting as it starts: raises ArgumentError where it is missing on a GPU.
    """
    if "cuda" in devices():
        check_flag("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    return nullcontext()


def executions() -> tuple[str, ...]:
    """The ways to compute gradients that there are, see `weights.flags.execution`."""
    return EXECUTIONS


def threads() -> str:
    """How many threads it computes with."""
    return f"as XLA chooses, of {os.cpu_count()} cores"


def device_of(model: nnx.Module) -> str:
    """The device that any module is on, with the name of a GPU."""
    arrays = [leaf for leaf in jax.tree.leaves(nnx.state(model)) if isinstance(leaf, jax.Array)]
    device = next(iter(arrays[0].devices())) if arrays else jax.devices()[0]
    return f"cuda ({device.device_kind})" if device.platform == "gpu" else str(device.platform)


def holds_float64() -> bool:
    """Whether parameters can be float64 with the current settings."""
    return jax.dtypes.canonicalize_dtype(jnp.float64) == jnp.float64


def create(
    config: Config, *, dtype: str, device: str | None = None, compute: str | None = None
) -> nnx.Module:
    """A new model of a config, to be loaded, with parameters in `dtype` that are 0.

    compute: a lower dtype to compute in.
    """
    make: Any = (
        build_block if isinstance(config, BlockConfig) else ResidualAttentionNetwork.from_config
    )
    dtypes = {"dtype": dtype} if compute is None else {"dtype": compute, "param_dtype": dtype}
    with nullcontext() if device is None else jax.default_device(jax.devices(device)[0]):
        if own_kinds(config):  # a module of a user's own may have arrays besides its parameters
            return make(config, **dtypes, rngs=nnx.Rngs(0))
        # No initial values: to draw them JAX compiles for each shape, 14 s for a ResNet-20.
        graph, state = nnx.split(nnx.eval_shape(lambda: make(config, **dtypes, rngs=one_key())))
        leaves, structure = jax.tree.flatten(state)
        values = [_initial_value(leaf, number) for number, leaf in enumerate(leaves)]
        return nnx.merge(graph, jax.tree.unflatten(structure, values))


def create_like(model: nnx.Module, config: Config) -> nnx.Module:
    """A new model of another config, to be loaded, with the dtype and the device of a model."""
    holder: Any = getattr(model, "stem", model)
    first = getattr(holder, "conv", None) or holder.conv1
    held, computed = (jnp.dtype(each).name for each in (first.param_dtype, first.dtype))
    with jax.default_device(next(iter(first.kernel[...].devices()))):
        return create(config, dtype=held, compute=None if computed == held else computed)


def _initial_value(leaf: Any, number: int) -> jax.Array:
    """Zeros, or for the random numbers of dropout a key that no other leaf has."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key(number)
    return jax.device_put(aligned_zeros(leaf.shape, np.dtype(leaf.dtype)))


def variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    """All parameters and statistics of the model, by the framework's own names.

    The keys and counters of the random numbers of dropout are neither.
    """
    return {
        ".".join(map(str, path)): node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Variable) and not isinstance(node, nnx.RngState)
    }


def memory(leaf: nnx.Variable) -> tuple[str, int, int]:
    """Where a parameter is. JAX's arrays never change, so that only variables can be shared."""
    return "", id(leaf), id(leaf) + 1


def settings(model: nnx.Module) -> ModuleSettings:
    """The settings of all modules of the model, see `weights.settings`."""
    return {
        place: value
        for path, part in nnx.iter_graph(model)
        if isinstance(part, nnx.Module)
        for place, value in _settings(_path(path), part).items()
    }


def _path(path: tuple[Any, ...]) -> str:
    """As PyTorch writes it, without the name of the list of a Sequential."""
    return ".".join(str(each) for each in path if each != "layers")


def _settings(path: str, part: nnx.Module) -> ModuleSettings:
    inner = [name for name, value in vars(part).items()
             if isinstance(value, (nnx.Module, nnx.Variable))]  # fmt: skip
    formats = ("dtype", "param_dtype", "precision")
    modes_and_parts = ("use_running_average", "deterministic", "layers", "rngs")
    found = own_settings(path, part, {*formats, *modes_and_parts, *inner})
    if isinstance(part, nnx.Sequential):
        found[f"{path} modules"] = len(part.layers)
    return found


def outline(config: Config) -> nnx.Module:
    """A model of a config to read settings from. No memory, unless it has a kind of a user."""
    if own_kinds(config):
        return create(config, dtype="float32")
    make: Any = (
        build_block if isinstance(config, BlockConfig) else ResidualAttentionNetwork.from_config
    )
    return nnx.eval_shape(lambda: make(config, rngs=one_key()))


def dtype_name(leaf: nnx.Variable) -> str:
    """NumPy's name of a parameter's dtype."""
    return str(leaf.dtype)


def snapshot(leaf: nnx.Variable) -> np.ndarray:
    """The values of a parameter, which stay as they are when it gets others."""
    return to_numpy(leaf)


def room(leaf: nnx.Variable, shape: tuple[int, ...], dtype: np.dtype, arena: Arena) -> np.ndarray:
    """Memory for new values of a parameter: its own, or some of an arena where the framework would
    keep what it is given.
    """
    return arena.empty(shape, dtype)


def assign(leaves: Sequence[nnx.Variable], arrays: Sequence[np.ndarray]) -> None:
    """Makes arrays, which `room` gave memory for, the values of parameters."""
    places = [leaf.get_value().sharding for leaf in leaves]
    # On CPU, JAX keeps aligned arrays of NumPy as they are; nobody else changes these.
    for leaf, value in zip(leaves, jax.device_put(list(arrays), places), strict=True):
        leaf.set_value(value)


def is_training(model: nnx.Module) -> bool:
    """Whether the model is in training mode."""
    return any(not infers for *_, infers in modes(model))


def set_training(model: nnx.Module, training: bool) -> None:
    """Puts the model in training or evaluation mode."""
    if training:
        model.train()
    else:
        model.eval()


@contextmanager
def preserve_state(model: nnx.Module) -> Iterator[None]:
    """Within it the model can be trained; on exit it is as it was."""
    before = jax.tree.map(lambda array: array, nnx.state(model))
    # A step of training takes the memory of the arrays; those of the user stay.
    nnx.update(model, jax.tree.map(jnp.copy, before))
    try:
        yield
    finally:
        nnx.update(model, before)


def forward(model: nnx.Module, x: np.ndarray, *, training: bool = False) -> np.ndarray:
    """The model's output.

    Running statistics change if training. The model's mode stays as it is.
    """
    with training_mode(model, training):
        parts: Any = nnx.split(model, nnx.Param, MOVING, ...)
        graph, parameters, statistics, rest = parts
        y, statistics = _forward(graph, parameters, statistics, rest, to_native(model, x))
        nnx.update(model, statistics)
    return to_canonical(y)


def gradients(
    model: nnx.Module,
    leaves: Mapping[str, nnx.Variable],
    x: np.ndarray,
    cotangent: np.ndarray,
    *,
    training: bool,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The output, and the gradients of sum(output * cotangent) for the input and for each leaf."""
    with training_mode(model, training):
        parts: Any = nnx.split(model, nnx.Param, MOVING, ...)
        graph, parameters, statistics, rest = parts
        images, slopes = to_native(model, x), to_native(model, cotangent)
        with jax.disable_jit() if chosen_execution() == "eager" else nullcontext():
            y, statistics, image_slope, parameter_slopes = _gradients(
                graph, parameters, statistics, rest, images, slopes
            )
        nnx.update(model, statistics)
    by_path = {
        ".".join(map(str, path)): to_numpy(leaf)
        for path, leaf in nnx.to_flat_state(parameter_slopes)
    }
    return to_canonical(y), to_canonical(image_slope), {name: by_path[name] for name in leaves}


# What a pass changes: running statistics, and the counters of random numbers.
MOVING = nnx.Any(nnx.BatchStat, nnx.RngState)


@partial(jax.jit, static_argnums=0)
def _forward(
    graph: nnx.GraphDef[Any], parameters: Any, statistics: Any, rest: Any, x: jax.Array
) -> tuple[Any, ...]:
    # Where it is not compiled, Flax lets nobody change variables from outside of the gradient.
    own = jax.tree.map(lambda array: array, statistics)
    model = nnx.merge(graph, parameters, own, rest)
    return model(x), nnx.state(model, MOVING)


@partial(jax.jit, static_argnums=0)
def _gradients(
    graph: nnx.GraphDef[Any],
    parameters: Any,
    statistics: Any,
    rest: Any,
    x: jax.Array,
    cotangent: jax.Array,
) -> tuple[Any, ...]:
    y, pullback, statistics = jax.vjp(
        lambda parameters, x: _forward(graph, parameters, statistics, rest, x),
        parameters,
        x,
        has_aux=True,
    )
    parameter_slopes, image_slope = pullback(cotangent.astype(y.dtype))
    return y, statistics, image_slope, parameter_slopes

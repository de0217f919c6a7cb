"""Live models <-> NumPy: what `weights` and the cross-check need of a framework, as functions.

Images and outputs are NumPy arrays in canonical order, (batch, channels, height, width). Parameters
stay in the framework's own layout; `weights` reorders them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_impl.block import ResidualBlockWithAttention
from jax_impl.layers import FLOAT64_HELP as FLOAT64_HELP
from jax_impl.network import ResidualAttentionNetwork
from weights.config import BlockConfig, Config, own_kinds


def versions() -> str:
    """What computes, with versions."""
    return f"flax {flax.__version__}, jax {jax.__version__}"


def devices() -> tuple[str, ...]:
    """The devices that models can be put on here."""
    return (
        ("cpu", "cuda") if any(device.platform == "gpu" for device in jax.devices()) else ("cpu",)
    )


@contextmanager
def precise(dtype: str) -> Iterator[None]:
    """Within it, float32 is computed in float32 (no TF32) and float64 can be used."""
    with ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision("highest"))
        if dtype == "float64":
            stack.enter_context(jax.enable_x64(True))
        yield


def flags() -> str:
    """What decides the precision of float32, as it is set now."""
    precision = jax.config.jax_default_matmul_precision
    return f"matrix products in precision {precision}, 64 bits enabled {jax.config.jax_enable_x64}"


def holds_float64() -> bool:
    """Whether float64 parameters can be held as things are set."""
    return jax.dtypes.canonicalize_dtype(jnp.float64) == jnp.float64


def create(
    config: Config, *, dtype: str, device: str | None = None, compute: str | None = None
) -> nnx.Module:
    """A new model of a config, its parameters zeros in `dtype`, to be loaded. compute: a lower
    dtype to compute in.
    """
    model = (
        ResidualBlockWithAttention if isinstance(config, BlockConfig) else ResidualAttentionNetwork
    )
    dtypes = {"dtype": dtype} if compute is None else {"dtype": compute, "param_dtype": dtype}
    with nullcontext() if device is None else jax.default_device(jax.devices(device)[0]):
        if own_kinds(config):  # which may hold arrays of their own
            return model.from_config(config, **dtypes, rngs=nnx.Rngs(0))
        # Drawing initial values that are overwritten at once costs a compilation for each shape: 14
        # s for a ResNet-20.
        graph, state = nnx.split(
            nnx.eval_shape(lambda: model.from_config(config, **dtypes, rngs=nnx.Rngs(0)))
        )
        return nnx.merge(
            graph,
            jax.tree.map(lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype)), state),
        )


def variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    """Everything that the model holds, parameters and statistics, by the framework's own names."""
    return {
        ".".join(map(str, path)): node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Variable)
    }


def to_numpy(leaf: nnx.Variable) -> np.ndarray:
    """A parameter as a NumPy array in the framework's layout."""
    return np.asarray(leaf[...])


def dtype_name(leaf: nnx.Variable) -> str:
    """The name of a parameter's dtype, as NumPy calls it."""
    return str(leaf.dtype)


def assign(leaf: nnx.Variable, array: np.ndarray) -> None:
    """Puts an array of the same shape and dtype into a parameter."""
    leaf[...] = jax.device_put(array, leaf[...].sharding)


def is_training(model: nnx.Module) -> bool:
    """Whether the model is in training mode."""
    return any(not mode for _, mode in _modes(model))


def set_training(model: nnx.Module, training: bool) -> None:
    """Puts the model in training or evaluation mode."""
    model.train() if training else model.eval()


def forward(model: nnx.Module, x: np.ndarray, *, training: bool = False) -> np.ndarray:
    """The model's output; its running statistics move if training. Its mode is left as it was."""
    with _mode(model, training):
        graph, parameters, statistics, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
        y, statistics = _forward(graph, parameters, statistics, rest, _images(parameters, x))
        nnx.update(model, statistics)
    return _canonical(y)


def gradients(
    model: nnx.Module,
    leaves: Mapping[str, nnx.Variable],
    x: np.ndarray,
    cotangent: np.ndarray,
    *,
    training: bool,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Output, and the gradients of sum(output * cotangent) with respect to the input and to each
    leaf, by its name.
    """
    with _mode(model, training):
        graph, parameters, statistics, rest = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
        images, slopes = _images(parameters, x), _images(parameters, cotangent)
        y, statistics, image_slope, parameter_slopes = _gradients(
            graph, parameters, statistics, rest, images, slopes
        )
        nnx.update(model, statistics)
    by_path = {
        ".".join(map(str, path)): to_numpy(leaf)
        for path, leaf in nnx.to_flat_state(parameter_slopes)
    }
    return _canonical(y), _canonical(image_slope), {name: by_path[name] for name in leaves}


@contextmanager
def _mode(model: nnx.Module, training: bool) -> Iterator[None]:
    """Within it, the model trains or infers; behind it, every part is in the mode it was in."""
    before = _modes(model)
    set_training(model, training)
    try:
        yield
    finally:
        for node, mode in before:
            node.use_running_average = mode


def _modes(model: nnx.Module) -> list[tuple[nnx.Module, bool]]:
    """Every part that has a mode (batch norms, ours or Flax'), and whether it infers."""
    return [
        (node, node.use_running_average)
        for _, node in nnx.iter_graph(model)
        if hasattr(node, "use_running_average")
    ]


@partial(jax.jit, static_argnums=0)
def _forward(
    graph: nnx.GraphDef[Any], parameters: Any, statistics: Any, rest: Any, x: jax.Array
) -> tuple[Any, ...]:
    model = nnx.merge(graph, parameters, statistics, rest)
    return model(x), nnx.state(model, nnx.BatchStat)


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


def _images(parameters: Any, array: np.ndarray) -> jax.Array:
    """A canonical array on the device of the parameters, channels last."""
    array = np.moveaxis(array, 1, -1) if array.ndim == 4 else array
    held = jax.tree.leaves(parameters)
    return jax.device_put(array, held[0].sharding if held else None)


def _canonical(array: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(array), -1, 1) if array.ndim == 4 else np.asarray(array)

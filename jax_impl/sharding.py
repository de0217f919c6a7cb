"""Models whose parameters are divided over devices, for networks that are too large for one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_impl.bridge.adapter import create
from jax_impl.bridge.native import find_devices
from weights.config import Config
from weights.convert import Arrays, check, reorder
from weights.copying import Arena
from weights.frameworks import FRAMEWORKS
from weights.live import LiveModel, find_dtype
from weights.parameters import Parameter
from weights.schema import schema
from weights.sharding import sharded_axis
from weights.stored import StoredArray


def build_sharded(
    config: Config,
    arrays: Mapping[str, np.ndarray | StoredArray],
    shards: int,
    device: str | None = None,
) -> nnx.Module:
    """A new model in evaluation mode, each of its parameters divided over the first `shards`
    devices of a kind, as `weights.sharding` says.

    Calls of the model and `training` compute the same as for a model on one device; XLA divides
    what they compute. Parameters and moments stay divided in training.
    arrays: canonical. Each device gets its part of each; no array is copied as a whole, and values
        in a file are read where they are. Strict, as `load`.
    device: "cpu" or "cuda"; by default where JAX puts new arrays.
    Raises WeightsError with every fault; ArgumentError where there are fewer devices.
    """
    parameters = schema(config)
    check(parameters, arrays)
    mesh = Mesh(np.array(find_devices(shards, device)), ("shards",))
    # Its arrays are zeros for which the system needs no memory, and one after another is replaced.
    live = LiveModel.of(create(config, dtype=find_dtype(parameters, arrays), device="cpu"))
    fitting = live.accept(arrays)
    for parameter in parameters:
        placed = _divide(parameter, fitting[parameter.name], mesh)
        live.leaves[parameter.name].set_value(placed)
    _place_the_rest(live, NamedSharding(mesh, P()))
    model: nnx.Module = live.model
    model.eval()
    return model


def gather(model: nnx.Module) -> Arrays:
    """Canonical copies of the arrays of a model, one after another put together from the parts.

    If the devices are those of several processes, each process must call it, and gets all arrays.
    """
    return {name: array.read() for name, array in LiveModel.of(model).see().items()}


def _divide(parameter: Parameter, stored: StoredArray, mesh: Mesh) -> Array:
    """An array in the memory of the devices."""
    axes, axis = FRAMEWORKS["jax"].axes(parameter), sharded_axis(parameter, mesh.size)
    before = axes.split().index(axis) if axis else 0
    places = P(*[None] * before, "shards") if axis else P()
    view = reorder(stored, parameter.axes, axes).get()

    def copy_part(index: Any) -> np.ndarray:
        part = view[index]
        return Arena(part.nbytes).copy(part)  # aligned: on CPU, JAX keeps it as it is

    return jax.make_array_from_callback(view.shape, NamedSharding(mesh, places), copy_part)


def _place_the_rest(live: LiveModel, place: NamedSharding) -> None:
    """Puts what is no parameter, such as the random state of dropout, on every device."""
    known = {id(leaf) for leaf in live.leaves.values()}
    for _, node in nnx.iter_graph(live.model):
        if isinstance(node, nnx.Variable) and id(node) not in known:
            node.set_raw_value(jax.device_put(node.get_raw_value(), place))

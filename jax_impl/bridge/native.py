"""Modes, devices and arrays of Flax, for the adapter, the recorder and the training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from weights.copying import Arena, copy_values
from weights.errors import ArgumentError


@contextmanager
def training_mode(model: nnx.Module, training: bool) -> Iterator[None]:
    """Within it, the model trains or infers. Restores the mode of every part on exit."""
    before = modes(model)
    if training:
        model.train()
    else:
        model.eval()
    try:
        yield
    finally:
        for node, name, mode in before:
            setattr(node, name, mode)


def modes(model: nnx.Module) -> list[tuple[Any, str, Any]]:
    """Every part that has a mode (batch norms, dropout), the mode's name, and whether it infers."""
    return [
        (node, name, getattr(node, name))
        for _, node in nnx.iter_graph(model)
        for name in ("use_running_average", "deterministic")
        if hasattr(node, name)
    ]


def to_native(model: nnx.Module, array: np.ndarray) -> Array:
    """A canonical array as an array on the model's device, channels last."""
    array = np.moveaxis(array, 1, -1) if array.ndim == 4 else array
    leaves = jax.tree.leaves(nnx.state(model))
    place = next((place_whole(leaf) for leaf in leaves if isinstance(leaf, Array)), None)
    return jax.device_put(array, place)


def place_whole(array: Array) -> Sharding:
    """The devices of an array, each with a whole copy of what is put there."""
    place = array.sharding
    return NamedSharding(place.mesh, P()) if isinstance(place, NamedSharding) else place


def find_devices(count: int, device: str | None) -> list[jax.Device]:
    """The first `count` devices of a kind, or of the kind that JAX takes where it is None.

    Raises ArgumentError where there are fewer.
    """
    try:
        found = jax.devices(device)
    except RuntimeError:
        found = []
    if len(found) >= count:
        return found[:count]
    kind = device or jax.default_backend()
    more = (
        "call jax_impl.distributed.provide_devices before anything else uses JAX"
        if kind == "cpu"
        else "use fewer, or the CPU"
    )
    raise ArgumentError(
        f"devices: expected at most the {len(found)} of kind {kind!r} that JAX has, got {count}; "
        f"{more}"
    )


def to_canonical(value: Array, is_map: bool = True) -> np.ndarray:
    """An array as a canonical array: a map or a sequence gets its channels second."""
    array = np.asarray(value)
    return np.moveaxis(array, -1, 1) if is_map and array.ndim in (3, 4) else array


def to_numpy(leaf: nnx.Variable) -> np.ndarray:
    """A parameter as a NumPy array in the framework's layout."""
    array = leaf[...]
    # Values that Flax has read from a file are of NumPy.
    is_whole = not isinstance(array, Array) or array.is_fully_replicated
    return np.asarray(array) if is_whole else _put_together(array)


def _put_together(array: Array) -> np.ndarray:
    """The values of an array that is divided over devices. JAX's own array would keep what NumPy
    got from it, as long as it lives.
    """
    if not array.is_fully_addressable:  # other processes have parts of it
        return np.asarray(process_allgather(array, tiled=True))
    whole = Arena(array.nbytes).empty(array.shape, array.dtype)
    for shard in array.addressable_shards:
        part = shard.data
        if shard.device.platform != "cpu":
            part = jax.device_put(part, jax.local_devices(backend="cpu")[0])
        copy_values(whole[shard.index], np.asarray(part))
    return whole

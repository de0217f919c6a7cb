"""Models that are not ours <-> NumPy, by their own names and in their own axis orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from flax import nnx

from jax_impl.bridge.native import to_numpy
from weights.checks import Pair, pair_of
from weights.errors import WeightsError


def foreign_arrays(model: nnx.Module) -> dict[str, np.ndarray]:
    """The parameters and statistics of any model, by its own names."""
    return {name: to_numpy(leaf) for name, leaf in foreign_variables(model).items()}


def foreign_modules(model: nnx.Module) -> dict[str, nnx.Module]:
    """The modules of any model by their paths in it; the model itself is ""."""
    return {
        ".".join(map(str, path)): node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Module)
    }


def foreign_variables(model: nnx.Module) -> dict[str, nnx.Variable]:
    """The parameters and statistics of any model by their paths in it."""
    return {
        ".".join(map(str, path)): node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Variable) and not isinstance(node, nnx.RngState)
    }


def foreign_strides(model: nnx.Module) -> dict[str, tuple[Pair, Pair]]:
    """The stride and the dilation of each 2-d convolution, by its own name."""
    return {
        ".".join(map(str, path)): (_pair(node.strides or 1), _pair(node.kernel_dilation or 1))
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Conv) and len(node.kernel_size) == 2
    }


def assign_foreign(model: nnx.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Loads arrays into any model by its own names, strictly."""
    leaves = foreign_variables(model)
    missing = [f"{name}: missing" for name in set(leaves) - set(arrays)]
    strange = [f"{name}: unexpected" for name in set(arrays) - set(leaves)]
    if missing or strange:
        raise WeightsError("the arrays do not fit the model:", missing + strange)
    for name, leaf in leaves.items():
        leaf[...] = jax.device_put(arrays[name], leaf[...].sharding)


def _pair(values: int | Sequence[int]) -> Pair:
    return pair_of("strides", tuple(values) if isinstance(values, Sequence) else values)

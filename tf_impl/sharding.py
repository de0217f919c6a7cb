"""Models whose parameters are divided over devices, for networks that are too large for one. By
keras.distribution, which divides variables on Keras' JAX backend alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from tf_impl.bridge.adapter import create
from tf_impl.bridge.native import BACKEND
from tf_impl.bridge.replicas import find_devices, put_divided
from weights.config import Config
from weights.convert import Arrays, check, reorder
from weights.errors import ArgumentError
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
    device: str = "cpu",
) -> keras.layers.Layer:
    """A new model, each of its parameters divided over the first `shards` devices of a kind, as
    `weights.sharding` says.

    Calls of the model and `training` compute the same as for a model on one device; XLA divides
    what they compute. Parameters and moments stay divided in training.
    arrays: canonical. Each device gets its part of each; no array is copied as a whole, and values
        in a file are read where they are. Strict, as `load`.
    device: "cpu" or "cuda".
    Raises WeightsError with every fault; ArgumentError where there are fewer devices, and on Keras'
        other backends.
    """
    if BACKEND != "jax":
        raise ArgumentError(
            f"shards: Keras on {BACKEND} cannot divide parameters over devices; set the "
            "environment variable KERAS_BACKEND=jax before Keras is imported"
        )
    parameters = schema(config)
    check(parameters, arrays)
    mesh = keras.distribution.DeviceMesh((shards,), ["shards"], find_devices(shards, device))
    # Its kernels are zeros for which the system needs no memory, and one after another is replaced.
    live = LiveModel.of(create(config, dtype=find_dtype(parameters, arrays), device="cpu"))
    fitting = live.accept(arrays)
    for parameter in parameters:
        own = FRAMEWORKS["tf"].axes(parameter)
        stored = reorder(fitting[parameter.name], parameter.axes, own)
        put_divided(live.leaves[parameter.name], stored, _layout(parameter, mesh))
    model: keras.layers.Layer = live.model
    return model


def gather(model: keras.layers.Layer) -> Arrays:
    """Canonical copies of the arrays of a model, each put together from the parts."""
    return LiveModel.of(model).export()


def _layout(
    parameter: Parameter, mesh: keras.distribution.DeviceMesh
) -> keras.distribution.TensorLayout:
    """Which axis of a variable is divided."""
    (axis_of_mesh,), shards = mesh.axis_names, mesh.devices.size
    divided = sharded_axis(parameter, shards)
    axes = FRAMEWORKS["tf"].axes(parameter).split()
    return keras.distribution.TensorLayout(
        [axis_of_mesh if axis == divided else None for axis in axes], mesh
    )

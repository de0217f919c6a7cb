"""The handmade models of each framework, alive, with weights that hide nothing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from weights.live import part

FILES = {"torch": "sketch_torch", "jax": "sketch_flax", "tf": "sketch_keras"}


def import_sketch(framework: str) -> Any:
    return import_module(f"shared_tests.handmade.{FILES[framework]}")


def make_sketch(framework: str, stride: int = 1, second: int | None = None) -> Any:
    """The block of the sketch from 32 to 64 channels. second: the stride of its second convolution,
    by default the same as of the first.
    """
    module = import_sketch(framework)
    if framework == "jax":
        nnx = import_module("flax.nnx")
        model = module.ResidualBlock(32, 64, stride, second, rngs=nnx.Rngs(0))
    elif framework == "torch":
        model = module.ResidualBlock(32, 64, stride=stride, second=second)
    else:
        model = module.ResidualBlock(32, 64, stride, second)
        build_keras(model, 32)
    return scramble(framework, model)


def make_net(framework: str) -> Any:
    """The network of two blocks."""
    module = import_sketch(framework)
    if framework == "jax":
        model = module.Net(rngs=import_module("flax.nnx").Rngs(0))
    else:
        model = module.Net() if framework == "torch" else module.make_net()
    return scramble(framework, model)


def build_keras(layer: Any, channels: int) -> None:
    """Creates the variables of a layer; one that cannot be run has those up to its failure."""
    try:
        layer(np.zeros((1, 8, 8, channels), "float32"))
    except Exception:
        assert layer.variables


def scramble(framework: str, model: Any, seed: int = 0) -> Any:
    """Random values for all parameters and statistics; the variances are positive."""
    rng = np.random.default_rng(seed)
    for variable in part(framework, "bridge.foreign").foreign_variables(model).values():
        if len(variable.shape) == 1:
            values = rng.uniform(0.5, 1.5, tuple(variable.shape)).astype("float32")
            if framework == "torch":
                variable.data.copy_(import_module("torch").from_numpy(values))
            elif framework == "jax":
                variable[...] = values
            else:
                variable.assign(values)
    return model

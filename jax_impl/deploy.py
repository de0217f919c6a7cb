"""Inference as fast as JAX can."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
from flax import nnx
from jax import Array

from jax_impl.shapes import Maps, Outputs
from weights.fold import fold_model


def deploy(model: nnx.Module) -> Callable[[Maps], Outputs]:
    """The fastest function that computes what a trained block or network computes in evaluation.

    Batch norms are folded into convolutions (`weights.fold`), and the rest is compiled at the first
    call for each size of image. On CPU small maps are convolved as `layers.convolve` says.

    model: stays as it is, and later changes of it do not change the function.
    The function takes what the model takes: x, (batch, height, width, channels), of its dtype. It
    has gradients, with respect to x.
    Raises ModelError for what is no model of ours, for a class derived from ours, for a model that
    was changed after it was made, and for one with parameters of several dtypes.
    """
    graph, state = nnx.split(fold_model(model))
    leaves, structure = jax.tree.flatten(state)

    @jax.jit
    def _infer(leaves: list[Array], x: Maps) -> Outputs:
        return nnx.merge(graph, jax.tree.unflatten(structure, leaves))(x)

    return partial(_infer, leaves)

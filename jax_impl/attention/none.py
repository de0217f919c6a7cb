"""No attention."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.shapes import Maps


class Identity(nnx.Module):
    """No attention: returns its input. x: (batch, height, width, channels)."""

    def __init__(
        self,
        channels: int,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs | None = None,
    ):
        pass

    def __call__(self, x: Maps) -> Maps:
        return x

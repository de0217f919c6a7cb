"""Global context."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_impl.layers import (
    Conv2d,
    add,
    flatten_positions,
    global_average,
    relu,
    scale,
    sigmoid,
    softmax,
    swap_axes,
    unflatten_positions,
)
from jax_impl.normalization import LayerNorm
from jax_impl.shapes import Maps
from weights.attention import attention_parameters, hidden_width


class ContextTransform(nnx.Module):
    """Two 1x1 convolutions with a layer norm and a relu between them.

    x: (batch, height, width, channels) -> the same shape.
    """

    def __init__(self, channels: int, hidden_channels: int, ln_eps: float, **options: Any):
        self.fc1 = Conv2d(channels, hidden_channels, **options)
        self.norm = LayerNorm(hidden_channels, ln_eps, **options)
        self.fc2 = Conv2d(hidden_channels, channels, **options)

    def __call__(self, x: Maps) -> Maps:
        y = self.fc1(x)
        y = self.norm(y)
        y = relu(y)
        return self.fc2(y)


class GlobalContext(nnx.Module):
    """One context for all positions, added or as a scale (Cao et al. 2019, GCNet, section 3.4).

    x: (batch, height, width, channels) -> the same shape.
    channels: of the input. The options and their errors: `weights.attention.global_context`.
    """

    def __init__(
        self,
        channels: int,
        reduction: int | None = None,
        hidden_channels: int | None = None,
        pooling: str = "attention",
        fusion: str = "add",
        ln_eps: float = 1e-5,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        attention_parameters(
            "gc", channels, {"pooling": pooling, "fusion": fusion, "ln_eps": ln_eps}
        )
        hidden = hidden_width(channels, reduction, hidden_channels, kind="gc")
        self.conv_attn = Conv2d(channels, 1, **options) if pooling == "attention" else None
        self.mlp_scale = (
            ContextTransform(channels, hidden, ln_eps, **options) if fusion != "add" else None
        )
        self.mlp_add = (
            ContextTransform(channels, hidden, ln_eps, **options) if fusion != "scale" else None
        )

    def __call__(self, x: Maps) -> Maps:
        if self.conv_attn is None:
            context = global_average(x)
        else:
            logits = flatten_positions(self.conv_attn(x))
            weights = softmax(swap_axes(logits, -2, -1))
            context = unflatten_positions(weights @ flatten_positions(x), 1, 1)
        if self.mlp_scale is not None:
            x = scale(x, sigmoid(self.mlp_scale(context)))
        if self.mlp_add is not None:
            x = add(x, self.mlp_add(context))
        return x

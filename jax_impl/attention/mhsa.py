"""Multi-head self-attention with relative positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from flax import nnx

from jax_impl.layers import (
    CHANNELS,
    COLS,
    ROWS,
    Conv2d,
    added,
    checked,
    image,
    like,
    positions,
    softmax,
    swapped,
)
from weights.attention import attention_parameters, head_width
from weights.checks import Pair, check_map, pair_of

if TYPE_CHECKING:
    from jax import Array
    from jax.typing import DTypeLike
    from jaxtyping import Float


class RelativePositions(nnx.Module):
    """Logits by how far two positions are from each other, along each axis (Srinivas et al. 2021,
    section 3.1; Shaw et al. 2018).

    query: (batch, heads, positions, feature) -> (batch, heads, positions, positions): who asks, who
        is asked.
    size: (rows, cols). The tables have a row for each distance, from -(size - 1) to size - 1.
    """

    def __init__(self, size: Pair, width: int, **options: Any):
        self.size = size
        start, dtype = (
            nnx.initializers.normal(width**-0.5),
            checked(options["param_dtype"] or options["dtype"]),
        )
        self.height_rel = nnx.Param(
            start(options["rngs"].params(), (2 * size[0] - 1, width), dtype)
        )
        self.width_rel = nnx.Param(start(options["rngs"].params(), (2 * size[1] - 1, width), dtype))

    def __call__(
        self, query: Float[Array, "batch heads positions feature"]
    ) -> Float[Array, "batch heads here there"]:
        (batch, heads, _, width), (rows, cols) = query.shape, self.size
        query = query.reshape(batch, heads, rows, cols, width)
        along_cols = by_position(query @ swapped(like(query, self.width_rel[...]), 0, 1), cols)
        query = swapped(query, 2, 3)
        along_rows = by_position(query @ swapped(like(query, self.height_rel[...]), 0, 1), rows)
        along_rows = swapped(along_rows, 2, 3)
        logits = added(along_rows[..., :, None], along_cols[..., None, :])
        return logits.reshape(batch, heads, rows * cols, rows * cols)


def by_position(
    x: Float[Array, "batch heads a here distance"], size: int
) -> Float[Array, "batch heads a here there"]:
    """Logits by distance -> by place: what stands at there - here + size - 1 moves to `there`."""
    here = jnp.arange(size)
    places = here[:, None] * (2 * size - 1) + here - here[:, None] + size - 1
    return x.reshape(*x.shape[:3], size * (2 * size - 1))[..., places.ravel()].reshape(
        *x.shape[:-1], size
    )


class MultiHeadSelfAttention(nnx.Module):
    """Self-attention over positions in several heads, with relative positions (Srinivas et al.
    2021, section 3.1, figure 4).

    x: (batch, height, width, channels) -> the same shape.
    channels: of the input. The options and their errors:
        `weights.attention.multi_head_self_attention`.
    Raises ValueError for maps of another size than `size`.
    """

    def __init__(
        self,
        channels: int,
        size: int | Pair,
        heads: int = 4,
        scale_positions: bool = True,
        bias: bool = False,
        *,
        dtype: DTypeLike = jnp.float32,
        param_dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ):
        options = {"dtype": dtype, "param_dtype": param_dtype, "rngs": rngs}
        given = {"size": size, "heads": heads, "scale_positions": scale_positions, "bias": bias}
        attention_parameters("mhsa", channels, given)
        width = head_width(channels, heads)
        self.size = pair_of("size", size)
        self.heads = heads
        self.scale = width**-0.5
        self.scale_positions = scale_positions
        self.qkv = Conv2d(channels, 3 * channels, bias=bias, **options)
        self.pos_embed = RelativePositions(self.size, width, **options)

    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch height width channels"]:
        check_map("mhsa", x.shape[ROWS], x.shape[COLS], size=self.size)
        query, key, value = in_heads(positions(self.qkv(x)), self.heads)
        scaled = query * self.scale
        logits = scaled @ swapped(key, -2, -1)
        logits = logits + self.pos_embed(scaled if self.scale_positions else query)
        y = softmax(logits) @ value
        y = swapped(y, 1, 2).reshape(x.shape[0], y.shape[2], x.shape[CHANNELS])
        return image(y, *self.size)


def in_heads(
    x: Float[Array, "batch positions channels"], heads: int
) -> list[Float[Array, "batch heads positions feature"]]:
    """Queries, keys and values, each split into heads, from channels in the order (part, head,
    feature).
    """
    parts = x.reshape(*x.shape[:2], 3, heads, x.shape[2] // (3 * heads))
    return [swapped(parts[:, :, part], 1, 2) for part in range(3)]

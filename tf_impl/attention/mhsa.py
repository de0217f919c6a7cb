"""Multi-head self-attention with relative positions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

from tf_impl.layers import (
    CHANNELS,
    COLS,
    ROWS,
    Conv2d,
    added,
    check_held,
    image,
    like,
    positions,
    softmax,
    swapped,
)
from weights.attention import attention_parameters, head_width
from weights.checks import Pair, check_map, pair_of

if TYPE_CHECKING:
    from jaxtyping import Float
    from keras import KerasTensor


class RelativePositions(keras.layers.Layer):
    """Logits by how far two positions are from each other, along each axis (Srinivas et al. 2021,
    section 3.1; Shaw et al. 2018).

    query: (batch, heads, positions, feature) -> (batch, heads, positions, positions): who asks, who
        is asked.
    size: (rows, cols). The tables have a row for each distance, from -(size - 1) to size - 1.
    """

    def __init__(self, size: Pair, width: int, **options: Any):
        super().__init__(**options)
        self.size = size
        start, shapes = (
            keras.initializers.RandomNormal(stddev=width**-0.5),
            [(2 * side - 1, width) for side in size],
        )
        self.height_rel = self.add_weight(shape=shapes[0], initializer=start, name="height_rel")
        self.width_rel = self.add_weight(
            shape=shapes[1], initializer=start.clone(), name="width_rel"
        )
        self.built = True
        check_held(self.height_rel)

    def call(
        self, query: Float[KerasTensor, "batch heads positions feature"]
    ) -> Float[KerasTensor, "batch heads here there"]:
        batch, (_, heads, _, width), (rows, cols) = ops.shape(query)[0], query.shape, self.size
        query = ops.reshape(query, (batch, heads, rows, cols, width))
        along_cols = by_position(query @ swapped(like(query, self.width_rel), 0, 1), cols)
        query = swapped(query, 2, 3)
        along_rows = by_position(query @ swapped(like(query, self.height_rel), 0, 1), rows)
        along_rows = swapped(along_rows, 2, 3)
        logits = added(along_rows[..., :, None], along_cols[..., None, :])
        return ops.reshape(logits, (batch, heads, rows * cols, rows * cols))


def by_position(
    x: Float[KerasTensor, "batch heads a here distance"], size: int
) -> Float[KerasTensor, "batch heads a here there"]:
    """Logits by distance -> by place: what stands at there - here + size - 1 moves to `there`."""
    places = [
        here * (2 * size - 1) + there - here + size - 1
        for here in range(size)
        for there in range(size)
    ]
    batch, heads, others = ops.shape(x)[0], *x.shape[1:3]
    flat = ops.reshape(x, (batch, heads, others, size * (2 * size - 1)))
    return ops.reshape(ops.take(flat, places, axis=3), (batch, heads, others, size, size))


@keras.saving.register_keras_serializable("resattn")
class MultiHeadSelfAttention(keras.layers.Layer):
    """Self-attention over positions in several heads, with relative positions (Srinivas et al.
    2021, section 3.1, figure 4).

    x: (batch, height, width, channels) -> the same shape.
    channels: of the input. The options and their errors:
        `weights.attention.multi_head_self_attention`.
    Raises ValueError for maps of another size than `size`; give keras.Input that size: in a graph
    of unknown size nobody can check.
    """

    def __init__(
        self,
        channels: int,
        size: int | Pair,
        heads: int = 4,
        scale_positions: bool = True,
        bias: bool = False,
        *,
        dtype: Any = None,
        name: str | None = None,
        **keras_options: Any,
    ):
        super().__init__(dtype=dtype, name=name, **keras_options)
        self.options = {
            "channels": channels,
            "size": size,
            "heads": heads,
            "scale_positions": scale_positions,
            "bias": bias,
        }
        options = {"dtype": self.dtype_policy, "trainable": self.trainable}
        given = {"size": size, "heads": heads, "scale_positions": scale_positions, "bias": bias}
        attention_parameters("mhsa", channels, given)
        width = head_width(channels, heads)
        self.size = pair_of("size", size)
        self.heads = heads
        self.scale = width**-0.5
        self.scale_positions = scale_positions
        self.qkv = Conv2d(channels, 3 * channels, bias=bias, **options, name="qkv")
        self.pos_embed = RelativePositions(self.size, width, **options, name="pos_embed")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def call(
        self, x: Float[KerasTensor, "batch height width channels"]
    ) -> Float[KerasTensor, "batch height width channels"]:
        check_map("mhsa", ops.shape(x)[ROWS], ops.shape(x)[COLS], size=self.size)
        query, key, value = in_heads(positions(self.qkv(x)), self.heads)
        scaled = query * self.scale
        logits = scaled @ swapped(key, -2, -1)
        logits = logits + self.pos_embed(scaled if self.scale_positions else query)
        y = softmax(logits) @ value
        y = ops.reshape(swapped(y, 1, 2), (ops.shape(x)[0], ops.shape(y)[2], x.shape[CHANNELS]))
        return image(y, *self.size)


def in_heads(
    x: Float[KerasTensor, "batch positions channels"], heads: int
) -> list[Float[KerasTensor, "batch heads positions feature"]]:
    """Queries, keys and values, each split into heads, from channels in the order (part, head,
    feature).
    """
    parts = ops.reshape(x, (*ops.shape(x)[:2], 3, heads, x.shape[2] // (3 * heads)))
    return [swapped(parts[:, :, part], 1, 2) for part in range(3)]

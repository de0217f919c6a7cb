"""Multi-head self-attention with relative positions."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tf_impl.inputs import check_maps
from tf_impl.layers import (
    Conv2d,
    add,
    cast_like,
    check_dtype,
    flatten_positions,
    softmax,
    swap_axes,
    unflatten_positions,
)
from tf_impl.shapes import Heads, Maps, Scores, ScoresByDistance, ScoresByPosition, Tokens
from weights.attention import attention_parameters, head_width
from weights.checks import Pair, pair_of
from weights.stages import stage


@stage(is_map=False)
class RelativePositions(keras.layers.Layer):
    """Logits from the relative positions of query and key, along each axis.

    Srinivas et al. 2021, section 3.1, and Shaw et al. 2018.

    query: (batch, heads, positions, features) -> (batch, heads, positions, positions), where the
        last axis is that of the keys.
    size: (rows, cols) of the map. The tables have a row per distance, from 1 - size to size - 1.
    """

    def __init__(self, size: Pair, width: int, **keras_options: Any):
        super().__init__(**keras_options)
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
        check_dtype(self.height_rel)

    def call(self, query: Heads) -> Scores:
        batch, (heads, _, width) = ops.shape(query)[0], query.shape[1:]
        rows, cols = self.size
        query = ops.reshape(query, (batch, heads, rows, cols, width))
        table = swap_axes(cast_like(self.width_rel, query), 0, 1)
        along_cols = index_by_position(query @ table, cols)
        query = swap_axes(query, 2, 3)
        table = swap_axes(cast_like(self.height_rel, query), 0, 1)
        along_rows = index_by_position(query @ table, rows)
        along_rows = swap_axes(along_rows, 2, 3)
        logits = add(along_rows[..., :, None], along_cols[..., None, :])
        return ops.reshape(logits, (batch, heads, rows * cols, rows * cols))


def index_by_position(x: ScoresByDistance, size: int) -> ScoresByPosition:
    """Scores by distance -> scores by key. Query i meets key j at distance j - i + size - 1."""
    places = [
        here * (2 * size - 1) + there - here + size - 1
        for here in range(size)
        for there in range(size)
    ]
    batch, heads, lines = ops.shape(x)[0], x.shape[1], x.shape[2]
    flat = ops.reshape(x, (batch, heads, lines, size * (2 * size - 1)))
    return ops.reshape(ops.take(flat, places, axis=3), (batch, heads, lines, size, size))


@keras.saving.register_keras_serializable("resattn")
class MultiHeadSelfAttention(keras.layers.Layer):
    """Self-attention over positions, in several heads, with relative positions.

    Srinivas et al. 2021, section 3.1, figure 4.

    x: (batch, height, width, channels) -> the same shape.
    channels: of the input.
    The options and their errors: `weights.attention.multi_head_self_attention`.
    Raises ValueError for maps of another size than `size`. Give keras.Input that size: no check is
        possible in a graph of unknown size.
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
        self.arguments = {
            "channels": channels,
            "size": size,
            "heads": heads,
            "scale_positions": scale_positions,
            "bias": bias,
        }
        options: dict[str, Any] = {"dtype": self.dtype_policy, "trainable": self.trainable}
        settings = {"size": size, "heads": heads, "scale_positions": scale_positions, "bias": bias}
        attention_parameters("mhsa", channels, settings)
        width = head_width(channels, heads)
        self.size = pair_of("size", size)
        self.heads = heads
        self.scale = width**-0.5
        self.scale_positions = scale_positions
        self.qkv = Conv2d(channels, 3 * channels, bias=bias, **options, name="qkv")
        self.pos_embed = RelativePositions(self.size, width, **options, name="pos_embed")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}

    def call(self, x: Maps) -> Maps:
        check_maps(x, "mhsa", self.size)
        query, key, value = split_heads(flatten_positions(self.qkv(x)), self.heads)
        scaled_query = query * self.scale
        logits = scaled_query @ swap_axes(key, -2, -1)
        logits = logits + self.pos_embed(scaled_query if self.scale_positions else query)
        y = softmax(logits) @ value
        y = merge_heads(y)
        return unflatten_positions(y, self.size[0], self.size[1])


def split_heads(x: Tokens, heads: int) -> tuple[Heads, Heads, Heads]:
    """Queries, keys and values by head. Channels are in the order (part, head, feature)."""
    (batch, positions), channels = ops.shape(x)[:2], x.shape[2]
    parts = ops.reshape(x, (batch, positions, 3, heads, channels // (3 * heads)))
    parts = swap_axes(parts, 1, 3)
    return parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]


def merge_heads(x: Heads) -> Tokens:
    """The values of all heads at each position, in the order (head, feature)."""
    batch, heads, positions, features = ops.shape(x)
    return ops.reshape(swap_axes(x, 1, 2), (batch, positions, heads * features))

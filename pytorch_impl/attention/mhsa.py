"""Multi-head self-attention with relative positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from pytorch_impl.inputs import check_maps
from pytorch_impl.layers import (
    Conv2d,
    add,
    cast_like,
    flatten_positions,
    softmax,
    swap_axes,
    unflatten_positions,
)
from pytorch_impl.shapes import Heads, Maps, Scores, ScoresByDistance, ScoresByPosition, Tokens
from weights.attention import attention_parameters, head_width
from weights.checks import Pair, pair_of
from weights.stages import stage


@stage(is_map=False)
class RelativePositions(nn.Module):
    """Logits from the relative positions of query and key, along each axis.

    Srinivas et al. 2021, section 3.1, and Shaw et al. 2018.

    query: (batch, heads, positions, features) -> (batch, heads, positions, positions), where the
        last axis is that of the keys.
    size: (rows, cols) of the map. The tables have a row per distance, from 1 - size to size - 1.
    """

    def __init__(self, size: Pair, width: int, **options: Any):
        super().__init__()
        self.size = size
        self.height_rel = nn.Parameter(torch.empty(2 * size[0] - 1, width, **options))
        self.width_rel = nn.Parameter(torch.empty(2 * size[1] - 1, width, **options))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for table in (self.height_rel, self.width_rel):
            nn.init.normal_(table, std=table.shape[1] ** -0.5)

    def forward(self, query: Heads) -> Scores:
        batch, heads, _, width = query.shape
        rows, cols = self.size
        query = query.reshape(batch, heads, rows, cols, width)
        table = swap_axes(cast_like(self.width_rel, query), 0, 1)
        along_cols = index_by_position(query @ table, cols)
        query = swap_axes(query, 2, 3)
        table = swap_axes(cast_like(self.height_rel, query), 0, 1)
        along_rows = index_by_position(query @ table, rows)
        along_rows = swap_axes(along_rows, 2, 3)
        logits = add(along_rows[..., :, None], along_cols[..., None, :])
        return logits.reshape(batch, heads, rows * cols, rows * cols)


def index_by_position(x: ScoresByDistance, size: int) -> ScoresByPosition:
    """Scores by distance -> scores by key. Query i meets key j at distance j - i + size - 1."""
    batch, heads, lines, _, _ = x.shape
    flat = x.flatten(-2)[:, :, :, _flat_indices(x, size)]
    return flat.reshape(batch, heads, lines, size, size)


@fx.wrap
def _flat_indices(x: ScoresByDistance, size: int) -> Tensor:
    """One step of a traced graph: torch.arange takes no device that is not known yet."""
    here = torch.arange(size, device=x.device)
    return (here[:, None] * (2 * size - 1) + here - here[:, None] + size - 1).flatten()


class MultiHeadSelfAttention(nn.Module):
    """Self-attention over positions, in several heads, with relative positions.

    Srinivas et al. 2021, section 3.1, figure 4.

    x: (batch, channels, height, width) -> the same shape.
    channels: of the input.
    The options and their errors: `weights.attention.multi_head_self_attention`.
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
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        super().__init__()
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        settings = {"size": size, "heads": heads, "scale_positions": scale_positions, "bias": bias}
        attention_parameters("mhsa", channels, settings)
        width = head_width(channels, heads)
        self.size = pair_of("size", size)
        self.heads = heads
        self.scale = width**-0.5
        self.scale_positions = scale_positions
        self.qkv = Conv2d(channels, 3 * channels, bias=bias, **options)
        self.pos_embed = RelativePositions(self.size, width, **options)

    def forward(self, x: Maps) -> Maps:
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
    batch, positions, channels = x.shape
    parts = x.reshape(batch, positions, 3, heads, channels // (3 * heads))
    parts = swap_axes(parts, 1, 3)
    return parts[:, :, 0], parts[:, :, 1], parts[:, :, 2]


def merge_heads(x: Heads) -> Tokens:
    """The values of all heads at each position, in the order (head, feature)."""
    return swap_axes(x, 1, 2).flatten(2)

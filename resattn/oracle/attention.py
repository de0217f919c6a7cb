"""The oracle of the attention kinds, written from the papers: (state, name, x, **options) -> Node
of x's shape.

The options and their defaults are those of `weights.attention`; the names of the parameters are
those of the schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from resattn.oracle.layers import (
    CHANNELS,
    COLS,
    POSITIONS,
    ROWS,
    Node,
    State,
    average,
    concatenate,
    conv2d,
    einsum,
    global_average,
    hard_sigmoid,
    layer_norm,
    max_pool,
    maximum,
    normalized_conv,
    relu,
    reshape,
    sigmoid,
    softmax,
    take,
    total,
    transpose,
)
from weights.attention import ATTENTION as KINDS
from weights.checks import pair_of
from weights.inputs import check_map


def none(state: State, name: str, x: Node) -> Node:
    return x


def _gate(state: State, name: str, x: Node, gate: str = "sigmoid") -> Node:
    y = sigmoid(x) if gate == "sigmoid" else hard_sigmoid(state, x)
    return state.stage(f"{name}.{gate}", gate, y, x)


def _softmax(state: State, name: str, x: Node) -> Node:
    return state.stage(f"{name}.softmax", "softmax", softmax(x), x)


def _relu(state: State, name: str, x: Node) -> Node:
    return state.stage(f"{name}.relu", "relu", relu(state, x), x)


def _averaged(state: State, name: str, x: Node, *axes: int) -> Node:
    """The mean over some axes; over all positions if none is named."""
    kind = "average" if axes else "global_average"
    return state.stage(f"{name}.{kind}", kind, average(x, *(axes or POSITIONS)), x)


def _greatest(state: State, name: str, x: Node, *axes: int) -> Node:
    return state.stage(f"{name}.maximum", "maximum", maximum(state, x, *axes), x)


def _side_by_side(state: State, name: str, parts: list[Node], axis: int) -> Node:
    return state.stage(f"{name}.concatenate", "concatenate", concatenate(parts, axis), *parts)


def _bottleneck(state: State, name: str, x: Node) -> Node:
    return conv2d(state, f"{name}.fc2", _relu(state, name, conv2d(state, f"{name}.fc1", x)))


def squeeze_excite(state: State, name: str, x: Node, gate: str, **width: Any) -> Node:
    """Section 3, equations 2 (squeeze), 3 (excitation) and 4 (scale)."""
    return x * _gate(state, name, _bottleneck(state, name, _averaged(state, name, x)), gate)


def effective_squeeze_excite(state: State, name: str, x: Node, gate: str) -> Node:
    """Section 3.3: A_eSE(X) = sigma(W_C F_gap(X)), with one layer of C to C."""
    return x * _gate(state, name, conv2d(state, f"{name}.fc", _averaged(state, name, x)), gate)


def efficient_channel(state: State, name: str, x: Node, padding: str, **adaptive: Any) -> Node:
    """Section 3.2, equation 9: sigma(C1D_k(y)); channel c reads c - k // 2 to c + k // 2."""
    y = reshape(_averaged(state, name, x), x.shape[0], x.shape[CHANNELS])
    kernel = state.parameter(f"{name}.conv.weight")
    channels, size = y.shape[1], kernel.shape[2]
    reach = np.arange(channels)[:, None] + np.arange(size) - size // 2
    if padding == "zero":
        outside = (reach < 0) | (reach >= channels)
        y, reach = (
            concatenate([y, Node(np.zeros((len(y.value), 1)))], 1),
            np.where(outside, channels, reach),
        )
    else:
        reach %= channels
    windows = reshape(take(y, reach.ravel(), 1), -1, channels, size)
    y = reshape(einsum(state, "bcu,u->bc", windows, reshape(kernel, size)), -1, 1, channels)
    gate = _gate(state, name, state.stage(f"{name}.conv", "1-d convolution", y))
    return x * reshape(gate, -1, channels, 1, 1)


def cbam(
    state: State,
    name: str,
    x: Node,
    kernel_size: int,
    bn_eps: float,
    bn_decay: float,
    **layers: Any,
) -> Node:
    """Equations 1 to 3: first the channels, then the positions."""
    averages = _bottleneck(state, f"{name}.channel", _averaged(state, name, x))
    greatest = _bottleneck(state, f"{name}.channel", _greatest(state, name, x, *POSITIONS))
    x = x * _gate(state, name, averages + greatest)
    both = [_averaged(state, name, x, CHANNELS), _greatest(state, name, x, CHANNELS)]
    pooled = _side_by_side(state, name, both, CHANNELS)
    return x * _spatial_gate(state, f"{name}.spatial", pooled, kernel_size, bn_eps, bn_decay)


def _spatial_gate(
    state: State, name: str, pooled: Node, kernel_size: int, eps: float, decay: float
) -> Node:
    padding = (kernel_size // 2, kernel_size // 2)
    y = normalized_conv(
        state, f"{name}.conv", f"{name}.bn", pooled, padding=padding, eps=eps, decay=decay
    )
    return state.stage(name, "sigmoid", sigmoid(y), y)


def bam(
    state: State,
    name: str,
    x: Node,
    dilation: int,
    fusion: str,
    bn_eps: float,
    bn_decay: float,
    **width: Any,
) -> Node:
    """Section 3.1, equations 1 to 4; where the batch norms stand is the authors' code's."""

    def layer(conv: str, bn: str, x: Node, reach: int = 0) -> Node:
        padding, apart = (reach, reach), max(reach, 1)
        y = normalized_conv(
            state,
            f"{name}.{conv}",
            f"{name}.{bn}",
            x,
            padding=padding,
            dilation=apart,
            eps=bn_eps,
            decay=bn_decay,
        )
        return _relu(state, f"{name}.{conv.split('.')[0]}", y)

    channel = layer(
        "channel_att.fc_0", "channel_att.bn_1", _averaged(state, f"{name}.channel_att", x)
    )
    channel = conv2d(state, f"{name}.channel_att.fc_final", channel)
    spatial = layer("spatial_att.conv_reduce0", "spatial_att.bn_reduce0", x)
    spatial = layer("spatial_att.conv_di_0", "spatial_att.bn_di_0", spatial, dilation)
    spatial = layer("spatial_att.conv_di_1", "spatial_att.bn_di_1", spatial, dilation)
    spatial = conv2d(state, f"{name}.spatial_att.conv_final", spatial)
    return x + x * _gate(state, name, channel + spatial if fusion == "sum" else channel * spatial)


def concurrent_squeeze_excite(state: State, name: str, x: Node, fusion: str, **width: Any) -> Node:
    """Sections 2.1 to 2.3; the maximum: Roy et al. 2019."""
    averages = _averaged(state, f"{name}.cSE", x)
    channel = x * _gate(state, f"{name}.cSE", _bottleneck(state, f"{name}.cSE", averages))
    channel = state.stage(f"{name}.cSE", "product", channel, x)
    spatial = x * _gate(state, f"{name}.sSE", conv2d(state, f"{name}.sSE.conv", x))
    spatial = state.stage(f"{name}.sSE", "product", spatial, x)
    if fusion == "sum":
        return channel + spatial
    both = concatenate([reshape(part, 1, *x.shape) for part in (channel, spatial)], 0)
    return reshape(maximum(state, both, 0), *x.shape)


def gather_excite(
    state: State,
    name: str,
    x: Node,
    gather: str,
    extent: int | None,
    mlp: bool,
    bn_eps: float,
    bn_decay: float,
    **sizes: Any,
) -> Node:
    """Section 2: x * sigmoid(interp(xi_G(x))); the gathers of sections 3.1 and 3.2, the two layers
    of section 3.3.
    """
    _, channels, rows, cols = x.shape
    if sizes.get("size") is not None:
        check_map("ge", rows, cols, size=pair_of("size", sizes["size"]))
    if gather == "average" and extent is None:
        y = state.stage(f"{name}.gather", "average", global_average(x), x)
    elif gather == "average":
        y = state.stage(
            f"{name}.gather", "average", _around(_around(x, extent, ROWS), extent, COLS), x
        )
    else:
        y, steps = x, 1 if extent is None else extent.bit_length() - 1
        stride, padding = ((1, 1), (0, 0)) if extent is None else ((2, 2), (1, 1))
        for step in range(1, steps + 1):
            conv, bn = f"{name}.gather.conv{step}", f"{name}.gather.norm{step}"
            y = normalized_conv(
                state, conv, bn, y, stride, padding, groups=channels, eps=bn_eps, decay=bn_decay
            )
            y = _relu(state, f"{name}.gather", y) if step < steps else y
    if mlp:
        y = _bottleneck(state, f"{name}.mlp", y)
    stretched = take(y, [row * y.shape[ROWS] // rows for row in range(rows)], ROWS)
    stretched = take(stretched, [col * y.shape[COLS] // cols for col in range(cols)], COLS)
    y = state.stage(f"{name}.nearest", "nearest", stretched, y)
    return x * _gate(state, name, y)


def _around(x: Node, extent: int, axis: int) -> Node:
    """For every extent-th place along an axis, the mean of the places less than extent away that
    are there.
    """
    size = x.shape[axis]
    places = [
        range(max(0, at - extent + 1), min(size, at + extent)) for at in range(0, size, extent)
    ]
    return concatenate([average(take(x, list(near), axis), axis) for near in places], axis)


def global_context(
    state: State, name: str, x: Node, pooling: str, fusion: str, ln_eps: float, **width: Any
) -> Node:
    """Section 3.4, equation 5 and figure 4d; the fusions of figure 1 of the journal version (Cao et
    al. 2020).
    """
    batch, channels, rows, cols = x.shape
    if pooling == "attention":
        state.vanishing.add(f"{name}.conv_attn.bias")
        weights = _softmax(
            state, name, reshape(conv2d(state, f"{name}.conv_attn", x), batch, 1, rows * cols)
        )
        context = einsum(
            state, "bcn,bn->bc", reshape(x, batch, channels, -1), reshape(weights, batch, -1)
        )
        context = reshape(context, batch, channels, 1, 1)
    else:
        context = _averaged(state, name, x)

    def transformed(branch: str) -> Node:
        y = conv2d(state, f"{name}.{branch}.fc1", context)
        y = layer_norm(state, f"{name}.{branch}.norm", y, ln_eps)
        return conv2d(state, f"{name}.{branch}.fc2", _relu(state, f"{name}.{branch}", y))

    if fusion != "add":
        x = x * _gate(state, name, transformed("mlp_scale"))
    if fusion != "scale":
        x = x + transformed("mlp_add")
    return x


def simam(state: State, name: str, x: Node, e_lambda: float) -> Node:
    """Equation 5, of which the inverse 1 / e* goes through the sigmoid of equation 6; the variance
    divided by n - 1.
    """
    check_map("simam", *x.shape[2:], least=(1, 2))
    centred = x - global_average(x)
    squares = centred * centred
    variance = total(squares, *POSITIONS) * (1 / (x.shape[2] * x.shape[3] - 1))
    return x * _gate(state, name, squares / (4 * (variance + e_lambda)) + 0.5)


def coordinate(
    state: State, name: str, x: Node, bn_eps: float, bn_decay: float, **width: Any
) -> Node:
    """Section 3.2, equations 4 to 9; the activation is hard swish, as in the authors' code."""
    rows = _averaged(state, name, x, COLS)
    cols = transpose(_averaged(state, name, x, ROWS), 0, CHANNELS, COLS, ROWS)
    y = _side_by_side(state, name, [rows, cols], ROWS)
    y = normalized_conv(state, f"{name}.conv1", f"{name}.bn1", y, eps=bn_eps, decay=bn_decay)
    y = state.stage(f"{name}.hard_swish", "hard_swish", y * hard_sigmoid(state, y), y)
    height = x.shape[ROWS]
    of_rows = take(y, range(height), ROWS)
    of_cols = transpose(take(y, range(height, y.shape[ROWS]), ROWS), 0, CHANNELS, COLS, ROWS)
    gate_rows = _gate(state, name, conv2d(state, f"{name}.conv_h", of_rows))
    return x * gate_rows * _gate(state, name, conv2d(state, f"{name}.conv_w", of_cols))


def triplet(
    state: State,
    name: str,
    x: Node,
    kernel_size: int,
    spatial: bool,
    bn_eps: float,
    bn_decay: float,
) -> Node:
    """Section 3.2, equations 1 to 3: each branch swaps an axis with the channels, gates, and swaps
    it back.
    """

    def branch(gate: str, *axes: int) -> Node:
        turned = transpose(x, *axes)
        both = [_greatest(state, name, turned, CHANNELS), _averaged(state, name, turned, CHANNELS)]
        pooled = _side_by_side(state, name, both, CHANNELS)
        turned = turned * _spatial_gate(
            state, f"{name}.{gate}", pooled, kernel_size, bn_eps, bn_decay
        )
        return transpose(turned, *axes)

    y = branch("cw", 0, 2, 1, 3) + branch("hc", 0, 3, 2, 1)
    return (y + branch("hw", 0, 1, 2, 3)) * (1 / 3) if spatial else y * 0.5


def non_local(
    state: State,
    name: str,
    x: Node,
    subsample: bool,
    scale: bool,
    bn_eps: float,
    bn_decay: float,
    **width: Any,
) -> Node:
    """Section 3.1, equation 1; 3.2, embedded Gaussian (equation 3); 3.3, equation 6, with its batch
    norm and subsampling.
    """
    batch, _, rows, cols = x.shape
    check_map("nonlocal", rows, cols, least=(2, 1) if subsample else (1, 1))
    state.vanishing.add(f"{name}.phi.bias")
    if state.training:  # weights that add up to 1 hand the bias on to the batch norm
        state.vanishing.add(f"{name}.g.bias")

    def embedded(conv: str) -> Node:
        y = conv2d(state, f"{name}.{conv}", x)
        if subsample and conv != "theta":
            y = max_pool(state, y, 2, 2, 0)
        return reshape(y, *y.shape[:2], -1)

    theta, phi, g = embedded("theta"), embedded("phi"), embedded("g")
    logits = einsum(state, "bdn,bdm->bnm", theta, phi)
    weights = _softmax(state, name, logits * theta.shape[1] ** -0.5 if scale else logits)
    y = reshape(einsum(state, "bdm,bnm->bdn", g, weights), batch, -1, rows, cols)
    return x + normalized_conv(
        state, f"{name}.conv_out", f"{name}.bn", y, eps=bn_eps, decay=bn_decay
    )


def multi_head_self_attention(
    state: State, name: str, x: Node, heads: int, scale_positions: bool, **shape: Any
) -> Node:
    """Section 3.1 and figure 4: softmax(q k^T + q r^T) v, r = r_h + r_w by the distances of Shaw et
    al. 2018.
    """
    batch, channels, rows, cols = x.shape
    check_map("mhsa", rows, cols, size=pair_of("size", shape["size"]))
    width = channels // heads
    qkv = reshape(conv2d(state, f"{name}.qkv", x), batch, 3, heads, width, rows, cols)
    query, key, value = (
        reshape(take(qkv, [part], 1), batch, heads, width, rows, cols) for part in range(3)
    )

    def distances(table: str, size: int) -> Node:
        """(here, there, feature): the table's row for there - here."""
        steps = np.arange(size)[None, :] - np.arange(size)[:, None] + size - 1
        return reshape(
            take(state.parameter(f"{name}.pos_embed.{table}"), steps.ravel(), 0), size, size, width
        )

    content = einsum(state, "bnfhw,bnfij->bnhwij", query, key)
    vertical = einsum(state, "bnfhw,hif->bnhwi", query, distances("height_rel", rows))
    horizontal = einsum(state, "bnfhw,wjf->bnhwj", query, distances("width_rel", cols))
    positions = reshape(vertical, *vertical.shape, 1) + reshape(
        horizontal, *horizontal.shape[:4], 1, cols
    )
    scale = width**-0.5
    logits = content * scale + positions * (scale if scale_positions else 1.0)
    weights = _softmax(state, name, reshape(logits, batch, heads, rows * cols, rows * cols))
    flat = reshape(value, batch, heads, width, rows * cols)
    return reshape(einsum(state, "bnfm,bnpm->bnfp", flat, weights), *x.shape)


ATTENTION: dict[str, Callable[..., Node]] = {
    "none": none,
    "se": squeeze_excite,
    "ese": effective_squeeze_excite,
    "eca": efficient_channel,
    "cbam": cbam,
    "bam": bam,
    "scse": concurrent_squeeze_excite,
    "ge": gather_excite,
    "gc": global_context,
    "simam": simam,
    "coordinate": coordinate,
    "triplet": triplet,
    "nonlocal": non_local,
    "mhsa": multi_head_self_attention,
}


def attention(state: State, name: str, x: Node, kind: str, options: Mapping[str, Any]) -> Node:
    """A kind with its options; what is not given has its default."""
    oracle = ATTENTION.get(kind) or KINDS[kind].oracle
    if oracle is None:
        raise ValueError(f"attention {kind!r} was registered without an oracle")
    return oracle(state, name, x, **{**KINDS[kind].options, **options})

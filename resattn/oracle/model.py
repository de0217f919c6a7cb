"""The oracle: the block and the network in plain NumPy, forward and backward, from the papers'
definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from resattn.oracle.attention import ATTENTION, attention
from resattn.oracle.layers import (
    Array,
    Node,
    Stage,
    State,
    backward,
    global_average,
    linear,
    max_pool,
    normalized_conv,
    relu,
    reshape,
)
from resattn.oracle.stand_in import stand_in
from weights.attention import ATTENTION as KINDS
from weights.config import BlockConfig, Config, NetworkConfig


@dataclass(frozen=True)
class Pass:
    """The outcome of one pass of the oracle. gradients: by parameter, with input_gradient empty if
    not asked for.

    scales: what rounding errors are relative to, for gradients that cancel. vanishing: the
    parameters whose gradient is exactly zero whatever comes. shifted, margin, multiply_adds: as in
    `State`.
    """

    output: Array
    statistics: dict[str, Array]
    input_gradient: Array | None
    gradients: dict[str, Array]
    scales: dict[str, float]
    vanishing: frozenset[str]
    shifted: frozenset[str]
    margin: float
    multiply_adds: int


def has_oracle(kind: str) -> bool:
    """Whether a kind has a NumPy definition; one of a user's own may have none."""
    return kind in ATTENTION or KINDS[kind].oracle is not None


def block(state: State, name: str, config: BlockConfig, x: Node) -> Node:
    """He et al. 2015, figure 2 and section 3.3, with attention in front of the sum (Hu et al. 2018,
    figure 3).
    """
    y = normalized_conv(state, f"{name}conv1", f"{name}bn1", x, config.stride, config.padding)
    y = state.stage(f"{name}relu", "relu", relu(state, y), y)
    y = normalized_conv(state, f"{name}conv2", f"{name}bn2", y, (1, 1), config.padding)
    attend = attention if has_oracle(config.attention) else stand_in
    attended = attend(state, f"{name}attention", y, config.attention, config.attention_options)
    if attended is not y:
        y = state.stage(f"{name}attention", "attention", attended, y)
    if config.projects:
        x = normalized_conv(state, f"{name}shortcut.0", f"{name}shortcut.1", x, config.stride)
    total = state.stage(f"{name}sum", "sum", y + x, y, x)
    return state.stage(name.rstrip(".") or "output", "relu", relu(state, total), total)


def network(state: State, config: NetworkConfig, x: Node) -> Node:
    """He et al. 2015, table 1 and section 4.2: stem, stages, global average pooling, classifier."""
    padding = (config.stem_kernel_size[0] // 2, config.stem_kernel_size[1] // 2)
    y = normalized_conv(state, "stem.conv", "stem.bn", x, config.stem_stride, padding)
    y = state.stage("stem.relu" if config.stem_pool else "stem", "relu", relu(state, y), y)
    if config.stem_pool:
        y = state.stage("stem", "maximum pooling", max_pool(state, y, 3, 2, 1), y)
    for i, blocks in enumerate(config.stages()):
        for j, block_config in enumerate(blocks):
            y = block(state, f"stages.{i}.{j}.", block_config, y)
    y = state.stage("global_average", "average", global_average(y), y)
    return linear(state, "classifier", reshape(y, *y.shape[:2]))


def stages(
    config: Config,
    arrays: Mapping[str, Array],
    x: Array,
    *,
    training: bool,
    altered: Mapping[str, Callable[[Stage], Array]] | None = None,
) -> tuple[State, Node, Node]:
    """One forward pass: what it left behind (its stages among it), the input and the output.
    altered: as in `State`.
    """
    wide = {name: _wide(array) for name, array in arrays.items()}
    state = State(wide, training, config.bn_decay, config.bn_eps, altered=altered or {})
    image = Node(_wide(x))
    output = (
        block(state, "", config, image)
        if isinstance(config, BlockConfig)
        else network(state, config, image)
    )
    return state, image, output


def run(
    config: Config,
    arrays: Mapping[str, Array],
    x: Array,
    cotangent: Array | Callable[[Array], Array] | None = None,
    *,
    training: bool,
) -> Pass:
    """One pass of the oracle. arrays: canonical; x: (batch, channels, height, width); all are taken
    as float64.

    cotangent: the gradients are those of sum(output * cotangent); None if no gradients are wanted;
    a function of the output if it depends on it, as the slope of a loss does.
    """
    state, image, output = stages(config, arrays, x, training=training)
    gradients = {}
    if cotangent is not None:
        backward(output, _wide(cotangent(output.value) if callable(cotangent) else cotangent))
        for name, node in state.parameters.items():
            gradients[name] = (
                np.zeros(node.shape)
                if node.slope is None or name in state.vanishing
                else node.slope
            )
    scales = {
        name: state.magnitudes[name]
        for name in state.cancelling | state.vanishing
        if name in state.magnitudes
    }
    return Pass(
        output.value,
        state.statistics,
        image.slope,
        gradients,
        scales,
        frozenset(state.vanishing),
        frozenset(state.shifted),
        state.margin,
        state.multiply_adds,
    )


def _wide(array: Array) -> Array:
    return array.astype(np.result_type(array, np.float64))

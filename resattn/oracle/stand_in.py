"""What the oracle does for an attention kind that was registered without one: ask its first
implementation, in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from resattn.oracle.layers import Array, Node, State
from weights import schema
from weights.attention import ATTENTION
from weights.config import BlockConfig
from weights.convert import layout, reorder
from weights.live import MissingFramework, adapter, build, export, leaves

ATTENTION_PREFIX = "attention."


def framework_of_kind(kind: str) -> str:
    """The first framework that a kind was registered for and that is installed."""
    for framework in ATTENTION[kind].modules:
        try:
            adapter(framework)
        except MissingFramework:
            continue
        return framework
    raise MissingFramework(
        f"attention {kind!r} has no oracle, and no framework that it was registered for is "
        f"installed: {', '.join(ATTENTION[kind].modules)}"
    )


def stand_in(state: State, name: str, x: Node, kind: str, options: Mapping[str, Any]) -> Node:
    """The module's output and slopes, computed in float64 by its own implementation."""
    framework = framework_of_kind(kind)
    module, own = adapter(framework), layout(framework)
    # A block is what adapters can build and look into; of this one only the attention is used.
    config = BlockConfig(1, x.shape[1], 1, attention=kind, attention_options=options)
    parameters = [p for p in schema(config) if p.name.startswith(ATTENTION_PREFIX)]
    names = {p.name: f"{name}.{p.name.removeprefix(ATTENTION_PREFIX)}" for p in parameters}
    arrays = {
        p.name: state.arrays[names[p.name]] if p in parameters else np.ones(p.shape)
        for p in schema(config)
    }
    with module.precise("float64"):
        model = build(config, arrays, framework)
        y = module.forward(model.attention, x.value, training=state.training)
        after = export(model)
    state.statistics |= {names[p.name]: after[p.name] for p in parameters if not p.trainable}
    trainable = [p for p in parameters if p.trainable]

    @cache
    def slopes(content: bytes) -> tuple[Array, dict[str, Array]]:
        live = leaves(model)
        held = {own.name(p).removeprefix(ATTENTION_PREFIX): live[p.name] for p in trainable}
        cotangent = np.frombuffer(content).reshape(x.shape)
        with module.precise("float64"):
            _, to_x, rest = module.gradients(
                model.attention, held, x.value, cotangent, training=state.training
            )
        given = zip(trainable, held, strict=True)
        to_parameters = {p.name: reorder(rest[key], own.axes(p), p.axes) for p, key in given}
        magnitudes = {key: float(np.abs(slope).max()) for key, slope in to_parameters.items()}
        # What is that small in float64 is what rounding leaves of nothing: a bias in front of a
        # batch norm, say.
        greatest = max(magnitudes.values(), default=0.0)
        for key in (key for key, magnitude in magnitudes.items() if magnitude < 1e-10 * greatest):
            state.vanishing.add(names[key])
            state.magnitudes[names[key]] = greatest
        return to_x, to_parameters

    sources = [(x, lambda slope: slopes(slope.tobytes())[0])]
    for p in trainable:
        sources.append(
            (
                state.parameter(names[p.name]),
                lambda slope, key=p.name: slopes(slope.tobytes())[1][key],
            )
        )
    return Node(y, *sources)

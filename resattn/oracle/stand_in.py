"""What the oracle does for an attention kind that was registered without a graph: it asks the
kind's first implementation, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from resattn.oracle.layers import State
from resattn.oracle.node import Array, Node, accumulated
from weights import schema
from weights.attention import ATTENTION
from weights.config import BlockConfig
from weights.errors import MissingFramework
from weights.live import LiveModel, adapter, build
from weights.operations import Operation

MODULE = "attention"  # of a block


def framework_of_kind(kind: str) -> str:
    """The first framework that a kind was registered for and that is installed."""
    for framework in ATTENTION[kind].modules:
        try:
            adapter(framework)
        except MissingFramework:
            continue
        return framework
    raise MissingFramework(
        f"attention {kind!r} has no graph, and no framework that it was registered for is "
        f"installed: {', '.join(ATTENTION[kind].modules)}"
    )


def stand_in(state: State, operation: Operation, x: Node) -> Node:
    """The module's output and slopes, computed in float64 by its own implementation."""
    kind, options = operation.settings["attention"], operation.settings["options"]
    framework = framework_of_kind(kind)
    precise = adapter(framework).precise
    # A block is what adapters can build and look into; of this one only the attention is used.
    config = BlockConfig(1, x.shape[1], 1, attention=kind, attention_options=options)
    scope = operation.module
    arrays = {
        each.name: state.arrays[scope + each.name.removeprefix(MODULE)]
        if each.name.startswith(f"{MODULE}.")
        else np.ones(each.shape)
        for each in schema(config)
    }
    with precise("float64"):
        module = LiveModel.of(build(config, arrays, framework)).part(MODULE)
        y = module.forward(x.value, training=state.training)
        after = module.statistics() if state.training else {}
    state.statistics |= {f"{scope}.{name}": array for name, array in after.items()}

    @cache
    def slopes(content: bytes) -> dict[str, Array]:
        cotangent = np.frombuffer(content).reshape(x.shape)
        with precise("float64"):
            _, found = module.gradients(x.value, cotangent, training=state.training)
        magnitudes = {each.name: float(np.abs(found[each.name]).max()) for each in module.trainable}
        # What is that small in float64 is what rounding leaves of nothing: a bias before a batch
        # norm, say.
        greatest = max(magnitudes.values(), default=0.0)
        for name in (name for name, size in magnitudes.items() if size < 1e-10 * greatest):
            state.vanishing.add(f"{scope}.{name}")
            state.magnitudes[f"{scope}.{name}"] = greatest
        return found

    def to(name: str) -> Callable[[Array], Array]:
        return lambda slope: _noisy(slopes(slope.tobytes()), name)

    def _noisy(found: Mapping[str, Array], name: str) -> Array:
        """In a disturbed pass: sums that may cancel, of terms as large as the greatest slope."""
        greatest = max(float(np.abs(array).max()) for array in found.values())
        squares = np.square(greatest) if name != "input" else np.square(found[name])
        return accumulated(found[name], lambda: squares, x.value.size)

    held = {each.name: state.parameter(f"{scope}.{each.name}") for each in module.trainable}
    return Node(y, (x, to("input")), *((node, to(name)) for name, node in held.items()))

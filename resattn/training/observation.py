"""What each device has in one training step of ours, for `resattn.tracing.parallel`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from resattn.checking.backends import Backend, precise
from resattn.tracing.parallel import DeviceStep, StepTrace, observed_step, trace_step
from resattn.training.trainer import scope_of
from weights.config import Config, without_chance
from weights.convert import Arrays, reorder
from weights.live import LiveModel, part
from weights.recipe import SGD, Recipe
from weights.shards import Shards

_RATE = 1.0  # of plain gradient descent, so that an update is the gradient


def observe_step(
    backend: Backend,
    config: Config,
    arrays: Mapping[str, np.ndarray],
    recipe: Recipe,
    shards: Shards,
    images: np.ndarray,
    labels: np.ndarray,
) -> list[DeviceStep]:
    """One step of a new model on several devices, in float64.

    recipe: for its label smoothing. images: (batch, channels, height, width). labels: (batch,).
    Raises what the framework's `distributed.DataParallel` raises.
    """
    config = without_chance(config)
    before = {name: array.astype("float64") for name, array in arrays.items()}
    plain = Recipe(SGD(_RATE), label_smoothing=recipe.label_smoothing, batch_size=len(images))
    name = backend.framework
    with precise((name,), "float64"), scope_of(name, shards, backend.device):
        live = backend.build_live(config, before)
        optimizer = part(name, "training").optimizer(live.model, plain)
        made = part(name, "distributed").DataParallel(live.model, optimizer, plain, shards)
        with made as parallel:
            states = parallel.observe(images.astype("float64"), labels, live.leaves)
    return [
        observed_step(config, before, _to_canonical(live, after), seen, _RATE)
        for seen, after in states
    ]


def _to_canonical(live: LiveModel, held: Mapping[str, np.ndarray]) -> Arrays:
    own = live.framework.axes
    return {each.name: reorder(held[each.name], own(each), each.axes) for each in live.parameters}


def explain_step(
    backend: Backend,
    config: Config,
    arrays: Mapping[str, np.ndarray],
    recipe: Recipe,
    shards: Shards,
    images: np.ndarray,
    labels: np.ndarray,
) -> StepTrace:
    """Makes a step as `observe_step` does, and says which device computes something else than it
    should, and why.
    """
    observed = observe_step(backend, config, arrays, recipe, shards, images, labels)
    before = {name: array.astype("float64") for name, array in arrays.items()}
    return trace_step(config, before, recipe, shards, images.astype("float64"), labels, observed)

"""What each device has in one training step of ours, for `resattn.tracing.parallel`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from resattn.checking.backends import Backend, precise
from resattn.tracing.parallel import DeviceStep, StepTrace, observed_step, trace_step
from resattn.training.trainer import scope_of
from weights.config import Config, without_chance
from weights.convert import Arrays, reorder
from weights.live import LiveModel, part
from weights.recipe import SGD, Recipe, batch
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


def explain_steps(
    used: Sequence[Backend],
    divisions: Sequence[Shards],
    config: Config,
    arrays: Mapping[str, np.ndarray],
    recipe: Recipe,
    data: tuple[np.ndarray, np.ndarray],
) -> Iterator[StepTrace]:
    """Makes the first step of a run on several devices in each framework, and yields what is wrong
    with those in which a device computes something else than it should.

    data: all images and labels of the run.
    """
    chosen = batch(recipe, len(data[0]), 0)
    images, labels = data[0][chosen].astype("float64"), data[1][chosen]
    before = {name: array.astype("float64") for name, array in arrays.items()}
    for backend, shards in product(used, divisions):
        if shards.count > 1:
            problem = (config, before, recipe, shards, images, labels)
            found = trace_step(*problem, observe_step(backend, *problem))
            if not found.ok:
                yield replace(found, title=f"{backend.name}: {found.title}")

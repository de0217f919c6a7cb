"""Data-parallel training on several devices of one process: by tf.distribute on TensorFlow, by
keras.distribution on JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from tf_impl.bridge.native import device_scope, keep, pullback, to_canonical
from tf_impl.bridge.replicas import (
    compile_divided,
    count_replicas,
    divide,
    find_devices,
    on_each,
    provide_processors,
    scope_on,
    sum_slopes,
)
from tf_impl.shapes import Labels, Maps, Scalar
from tf_impl.shards import divided
from tf_impl.training import Optimizer, cross_entropy, logits
from weights.checks import at_least
from weights.config import Config, own_kinds
from weights.errors import ArgumentError
from weights.labelled import check_labelled
from weights.live import framework_of
from weights.recipe import Recipe
from weights.shards import DeviceState, Division, Shards


def provide_devices(count: int) -> None:
    """Makes the CPU be at least so many devices. Call it before anything else uses the backend of
    Keras.

    Raises ArgumentError if the backend has begun with fewer, and for several devices on PyTorch.
    """
    provide_processors(at_least("count", count, 1))


@contextmanager
def scope(shards: Shards, device: str = "cpu") -> Iterator[None]:
    """Models that are made within it are on that many devices and can be trained on them.

    Raises ArgumentError where there are fewer devices, and for several devices on PyTorch.
    """
    with scope_on(find_devices(shards.count, device)):
        yield


class DataParallel:
    """Trains a model on several devices, each with the whole model and a part of every batch.

    model: made within `scope(shards)`. optimizer: of `training.optimizer(model, recipe)`.
    shards: how many devices, and what batch norms normalise with.
    Dropout and dropped paths draw other numbers than on one device, the same for every shard.
    Raises ArgumentError for a model that is on another number of devices, and for attention kinds
    of your own on several devices, because their norms may be those of a shard; ModelError for
    another model.
    """

    def __init__(
        self, model: keras.layers.Layer, optimizer: Optimizer, recipe: Recipe, shards: Shards
    ):
        framework_of(model)
        config: Config = model.config
        own = own_kinds(config)
        if own and shards.count > 1:
            raise ArgumentError(
                f"attention: {own[0]!r} is a kind of your own, and a norm in it might normalise "
                "with a part of the batch; train such a model on one device"
            )
        held = count_replicas(model)
        if held != shards.count:
            raise ArgumentError(
                f"the model: expected one on {shards.count} devices, got one "
                f"{f'on {held}' if held else 'whose parameters are divided'}; make it, and then "
                "its optimizer, within tf_impl.distributed.scope(shards)"
            )
        self.model = model
        self.optimizer = optimizer
        self.recipe = recipe
        self.shards = shards
        self._steps: dict[Division, Callable[[Any, Any], Scalar]] = {}

    def train(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        """Makes one update with each batch. Returns the losses before each.

        batches: canonical images (batch, channels, height, width) and labels (batch,). A batch that
            the devices do not divide is filled up.
        Model and optimizer are current afterwards. After an error they are as they were before.
        """
        variables = [*self.model.variables, *self.optimizer.variables]
        before = [keep(variable) for variable in variables]
        losses: list[Any] = []
        try:
            for batch in batches:
                losses.append(self._step(*batch))
                losses[-2:-1] = map(_to_float, losses[-2:-1])  # two batches are on the devices
            return [*losses[:-1], *map(_to_float, losses[-1:])]
        except BaseException:
            for variable, value in zip(variables, before, strict=True):
                variable.assign(value)
            raise

    def _step(self, images: np.ndarray, labels: np.ndarray) -> Scalar:
        labels = check_labelled(images, labels, self.model.config)
        division = self.shards.divide(len(images))
        if division not in self._steps:
            self._steps[division] = self._compile(division)
        model, step = self.model, self._steps[division]
        with device_scope(model), divided(model, division):
            return step(divide(model, images, division), divide(model, labels, division))

    def observe(
        self, images: np.ndarray, labels: np.ndarray, leaves: Mapping[str, Any]
    ) -> list[DeviceState]:
        """Makes one update, and tells what each device had in it, for `resattn.tracing.parallel`.

        leaves: the model's variables, by canonical names.
        Returns, for each device, the images that it computed on, canonical and filled up, and its
        own copy of each leaf after the update, in the framework's layout.
        """
        self.train([(images, labels)])
        given = on_each(divide(self.model, images, self.shards.divide(len(images))))
        held = {name: on_each(leaf.value) for name, leaf in leaves.items()}
        return [
            (to_canonical(part), {name: to_canonical(held[name][number], False) for name in held})
            for number, part in enumerate(given)
        ]

    def _compile(self, division: Division) -> Callable[[Any, Any], Scalar]:
        """The step for a division: a function of images (channels last) and labels."""
        model, optimizer = self.model, self.optimizer
        variables, smoothing = model.trainable_variables, self.recipe.label_smoothing

        def update(x: Maps, labels: Labels) -> Scalar:
            def loss_of(x: Maps) -> Scalar:
                return cross_entropy(logits(model(x, training=True)), labels, smoothing, division)

            loss, _, slopes = pullback(model, loss_of, variables, x, of_input=False)
            optimizer.apply(sum_slopes(slopes), variables)
            return ops.stop_gradient(loss)

        return compile_divided(model, update, [*model.variables, *optimizer.variables])

    def close(self) -> None:
        """Frees the compiled steps."""
        self._steps.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _to_float(loss: Scalar) -> float:
    return float(to_canonical(loss))

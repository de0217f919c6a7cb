"""Data-parallel training on several devices of JAX (`jax.sharding`, `jax.shard_map`).

The devices may be those of several processes, each of which has called `jax.distributed.initialize`
and does the same, with the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from jax_impl.bridge.native import find_devices
from jax_impl.shards import MESH_AXIS
from jax_impl.training import make_divided_step
from weights.checks import at_least
from weights.config import Config, own_kinds
from weights.errors import ArgumentError
from weights.labelled import check_labelled
from weights.live import framework_of
from weights.recipe import Recipe
from weights.shards import DeviceState, Division, Shards


def provide_devices(count: int) -> None:
    """Makes the CPU be at least so many devices. Call it before anything else uses JAX.

    Raises ArgumentError if JAX has begun with fewer.
    """
    count = at_least("count", count, 1)
    config: Any = jax.config
    if count <= config.jax_num_cpu_devices:
        return
    try:
        config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # it has begun
        find_devices(count, "cpu")


@contextmanager
def scope(shards: Shards, device: str = "cpu") -> Iterator[None]:
    """Models that are made within it can be trained on that many devices. JAX needs nothing for
    that; the number is checked.

    Raises ArgumentError where there are fewer devices.
    """
    find_devices(shards.count, device)
    yield


class DataParallel:
    """Trains a model on several devices, each with the whole model and a part of every batch.

    optimizer: of `training.optimizer(model, recipe)`.
    shards: how many devices, and what batch norms normalise with. The devices are the first ones of
        the kind that the model is on. From the first `train` until `close`, the arrays of model and
        optimizer are on all of them. Until then the model takes arrays that are on no device yet,
        such as those of NumPy.
    Dropout and dropped paths draw on each device for itself, so that a run with them is not the
    same as on one device.
    Raises ArgumentError for more devices than there are, and for attention kinds of your own on
    several devices, because their norms may be those of a shard; ModelError for another model.
    """

    def __init__(self, model: nnx.Module, optimizer: nnx.Optimizer, recipe: Recipe, shards: Shards):
        framework_of(model)
        config: Config = model.config  # type: ignore[attr-defined]
        own = own_kinds(config)
        if own and shards.count > 1:
            raise ArgumentError(
                f"attention: {own[0]!r} is a kind of your own, and a norm in it might normalise "
                "with a part of the batch; train such a model on one device"
            )
        self._config = config
        self.model = model
        self.optimizer = optimizer
        self.recipe = recipe
        self.shards = shards
        self._steps: dict[Division, Callable[[Array, Array], Array]] = {}
        self._variables = [
            node for _, node in nnx.iter_graph((model, optimizer)) if isinstance(node, nnx.Variable)
        ]
        held = self._arrays()
        platform = next(iter(held[0].devices())).platform
        mesh = Mesh(np.array(find_devices(shards.count, platform)), (MESH_AXIS,))
        self._places = [array.sharding for array in held]
        self._whole, self._parts = NamedSharding(mesh, P()), NamedSharding(mesh, P(MESH_AXIS))

    def train(self, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> list[float]:
        """Makes one update with each batch. Returns the losses before each.

        batches: canonical images (batch, channels, height, width) and labels (batch,). A batch that
            the devices do not divide is filled up.
        Model and optimizer are current afterwards. After an error they are as they were before.
        """
        before = self._arrays()
        losses: list[Any] = []
        try:
            # Copies: a step takes the memory of the arrays that it gets.
            self._assign([jnp.copy(self._replicate(array)) for array in before])
            for batch in batches:
                losses.append(self._step(*batch))
                losses[-2:-1] = map(float, losses[-2:-1])  # waits: two batches are on the devices
            return [float(loss) for loss in losses]
        except BaseException:
            self._assign(before)
            raise

    def _step(self, images: np.ndarray, labels: np.ndarray) -> Array:
        labels = check_labelled(images, labels, self._config)
        division = self.shards.divide(len(images))
        if division not in self._steps:
            made = make_divided_step(self.model, self.optimizer, self.recipe, division)
            self._steps[division] = made
        step = self._steps[division]
        images = np.moveaxis(division.pad(images), 1, -1)
        return step(self._divide(images), self._divide(division.pad(labels)))

    def _divide(self, batch: np.ndarray) -> Array:
        """A filled up batch, a part of it on each device."""
        return jax.make_array_from_callback(batch.shape, self._parts, lambda index: batch[index])

    def _replicate(self, array: Array) -> Array:
        """An array on all devices. Each process gives its own devices what it has."""
        if array.sharding == self._whole:
            return array
        return jax.make_array_from_callback(array.shape, self._whole, lambda _: array)

    def observe(
        self, images: np.ndarray, labels: np.ndarray, leaves: Mapping[str, Any]
    ) -> list[DeviceState]:
        """Makes one update, and tells what each device had in it, for `resattn.tracing.parallel`.

        leaves: the model's variables, by canonical names.
        Returns, for each device, the images that it computed on, canonical and filled up, and its
        own copy of each leaf after the update, in the framework's layout.
        """
        self.train([(images, labels)])
        division, devices = self.shards.divide(len(images)), list(self._whole.mesh.devices.flat)
        given = _on_each(self._divide(np.moveaxis(division.pad(images), 1, -1)))
        held = {name: _on_each(leaf.get_raw_value()) for name, leaf in leaves.items()}
        return [
            (np.moveaxis(given[each], -1, 1), {name: held[name][each] for name in held})
            for each in devices
            if each in given
        ]

    def _arrays(self) -> list[Array]:
        return [variable.get_raw_value() for variable in self._variables]

    def _assign(self, arrays: list[Array]) -> None:
        for variable, array in zip(self._variables, arrays, strict=True):
            variable.set_raw_value(array)

    def close(self) -> None:
        """Puts model and optimizer back on the devices where they were."""
        pairs = zip(self._arrays(), self._places, strict=True)
        self._assign([_place_back(array, place) for array, place in pairs])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _on_each(array: Array) -> dict[Any, np.ndarray]:
    """The part of an array on each device of this process."""
    return {shard.device: np.asarray(shard.data) for shard in array.addressable_shards}


def _place_back(array: Array, place: Sharding) -> Array:
    """An array that is on all devices, on those where it was: if that is one of them, the part
    there.
    """
    for shard in array.addressable_shards:
        if place.device_set == {shard.device}:
            return shard.data
    return jax.device_put(array, place)

"""Several devices. Every device runs the same function on its shard.

On TensorFlow tf.distribute mirrors each variable and runs it. On JAX keras.distribution puts each
variable on all devices, and shard_map runs it: divided by XLA alone, convolutions with groups would
get the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from importlib import import_module
from typing import Any

import keras
import numpy as np

from tf_impl.bridge.native import (
    BACKEND,
    channels_last,
    compile_pure,
    compile_update,
    make_pure,
    to_native,
)
from weights.checks import one_of
from weights.copying import Arena
from weights.errors import ArgumentError
from weights.shards import Division
from weights.stored import StoredArray

_REPLICA_AXIS = "batch"  # of the mesh of keras.distribution.DataParallel
_IS_REPLICA = ContextVar("whether JAX traces what each device runs", default=False)


def provide_processors(count: int) -> None:
    """Makes the CPU be at least so many devices. Raises ArgumentError if the backend has begun with
    fewer.
    """
    if BACKEND == "tensorflow":
        config = import_module("tensorflow").config
        cpu = config.list_physical_devices("CPU")[0]
        if count > len(config.get_logical_device_configuration(cpu) or [cpu]):
            with suppress(RuntimeError):  # it has begun
                made = [config.LogicalDeviceConfiguration() for _ in range(count)]
                config.set_logical_device_configuration(cpu, made)
    elif BACKEND == "jax":
        config = import_module("jax").config
        if count > max(config.jax_num_cpu_devices, 1):
            with suppress(RuntimeError):  # it has begun
                config.update("jax_num_cpu_devices", count)
    find_devices(count, "cpu")


def find_devices(count: int, device: str) -> list[str]:
    """The first devices of a kind, "cpu" or "cuda", by the backend's names. Raises ArgumentError
    where there are fewer, and for several on PyTorch.
    """
    if BACKEND == "torch" and count > 1:
        raise ArgumentError(
            f"shards.count: expected 1, got {count}: Keras on PyTorch cannot train on several "
            "devices; set KERAS_BACKEND=tensorflow or jax, or use pytorch_impl"
        )
    kind = {"cpu": "cpu", "cuda": "gpu"}[one_of("device", device, ("cpu", "cuda"))]
    if BACKEND == "tensorflow":
        held = import_module("tensorflow").config.list_logical_devices(kind.upper())
        found = [each.name for each in held]
    elif BACKEND == "jax":
        try:
            found = keras.distribution.list_devices(kind)
        except RuntimeError:  # no such backend
            found = []
    else:
        found = (
            ["cpu"] if device == "cpu" else ["cuda"] * import_module("torch").cuda.is_available()
        )
    if len(found) < count:
        help = "; call provide_devices(count) before anything else uses Keras' backend"
        raise ArgumentError(
            f"shards.count: expected at most {len(found)}, the number of {device} devices here, "
            f"got {count}{help if device == 'cpu' else ''}"
        )
    return found[:count]


def scope_on(devices: Sequence[str]) -> AbstractContextManager[Any]:
    """Within it, new variables are on all of these devices."""
    if len(devices) == 1:
        return nullcontext()
    if BACKEND == "jax":
        scope: AbstractContextManager[Any] = keras.distribution.DataParallel(
            devices=devices
        ).scope()
        return scope
    distribute = import_module("tensorflow").distribute
    on_cpu = "CPU" in devices[0]  # where there is no NCCL
    sums = distribute.ReductionToOneDevice() if on_cpu else None
    return distribute.MirroredStrategy(devices, cross_device_ops=sums).scope()


def scope_of(model: keras.layers.Layer) -> AbstractContextManager[Any]:
    """Within it, new variables are on the devices of a model."""
    if count_replicas(model) == 1:
        return nullcontext()
    if BACKEND == "jax":
        scope: AbstractContextManager[Any] = _distribution(model).scope()
        return scope
    return _strategy(model).scope()


def count_replicas(model: keras.layers.Layer) -> int:
    """The number of devices that hold each variable of a model. 0 where they hold parts of it."""
    values = [variable.value for variable in model.weights]
    if BACKEND == "tensorflow":
        return len(getattr(values[0], "values", values[:1]))
    if BACKEND == "jax":
        whole = all(value.is_fully_replicated for value in values)
        return len(values[0].devices()) if whole else 0
    return 1


def _strategy(model: Any) -> Any:
    return model.weights[0].value.distribute_strategy


def _distribution(model: Any) -> Any:
    devices = list(model.weights[0].value.sharding.mesh.devices.flat)
    return keras.distribution.DataParallel(devices=devices)


def replica_index() -> Any:
    """The number of the device that runs the function. None where one runs it for all."""
    if _IS_REPLICA.get():
        return import_module("jax").lax.axis_index(_REPLICA_AXIS)
    context = _replica_context()
    return None if context is None else context.replica_id_in_sync_group


def sum_over_replicas(x: Any) -> Any:
    """The sum of x over the devices, where each of them runs the function. Its gradient is that of
    the sum of what they return.
    """
    if _IS_REPLICA.get():
        return import_module("jax").lax.psum(x, _REPLICA_AXIS)
    context = _replica_context()
    if context is None:
        return x
    tensorflow = import_module("tensorflow")

    # all_reduce has this gradient as well, but TensorFlow then looks for variables in the graphs of
    # all other devices, at each sum. It does not look further than stop_gradient.
    def add_up(value: Any) -> Any:
        return context.all_reduce("sum", tensorflow.stop_gradient(value))

    return tensorflow.custom_gradient(lambda value: (add_up(value), add_up))(x)


def sum_slopes(slopes: list[Any]) -> list[Any]:
    """The sums of gradients over the devices, for a Keras optimizer. On TensorFlow it makes them
    itself.
    """
    return slopes if BACKEND == "tensorflow" else [sum_over_replicas(each) for each in slopes]


def _replica_context() -> Any:
    if BACKEND != "tensorflow":
        return None
    context = import_module("tensorflow").distribute.get_replica_context()
    return context if context is not None and context.num_replicas_in_sync > 1 else None


def divide(model: keras.layers.Layer, array: np.ndarray, division: Division) -> Any:
    """A canonical batch on the devices of a model, each of which gets its shard."""
    if BACKEND == "tensorflow" and count_replicas(model) > 1:
        tensorflow, strategy = import_module("tensorflow"), _strategy(model)
        devices = strategy.extended.worker_devices

        def part(context: Any) -> Any:
            shard = context.replica_id_in_sync_group
            with tensorflow.device(devices[shard]):
                return tensorflow.convert_to_tensor(channels_last(division.part(array, shard)))

        return strategy.experimental_distribute_values_from_function(part)
    if count_replicas(model) == 1:
        return to_native(model, division.pad(array))
    padded, distribution = channels_last(division.pad(array)), _distribution(model)
    return keras.distribution.distribute_tensor(padded, distribution.get_data_layout(padded.shape))


def on_each(value: Any) -> list[Any]:
    """What each device has of a value that is on several: of a variable, or of `divide`."""
    if BACKEND == "tensorflow":
        return list(getattr(value, "values", [value]))
    if BACKEND == "jax" and hasattr(value.sharding, "mesh"):
        places = {each: number for number, each in enumerate(value.sharding.mesh.devices.flat)}
        shards = sorted(value.addressable_shards, key=lambda shard: places[shard.device])
        return [shard.data for shard in shards]
    return [value]


def compile_divided(
    model: keras.layers.Layer, update: Callable[..., Any], variables: list[keras.Variable]
) -> Callable[..., Any]:
    """As `compile_update` for what `divide` gives: runs `update` on the devices of a model. The
    parts of the result that they return are added up.
    """
    if count_replicas(model) == 1:
        return compile_update(update, variables)
    if BACKEND == "jax":
        mesh = _distribution(model).device_mesh.backend_mesh
        return compile_pure(_run_on_each(make_pure(update, variables), mesh), variables)
    strategy = _strategy(model)

    def run(*shards: Any) -> Any:
        return strategy.reduce("sum", strategy.run(update, args=shards), axis=None)

    return compile_update(run, variables)


def _run_on_each(pure: Callable[..., Any], mesh: Any) -> Callable[..., Any]:
    """A function of all values and the whole batch on JAX: each device runs `pure` on its shard."""
    jax = import_module("jax")
    whole, part = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(_REPLICA_AXIS)

    def run(values: list[Any], *shards: Any) -> Any:
        token = _IS_REPLICA.set(True)
        try:
            result, values = pure(values, *shards)
            return sum_over_replicas(result), values
        finally:
            _IS_REPLICA.reset(token)

    # Unchecked: the gradients of sums over the devices are sums over the devices then.
    specs = (whole, part, part)
    mapped: Callable[..., Any] = jax.shard_map(
        run, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False
    )
    return mapped


def put_divided(
    leaf: keras.Variable, stored: StoredArray, layout: keras.distribution.TensorLayout
) -> None:
    """Divides a variable on JAX as `layout` says, and gives it values: each device copies its part.

    Not with a LayoutMap, which knows variables by their paths: those of a model of ours are not
    unique, since layers have their variables before they are parts of a model.
    """
    values = stored.get()

    def copy_part(index: Any) -> np.ndarray:
        part = values[index]
        return Arena(part.nbytes).copy(part)  # aligned: on CPU, JAX keeps it as it is

    place = layout.backend_layout
    array = import_module("jax").make_array_from_callback(values.shape, place, copy_part)
    leaf._layout = layout  # Keras has no other way to it once there is a variable
    leaf.assign(array)

"""Live models <-> NumPy: the functions of a framework for `weights` and the cross-check.

Images and outputs are NumPy arrays in canonical order, (batch, channels, height, width). Parameters
stay in the framework's own layout; `weights` reorders them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tf_impl.bridge.native import BACKEND as BACKEND
from tf_impl.bridge.native import (
    compile_update,
    device_scope,
    give,
    keras_device,
    pullback,
    to_canonical,
    to_native,
    without_draws,
)
from tf_impl.bridge.native import to_numpy as to_numpy
from tf_impl.layers import FLOAT64_HELP as FLOAT64_HELP
from tf_impl.layers import Sequential
from tf_impl.network import ResidualAttentionNetwork
from tf_impl.variant import build_block
from weights.config import BlockConfig, Config, own_kinds
from weights.copying import Arena
from weights.errors import ArgumentError
from weights.flags import (
    EXECUTIONS,
    check_flag,
    chosen_execution,
    hold_deterministic_torch,
    hold_setting,
    hold_tf32_of_torch,
    uses_tf32_of_torch,
)
from weights.settings import ModuleSettings, own_settings


def versions() -> str:
    """The framework with its version."""
    return f"keras {keras.__version__} on {BACKEND} {import_module(BACKEND).__version__}"


def devices() -> tuple[str, ...]:
    """The devices that models can be on here."""
    if BACKEND == "tensorflow":
        found = bool(import_module("tensorflow").config.list_physical_devices("GPU"))
    elif BACKEND == "jax":
        found = any(device.platform == "gpu" for device in import_module("jax").devices())
    else:
        found = import_module("torch").cuda.is_available()
    return ("cpu", "cuda") if found else ("cpu",)


@contextmanager
def precise(dtype: str) -> Iterator[None]:
    """Within it, float32 is computed in float32 and float64 can be used. dtype "tf32": products of
    float32 are computed in TF32 where the device has it. It holds for the whole process, on JAX for
    this thread.
    """
    allowed = dtype == "tf32"
    with ExitStack() as stack:
        if BACKEND == "tensorflow":
            config = import_module("tensorflow").config.experimental
            read = config.tensor_float_32_execution_enabled
            write = config.enable_tensor_float_32_execution
            stack.enter_context(hold_setting("TF32 of TensorFlow", allowed, read, write))
        elif BACKEND == "jax":
            jax = import_module("jax")
            precision = "tensorfloat32" if allowed else "highest"
            stack.enter_context(jax.default_matmul_precision(precision))
            if dtype == "float64":
                stack.enter_context(jax.enable_x64(True))
        else:
            stack.enter_context(hold_tf32_of_torch(import_module("torch"), allowed))
        yield


def flags() -> str:
    """The settings that decide the precision of float32, as they are now."""
    if BACKEND == "tensorflow":
        config = import_module("tensorflow").config.experimental
        return f"TF32 {config.tensor_float_32_execution_enabled()}"
    if BACKEND == "jax":
        config = import_module("jax").config
        return f"matrix products in precision {config.jax_default_matmul_precision}"
    matmul, cudnn = uses_tf32_of_torch(import_module("torch"))
    return f"TF32 in matrix products {matmul}, in cuDNN {cudnn}"


def deterministic() -> AbstractContextManager[None]:
    """Within it, the same bits are computed each time. An operation that cannot raises an error.

    On CUDA the process must have started with CUBLAS_WORKSPACE_CONFIG=:4096:8 for PyTorch. XLA
    reads its setting as it starts: raises ArgumentError where it is missing on a GPU.
    """
    if BACKEND == "torch":
        return hold_deterministic_torch(import_module("torch"))
    if BACKEND == "tensorflow":
        # TensorFlow's public interface can neither read this nor switch it off.
        config = import_module("tensorflow.python.framework.config")

        def write(enabled: bool) -> None:
            (config.enable_op_determinism if enabled else config.disable_op_determinism)()

        read = config.is_op_determinism_enabled
        return hold_setting("determinism of TensorFlow", True, read, write)
    if "cuda" in devices():
        check_flag("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    return nullcontext()


def executions() -> tuple[str, ...]:
    """The ways to compute gradients that there are, see `weights.flags.execution`."""
    return EXECUTIONS[:1] if BACKEND == "torch" else EXECUTIONS


def threads() -> str:
    """How many threads it computes with."""
    if BACKEND == "tensorflow":
        found = import_module("tensorflow").config.threading
        inside, between = (
            str(count or "as many as cores")
            for count in (
                found.get_intra_op_parallelism_threads(),
                found.get_inter_op_parallelism_threads(),
            )
        )
        return f"{inside} in an operation, {between} between operations"
    if BACKEND == "torch":
        return f"{import_module('torch').get_num_threads()} in an operation"
    return f"as XLA chooses, of {os.cpu_count()} cores"


def device_of(model: keras.layers.Layer) -> str:
    """The device that any layer is on, with the name of a GPU."""
    value = model.variables[0].value if model.variables else keras.ops.zeros(1)
    if BACKEND == "jax":
        device = next(iter(value.devices()))
        on_gpu, name = device.platform == "gpu", device.device_kind
    elif BACKEND == "torch":
        on_gpu = value.device.type == "cuda"
        name = import_module("torch").cuda.get_device_name(value.device) if on_gpu else ""
    else:
        config = import_module("tensorflow").config
        on_gpu, name = "GPU" in value.device, ""
        if on_gpu:
            gpu = config.list_physical_devices("GPU")[0]
            name = config.experimental.get_device_details(gpu).get("device_name", "GPU")
    return f"cuda ({name})" if on_gpu else "cpu"


def holds_float64() -> bool:
    """Whether parameters can be float64 with the current settings."""
    return (
        BACKEND != "jax" or import_module("jax").dtypes.canonicalize_dtype("float64") == "float64"
    )


def create(
    config: Config, *, dtype: str, device: str | None = None, compute: str | None = None
) -> keras.layers.Layer:
    """A new model of a config, to be loaded, with parameters in `dtype` that have any values.

    compute: a lower dtype to compute in, by a dtype policy.
    Raises ValueError for `compute` with parameters other than float32: Keras has no such policy.
    """
    if compute is not None and dtype != "float32":
        raise ArgumentError(
            f"compute: Keras computes in {compute} with parameters in float32, got parameters in "
            f"{dtype}"
        )
    make: Any = (
        build_block if isinstance(config, BlockConfig) else ResidualAttentionNetwork.from_config
    )
    # A module of a user's own may compute from what it draws.
    drawn = nullcontext() if own_kinds(config) else without_draws()
    with drawn, nullcontext() if device is None else keras.device(keras_device(device)):
        return make(config, dtype=dtype if compute is None else f"mixed_{compute}")


def create_like(model: keras.layers.Layer, config: Config) -> keras.layers.Layer:
    """A new model of another config, to be loaded, with the dtype and the device of a model."""
    held, computed = model.variable_dtype, model.compute_dtype
    with device_scope(model):
        return create(config, dtype=held, compute=None if computed == held else computed)


def variables(model: keras.layers.Layer) -> dict[str, keras.Variable]:
    """All parameters and statistics of the model, by the framework's own names.

    `weights` has no seeds of dropout, which `variables` of a Keras model has.
    """
    return {
        f"{position} {variable.path}": variable for position, variable in enumerate(model.weights)
    }


def memory(leaf: keras.Variable) -> tuple[str, int, int]:
    """Where a parameter is. Keras' variables share no memory, but can be shared themselves."""
    return "", id(leaf), id(leaf) + 1


def settings(model: keras.layers.Layer) -> ModuleSettings:
    """The settings of all modules of the model, see `weights.settings`."""
    return {place: value for path, part in _parts("", model)
            for place, value in _settings(path, part).items()}  # fmt: skip


def _parts(path: str, part: Any) -> Iterator[tuple[str, keras.layers.Layer]]:
    """The layers of a model by their paths, without the name of the list of a Sequential."""
    yield path, part
    # On its PyTorch backend a layer is a module, and keeps its layers where modules do.
    for name, value in {**vars(part), **vars(part).get("_modules", {})}.items():
        if isinstance(value, keras.layers.Layer) and not name.startswith("_"):
            yield from _parts(f"{path}.{name}".lstrip("."), value)
    for number, child in enumerate(part.layers if isinstance(part, Sequential) else ()):
        yield from _parts(f"{path}.{number}".lstrip("."), child)


def _settings(path: str, part: keras.layers.Layer) -> ModuleSettings:
    inner = [name for name, value in vars(part).items()
             if isinstance(value, (keras.layers.Layer, keras.Variable))
             or name.endswith(("_initializer", "_regularizer", "_constraint"))]  # fmt: skip
    found = own_settings(path, part, {*_attributes_of_keras(), *inner, "layers"})
    if isinstance(part, Sequential):
        found[f"{path} modules"] = len(part.layers)
    return found


@lru_cache
def _attributes_of_keras() -> frozenset[str]:
    """What every layer and model has: name, mode, what `compile` sets. Not `call`."""
    return frozenset({*vars(keras.layers.Layer()), *vars(keras.Model())} - {"call"})


def outline(config: Config) -> keras.layers.Layer:
    """A model of a config to read settings from."""
    return create(config, dtype="float32")


def dtype_name(leaf: keras.Variable) -> str:
    """NumPy's name of a parameter's dtype."""
    return keras.backend.standardize_dtype(leaf.value.dtype)


def snapshot(leaf: keras.Variable) -> np.ndarray:
    """The values of a parameter, which stay as they are when it gets others."""
    return to_numpy(leaf) if BACKEND == "tensorflow" else np.array(to_numpy(leaf))


def room(leaf: keras.Variable, shape: tuple[int, ...], dtype: np.dtype, arena: Arena) -> np.ndarray:
    """Memory for new values of a parameter: its own, or some of an arena where the framework would
    keep what it is given.
    """
    return arena.empty(shape, dtype)


def assign(leaves: Sequence[keras.Variable], arrays: Sequence[np.ndarray]) -> None:
    """Makes arrays, which `room` gave memory for, the values of parameters."""
    for leaf, array in zip(leaves, arrays, strict=True):
        give(leaf, array)


def is_training(model: keras.layers.Layer) -> bool:
    """False: a Keras model infers unless a call says training=True."""
    return False


def set_training(model: keras.layers.Layer, training: bool) -> None:
    """Does nothing: in Keras the mode is an argument of the call."""


@contextmanager
def preserve_state(model: keras.layers.Layer) -> Iterator[None]:
    """Within it the model can be trained; on exit it is as it was."""
    before = [(variable, to_numpy(variable).copy()) for variable in model.variables]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def forward(model: keras.layers.Layer, x: np.ndarray, *, training: bool = False) -> np.ndarray:
    """The model's output. Running statistics change if training."""
    with device_scope(model):
        return to_canonical(model(to_native(model, x), training=training))


def gradients(
    model: keras.layers.Layer,
    leaves: Mapping[str, keras.Variable],
    x: np.ndarray,
    cotangent: np.ndarray,
    *,
    training: bool,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """The output, and the gradients of sum(output * cotangent) for the input and for each leaf."""
    with device_scope(model):
        images, slopes = to_native(model, x), to_native(model, cotangent)

        def compute(images: Any, slopes: Any) -> Any:
            moved = list(leaves.values())
            return pullback(model, lambda x: model(x, training=training), moved, images, slopes)

        if chosen_execution() == "compiled":
            compute = compile_update(compute, model.variables)
        y, first, rest = compute(images, slopes)
    return (
        to_canonical(y),
        to_canonical(first),
        {name: to_canonical(slope, is_map=False) for name, slope in zip(leaves, rest, strict=True)},
    )


def write_file(path: Path, model: keras.layers.Layer) -> None:
    """Lets Keras write a model: `.weights.h5` for `load_weights`, or into a folder the parts of a
    `.keras` file for `keras.models.load_model`, which needs `tf_impl` to be imported.

    Names the model anew: Keras numbers those that have no name, so that no two files were equal.
    """
    model.name = "model" if isinstance(model, keras.Model) else "block"
    if not isinstance(model, keras.Model):
        size = model.config.input_size or (None, None)
        shape = (*size, model.config.in_channels)
        inputs = keras.Input(shape, dtype=model.compute_dtype, name="input")
        model = keras.Model(inputs, model(inputs), name="model")
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path, zipped=False)

"""Live models <-> NumPy: what `weights` and the cross-check need of a framework, as functions.

Images and outputs are NumPy arrays in canonical order, (batch, channels, height, width). Parameters
stay in the framework's own layout; `weights` reorders them. Keras has no gradients of its own: each
of its backends has a section in `gradients`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tf_impl.block import ResidualBlockWithAttention
from tf_impl.layers import FLOAT64_HELP as FLOAT64_HELP
from tf_impl.network import ResidualAttentionNetwork
from weights.config import BlockConfig, Config

BACKEND = keras.backend.backend()


def versions() -> str:
    """What computes, with versions."""
    return f"keras {keras.__version__} on {BACKEND} {import_module(BACKEND).__version__}"


def devices() -> tuple[str, ...]:
    """The devices that models can be put on here."""
    if BACKEND == "tensorflow":
        found = bool(import_module("tensorflow").config.list_physical_devices("GPU"))
    elif BACKEND == "jax":
        found = any(device.platform == "gpu" for device in import_module("jax").devices())
    else:
        found = import_module("torch").cuda.is_available()
    return ("cpu", "cuda") if found else ("cpu",)


@contextmanager
def precise(dtype: str) -> Iterator[None]:
    """Within it, float32 is computed in float32 (no TF32) and float64 can be used."""
    with ExitStack() as stack:
        if BACKEND == "tensorflow":
            config = import_module("tensorflow").config.experimental
            stack.callback(
                config.enable_tensor_float_32_execution, config.tensor_float_32_execution_enabled()
            )
            config.enable_tensor_float_32_execution(False)
        elif BACKEND == "jax":
            jax = import_module("jax")
            stack.enter_context(jax.default_matmul_precision("highest"))
            if dtype == "float64":
                stack.enter_context(jax.enable_x64(True))
        else:
            backends = import_module("torch").backends
            for flags in (backends.cuda.matmul, backends.cudnn):
                stack.callback(setattr, flags, "allow_tf32", flags.allow_tf32)
                flags.allow_tf32 = False
        yield


def flags() -> str:
    """What decides the precision of float32, as it is set now."""
    if BACKEND == "tensorflow":
        return f"TF32 {import_module('tensorflow').config.experimental.tensor_float_32_execution_enabled()}"
    if BACKEND == "jax":
        return f"matrix products in precision {import_module('jax').config.jax_default_matmul_precision}"
    backends = import_module("torch").backends
    return f"TF32 in matrix products {backends.cuda.matmul.allow_tf32}, in cuDNN {backends.cudnn.allow_tf32}"


def holds_float64() -> bool:
    """Whether float64 parameters can be held as things are set."""
    return (
        BACKEND != "jax" or import_module("jax").dtypes.canonicalize_dtype("float64") == "float64"
    )


def create(
    config: Config, *, dtype: str, device: str | None = None, compute: str | None = None
) -> keras.layers.Layer:
    """A new model of a config, its parameters in `dtype`, to be loaded. compute: a lower dtype to
    compute in (a policy).

    Raises ValueError for `compute` with parameters other than float32: Keras has no policy for
    them.
    """
    if compute is not None and dtype != "float32":
        raise ValueError(
            f"compute: Keras computes in {compute} with parameters in float32, got parameters in "
            f"{dtype}"
        )
    model = (
        ResidualBlockWithAttention if isinstance(config, BlockConfig) else ResidualAttentionNetwork
    )
    with nullcontext() if device is None else keras.device(_keras_device(device)):
        return model.from_config(config, dtype=dtype if compute is None else f"mixed_{compute}")


def variables(model: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Everything that the model holds, parameters and statistics, by the framework's own names."""
    return {
        f"{position} {variable.path}": variable for position, variable in enumerate(model.weights)
    }


def to_numpy(leaf: keras.Variable) -> np.ndarray:
    """A parameter as a NumPy array in the framework's layout."""
    return _numpy(leaf.value)


def dtype_name(leaf: keras.Variable) -> str:
    """The name of a parameter's dtype, as NumPy calls it."""
    return keras.backend.standardize_dtype(leaf.value.dtype)


def assign(leaf: keras.Variable, array: np.ndarray) -> None:
    """Puts an array of the same shape and dtype into a parameter."""
    leaf.assign(array)


def is_training(model: keras.layers.Layer) -> bool:
    """Whether the model is in training mode: never, since Keras models infer unless called with
    training=True.
    """
    return False


def set_training(model: keras.layers.Layer, training: bool) -> None:
    """Nothing: in Keras the mode is an argument of the call."""


def forward(model: keras.layers.Layer, x: np.ndarray, *, training: bool = False) -> np.ndarray:
    """The model's output; its running statistics move if training."""
    with keras.device(_device_of(model)):
        return _canonical(model(_images(x), training=training))


def gradients(
    model: keras.layers.Layer,
    leaves: Mapping[str, keras.Variable],
    x: np.ndarray,
    cotangent: np.ndarray,
    *,
    training: bool,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Output, and the gradients of sum(output * cotangent) with respect to the input and to each
    leaf, by its name.
    """
    with keras.device(_device_of(model)):
        images, slopes = _images(x), _images(cotangent)
        y, first, rest = _pullback(
            model, lambda x: model(x, training=training), list(leaves.values()), images, slopes
        )
    return (
        _canonical(y),
        _canonical(first),
        {name: _numpy(slope) for name, slope in zip(leaves, rest, strict=True)},
    )


def _pullback(
    model: keras.layers.Layer,
    compute: Callable[[Any], Any],
    leaves: list[keras.Variable],
    x: Any,
    cotangent: Any = None,
) -> tuple[Any, Any, list[Any]]:
    """y = compute(x), by means of the model, and the gradients of sum(y * cotangent) with respect
    to x and to each leaf.

    cotangent: None for a y that is one number.
    """
    backend = {"tensorflow": _tensorflow_pullback, "jax": _jax_pullback, "torch": _torch_pullback}[
        BACKEND
    ]
    return backend(model, compute, leaves, x, cotangent)


def _slope_of(y: Any, cotangent: Any) -> Any:
    """What comes back into y, in its dtype."""
    return ops.ones_like(y) if cotangent is None else ops.cast(cotangent, y.dtype)


def _tensorflow_pullback(
    model: Any, compute: Callable[[Any], Any], leaves: list[keras.Variable], x: Any, cotangent: Any
) -> tuple[Any, Any, list[Any]]:
    tf = import_module("tensorflow")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = compute(x)
    first, *rest = tape.gradient(y, [x, *(leaf.value for leaf in leaves)], _slope_of(y, cotangent))
    return y, first, rest


def _torch_pullback(
    model: Any, compute: Callable[[Any], Any], leaves: list[keras.Variable], x: Any, cotangent: Any
) -> tuple[Any, Any, list[Any]]:
    torch = import_module("torch")
    x = x.requires_grad_()
    y = compute(x)
    first, *rest = torch.autograd.grad(
        y, [x, *(leaf.value for leaf in leaves)], _slope_of(y, cotangent)
    )
    return y, first, rest


def _jax_pullback(
    model: Any, compute: Callable[[Any], Any], leaves: list[keras.Variable], x: Any, cotangent: Any
) -> tuple[Any, Any, list[Any]]:
    jax = import_module("jax")
    others = [
        variable for variable in model.variables if all(variable is not leaf for leaf in leaves)
    ]

    def run(values: list[Any], x: Any) -> tuple[Any, list[Any]]:
        mapping = [
            *zip(leaves, values, strict=True),
            *((variable, variable.value) for variable in others),
        ]
        with keras.StatelessScope(state_mapping=mapping) as scope:
            y = compute(x)
        return y, [scope.get_current_value(variable) for variable in others]

    y, pullback, moved = jax.vjp(run, [leaf.value for leaf in leaves], x, has_aux=True)
    for variable, value in zip(others, moved, strict=True):
        if value is not None:
            variable.assign(value)
    rest, first = pullback(_slope_of(y, cotangent))
    return y, first, rest


def _compiled(update: Callable[..., Any], variables: list[keras.Variable]) -> Callable[..., Any]:
    """A function of tensors that moves `variables` and no others, compiled as Keras' own `fit` does
    it on each backend.
    """
    if BACKEND == "tensorflow":
        return import_module("tensorflow").function(update, autograph=False)
    if BACKEND == "torch":
        return update

    def pure(values: list[Any], *tensors: Any) -> tuple[Any, list[Any]]:
        with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)) as scope:
            result = update(*tensors)
        return result, [scope.get_current_value(variable) for variable in variables]

    run = import_module("jax").jit(pure)

    def stateful(*tensors: Any) -> Any:
        result, values = run([variable.value for variable in variables], *tensors)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return result

    return stateful


def _keras_device(device: str) -> str:
    # On PyTorch "cpu:0" is another device than "cpu": Keras copies each new parameter there, the
    # copy is no leaf of the graph, and such a model can be neither frozen nor trained by fit.
    return {"cpu": "cpu" if BACKEND == "torch" else "cpu:0", "cuda": "gpu:0"}[device]


def _device_of(model: keras.layers.Layer) -> str:
    if not model.weights:
        return _keras_device("cpu")
    value = model.weights[0].value
    device = value.device if BACKEND != "jax" else next(iter(value.devices())).platform
    device = str(device).lower()
    return _keras_device("cuda" if "gpu" in device or "cuda" in device else "cpu")


def _images(array: np.ndarray) -> Any:
    """A canonical array on the current device, channels last."""
    return ops.convert_to_tensor(np.moveaxis(array, 1, -1) if array.ndim == 4 else array)


def _numpy(tensor: Any) -> np.ndarray:
    # TensorFlow's own conversion: Keras' goes through an __array__ that NumPy 2 warns of for
    # tf.Variable.
    return tensor.numpy() if BACKEND == "tensorflow" else ops.convert_to_numpy(tensor)


def _canonical(tensor: Any) -> np.ndarray:
    array = _numpy(tensor)
    return np.moveaxis(array, -1, 1) if array.ndim == 4 else array


def write_file(path: Path, model: keras.layers.Layer) -> None:
    """Writes a whole Keras model that `keras.models.load_model` reads once `tf_impl` is
    imported.
    """
    if not isinstance(model, keras.Model):
        size = model.config.input_size or (None, None)
        inputs = keras.Input((*size, model.config.in_channels), dtype=model.compute_dtype)
        model = keras.Model(inputs, model(inputs))
    model.save(path)

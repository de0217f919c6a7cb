"""Devices, arrays and gradients of Keras, for the adapter, the recorder and the training.

Keras has no gradients of its own, so each of its backends has a section here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from typing import Any

import keras
import numpy as np
from keras import ops

from weights.copying import aligned_zeros

BACKEND = keras.backend.backend()
_SHAREABLE = ("float16", "float32", "float64")  # dtypes that TensorFlow and NumPy both have


def keras_device(device: str) -> str:
    """Keras' name of a device.

    On PyTorch "cpu:0" is another device than "cpu". Keras copies each new parameter there, and the
    copy is no leaf of the graph, so that such a model can be neither frozen nor trained by fit.
    """
    return {"cpu": "cpu" if BACKEND == "torch" else "cpu:0", "cuda": "gpu:0"}[device]


def device_scope(model: keras.layers.Layer) -> AbstractContextManager[Any]:
    """Within it, Keras computes on the model's device."""
    return keras.device(_device_of(model))


def _device_of(model: keras.layers.Layer) -> str:
    if not model.weights:
        return keras_device("cpu")
    value = model.weights[0].value
    device = value.device if BACKEND != "jax" else next(iter(value.devices())).platform
    device = str(device).lower()
    return keras_device("cuda" if "gpu" in device or "cuda" in device else "cpu")


_DRAWS = ContextVar("whether new weights are drawn", default=True)


@contextmanager
def without_draws() -> Iterator[None]:
    """Within it, new kernels are not drawn, for models that are loaded next: to draw them takes
    longer than to load them.
    """
    token = _DRAWS.set(False)
    try:
        yield
    finally:
        _DRAWS.reset(token)


class Start(keras.initializers.VarianceScaling):
    """Keras' initializer; within `without_draws` it gives zeros, if possible without memory."""

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        if _DRAWS.get():
            return super().__call__(shape, dtype=dtype)
        on_cpu = BACKEND != "jax" or next(iter(ops.zeros(()).devices())).platform == "cpu"
        if BACKEND == "torch" or dtype not in _SHAREABLE or not on_cpu:
            return ops.zeros(shape, dtype=dtype)
        zeros = aligned_zeros(tuple(shape), np.dtype(dtype))
        if BACKEND == "jax":
            return import_module("jax").device_put(zeros)  # asarray would copy
        return import_module("tensorflow").experimental.dlpack.from_dlpack(zeros.__dlpack__())


def channels_last(array: np.ndarray) -> np.ndarray:
    """Canonical images in Keras' order of axes; other arrays as they are."""
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def to_native(model: keras.layers.Layer, array: np.ndarray) -> Any:
    """A canonical array as a tensor on the model's device, channels last."""
    with device_scope(model):
        return ops.convert_to_tensor(channels_last(array))


def to_canonical(value: Any, is_map: bool = True) -> np.ndarray:
    """A tensor as a canonical array: a map or a sequence gets its channels second."""
    array = _numpy(value)
    return np.moveaxis(array, -1, 1) if is_map and array.ndim in (3, 4) else array


def to_numpy(leaf: keras.Variable) -> np.ndarray:
    """A parameter as a NumPy array in the framework's layout."""
    return _numpy(leaf.value)


def keep(leaf: keras.Variable) -> Any:
    """The values of a parameter as a tensor that keeps them when the parameter gets others."""
    value = leaf.value
    if BACKEND == "tensorflow":
        return value.read_value()  # TensorFlow copies what others hold to change it
    return value.detach().clone() if BACKEND == "torch" else value


def give(leaf: keras.Variable, array: np.ndarray) -> None:
    """Puts an aligned array, which nobody else changes, into a parameter: on TensorFlow's CPU
    without a copy, if NumPy and TensorFlow can share its dtype.
    """
    plain = BACKEND == "tensorflow" and not hasattr(leaf.value, "values")  # else it is on several
    if not plain or not _is_shareable(leaf.value, array.dtype.name):
        leaf.assign(array)
        return
    tensorflow = import_module("tensorflow")
    tensor = tensorflow.experimental.dlpack.from_dlpack(array.__dlpack__())
    tensorflow.raw_ops.AssignVariableOp(resource=leaf.value.handle, value=tensor)


def _is_shareable(tensor: Any, dtype: str) -> bool:
    """Whether NumPy can have a view of a tensor of TensorFlow: it has no bfloat16."""
    return dtype in _SHAREABLE and tensor.device.endswith("CPU:0")


def _numpy(tensor: Any) -> np.ndarray:
    # Not ops.convert_to_numpy on TensorFlow: NumPy 2 warns about the __array__ of tf.Variable.
    if BACKEND != "tensorflow":
        return np.asarray(ops.convert_to_numpy(tensor))
    if hasattr(tensor, "read_value"):  # a variable: TensorFlow copies what others hold to change it
        tensor = tensor.read_value()
    if _is_shareable(tensor, tensor.dtype.name):
        return np.from_dlpack(tensor)
    return np.asarray(tensor.numpy())


def pullback(
    model: keras.layers.Layer,
    compute: Callable[[Any], Any],
    leaves: list[keras.Variable],
    x: Any,
    cotangent: Any = None,
    of_input: bool = True,
) -> tuple[Any, Any, list[Any]]:
    """y = compute(x), and the gradients of sum(y * cotangent) with respect to x and to each leaf.

    compute: calls the model. cotangent: None for a y that is one number. of_input: whether the
    gradient of x is wanted; without it, it is None, and the first convolution computes less.
    """
    backend = {"tensorflow": _tensorflow_pullback, "jax": _jax_pullback, "torch": _torch_pullback}[
        BACKEND
    ]
    return backend(model, compute, leaves, x, cotangent, of_input)


def _slope_of(y: Any, cotangent: Any) -> Any:
    """The gradient of y, in its dtype."""
    return ops.ones_like(y) if cotangent is None else ops.cast(cotangent, y.dtype)


def _first_and_rest(slopes: Sequence[Any], of_input: bool) -> tuple[Any, list[Any]]:
    return (slopes[0], list(slopes[1:])) if of_input else (None, list(slopes))


def _tensorflow_pullback(
    model: Any,
    compute: Callable[[Any], Any],
    leaves: list[keras.Variable],
    x: Any,
    cotangent: Any,
    of_input: bool,
) -> tuple[Any, Any, list[Any]]:
    tf = import_module("tensorflow")
    with tf.GradientTape() as tape:
        if of_input:
            tape.watch(x)
        y = compute(x)
    sources = [*([x] if of_input else []), *(leaf.value for leaf in leaves)]
    slopes = tape.gradient(y, sources, _slope_of(y, cotangent))
    return y, *_first_and_rest(slopes, of_input)


def _torch_pullback(
    model: Any,
    compute: Callable[[Any], Any],
    leaves: list[keras.Variable],
    x: Any,
    cotangent: Any,
    of_input: bool,
) -> tuple[Any, Any, list[Any]]:
    torch = import_module("torch")
    x = x.requires_grad_() if of_input else x
    y = compute(x)
    sources = [*([x] if of_input else []), *(leaf.value for leaf in leaves)]
    slopes = torch.autograd.grad(y, sources, _slope_of(y, cotangent))
    return y, *_first_and_rest(slopes, of_input)


def _jax_pullback(
    model: Any,
    compute: Callable[[Any], Any],
    leaves: list[keras.Variable],
    x: Any,
    cotangent: Any,
    of_input: bool,
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

    y, pullback, new_values = jax.vjp(run, [leaf.value for leaf in leaves], x, has_aux=True)
    for variable, value in zip(others, new_values, strict=True):
        if value is not None:
            variable.assign(value)
    rest, first = pullback(_slope_of(y, cotangent))
    return y, first if of_input else None, rest  # XLA leaves out what nothing takes


def compile_update(
    update: Callable[..., Any], variables: list[keras.Variable]
) -> Callable[..., Any]:
    """A function of tensors that changes only `variables`, compiled as Keras' `fit` does."""
    if BACKEND == "tensorflow":
        return import_module("tensorflow").function(update, autograph=False)
    if BACKEND == "torch":
        return update

    return compile_pure(make_pure(update, variables), variables)


def make_pure(
    update: Callable[..., Any], variables: list[keras.Variable]
) -> Callable[..., tuple[Any, list[Any]]]:
    """A function of the values of variables and of tensors: the result and the new values."""

    def pure(values: list[Any], *tensors: Any) -> tuple[Any, list[Any]]:
        with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)) as scope:
            result = update(*tensors)
        return result, [scope.get_current_value(variable) for variable in variables]

    return pure


def compile_pure(
    pure: Callable[..., tuple[Any, list[Any]]], variables: list[keras.Variable]
) -> Callable[..., Any]:
    """What `make_pure` made, compiled by JAX, as a function of tensors that changes variables."""

    def in_place(values: list[Any], *tensors: Any) -> tuple[Any, list[Any]]:
        result, values = pure(values, *tensors)
        return result, [_put_in_place(*pair) for pair in zip(variables, values, strict=True)]

    run = import_module("jax").jit(in_place)

    def stateful(*tensors: Any) -> Any:
        result, values = run([variable.value for variable in variables], *tensors)
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return result

    return stateful


def compile_inference(model: keras.layers.Layer) -> Callable[[Any], Any]:
    """A function of images that computes what a model does in evaluation, compiled where the
    backend can. On PyTorch Keras computes step by step, without gradients.
    """
    if BACKEND == "tensorflow":
        # Not by XLA: with tensorflow 2.21 on CPU it takes from 0.9 to 1.2 times as long.
        return import_module("tensorflow").function(
            lambda x: model(x, training=False), autograph=False
        )
    if BACKEND == "torch":
        return import_module("torch").inference_mode()(lambda x: model(x, training=False))
    jax, variables = import_module("jax"), model.variables

    def run(values: list[Any], x: Any) -> Any:
        with keras.StatelessScope(state_mapping=zip(variables, values, strict=True)):
            return model(x, training=False)

    return partial(jax.jit(run), [variable.value for variable in variables])


def _put_in_place(variable: keras.Variable, value: Any) -> Any:
    """A new value of a variable on JAX, divided as the variable is; XLA would choose anew."""
    layout = getattr(variable, "_layout", None)
    return value if layout is None else keras.distribution.distribute_tensor(value, layout)

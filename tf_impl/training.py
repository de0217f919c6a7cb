"""Training by a recipe: the loss, the schedule, the optimizer with its state as NumPy, one step.

Keras' own optimizers give other meanings to the same arguments and hold their rate in float32, so
these are written out. The loss is Keras' own. All of them work in `compile` and `fit`, and .keras
files with them load once this module is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from keras import ops

from tf_impl.bridge.adapter import holds_float64
from tf_impl.bridge.native import (
    compile_update,
    device_scope,
    pullback,
    to_canonical,
    to_native,
    to_numpy,
)
from tf_impl.bridge.replicas import scope_of
from tf_impl.layers import global_average
from tf_impl.shapes import Labels, Logits, Maps, Outputs, Scalar, Values
from tf_impl.shards import example_weights
from weights import recipe as recipes
from weights.recipe import Cosine, Recipe, Step
from weights.shards import Division


def logits(output: Outputs) -> Logits:
    """The input of the loss: a network's output, or a block's averaged over its positions."""
    return ops.squeeze(global_average(output), axis=(1, 2)) if len(output.shape) == 4 else output


def cross_entropy(
    logits: Logits,
    labels: Labels,
    label_smoothing: float = 0.0,
    division: Division | None = None,
) -> Scalar:
    """The mean cross-entropy of a batch, with label smoothing (Szegedy et al. 2016, section 7).

    -sum(target * log_softmax(logits)), in the dtype of the logits. The target is label_smoothing /
    classes everywhere, and 1 - label_smoothing more at the label.
    division: how the batch is divided over devices. Gives the part of the images seen here: the
        sum of their losses over the number of images of the batch.

    Not keras.losses.CategoricalCrossentropy: it casts to Keras' default dtype.
    """
    targets = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    losses = keras.losses.categorical_crossentropy(
        targets, logits, from_logits=True, label_smoothing=label_smoothing
    )
    if division is not None:
        return ops.sum(losses * example_weights(losses, division)) / division.examples
    # Not ops.mean, which computes float64 in float32 on JAX and PyTorch.
    return ops.sum(losses) / math.prod(losses.shape)


@keras.saving.register_keras_serializable("resattn")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Steps taken -> the learning rate of a recipe, in float64 where Keras can hold it.

    Not CosineDecay: it computes in float32. Not PiecewiseConstantDecay: it keeps the old rate one
    step longer.
    recipe: a Recipe, or its `to_dict`.
    """

    def __init__(self, recipe: Recipe | Mapping[str, Any]):
        self.recipe = recipe if isinstance(recipe, Recipe) else Recipe.from_dict(recipe)

    def __call__(self, step: Any) -> Scalar:
        rule, step = self.recipe.schedule, ops.convert_to_tensor(step)
        # From a table: on JAX ops.cos computes float64 in float32.
        steps: Iterable[int]
        if isinstance(rule, Step):
            position = sum(ops.cast(step >= milestone, "int32") for milestone in rule.milestones)
            steps = (0, *rule.milestones)
        else:
            last = rule.steps if isinstance(rule, Cosine) else 0
            position = ops.minimum(step, last)
            steps = range(last + 1)
        dtype = "float64" if holds_float64() else "float32"
        rates = ops.convert_to_tensor([self.recipe.rate(step) for step in steps], dtype=dtype)
        return ops.take(rates, position)

    def get_config(self) -> dict[str, Any]:
        return {"recipe": self.recipe.to_dict()}


class Optimizer(keras.optimizers.Optimizer):
    """The base of the three below. Their arguments and moments have PyTorch's names.

    learning_rate: a number, which Keras holds in its default dtype, or a schedule.
    moment_names: the moments of each variable. settings: the other arguments.
    keras_options: as for every Keras optimizer, for instance clipnorm.
    """

    def __init__(
        self,
        learning_rate: Any,
        moment_names: tuple[str, ...],
        settings: dict[str, Any],
        **keras_options: Any,
    ):
        super().__init__(learning_rate, **keras_options)
        self.moment_names = moment_names
        # Not as attributes: if it finds weight_decay, Keras applies its own.
        self.settings = settings
        self.moment_variables: dict[str, list[keras.Variable]] = {}

    def build(self, variables: list[keras.Variable]) -> None:
        if not self.built:
            super().build(variables)
            self.moment_variables = {
                name: self.add_optimizer_variables(variables, name) for name in self.moment_names
            }

    def moment(self, name: str, variable: Any) -> keras.Variable:
        """A moment of a variable."""
        return self.moment_variables[name][self._get_variable_index(variable)]

    def update_moment(
        self, name: str, variable: Any, old: float, new: float, value: Values
    ) -> Values:
        """Sets a moment to old * moment + new * value, and returns it."""
        moment = self.moment(name, variable)
        result = old * ops.convert_to_tensor(moment) + new * value
        self.assign(moment, result)
        return result

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, **self.settings}


@keras.saving.register_keras_serializable("resattn")
class SGD(Optimizer):
    """`weights.recipe.SGD`.

    Not keras.optimizers.SGD: its momentum sums gradients times their rates, so that a new rate does
    not apply to the old gradients, and its weight decay is decoupled.
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        name: str = "SGD",
        **keras_options: Any,
    ):
        settings = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(
            learning_rate,
            ("momentum_buffer",) if momentum else (),
            settings,
            name=name,
            **keras_options,
        )

    def update_step(self, gradient: Values, variable: Any, learning_rate: Scalar) -> None:
        # As tensors: on PyTorch a number times a float64 Keras variable is float32.
        value, rate = ops.convert_to_tensor(variable), ops.cast(learning_rate, variable.dtype)
        momentum = self.settings["momentum"]
        gradient = ops.cast(gradient, variable.dtype) + self.settings["weight_decay"] * value
        if momentum:
            buffer = self.update_moment("momentum_buffer", variable, momentum, 1, gradient)
            gradient = gradient + momentum * buffer if self.settings["nesterov"] else buffer
        self.assign(variable, value - rate * gradient)


@keras.saving.register_keras_serializable("resattn")
class Adam(Optimizer):
    """`weights.recipe.Adam`.

    Not keras.optimizers.Adam: it adds epsilon before the bias correction (Kingma & Ba's "epsilon
    hat"), and its weight decay is decoupled.
    """

    decoupled = False

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        name: str = "Adam",
        **keras_options: Any,
    ):
        settings = {"betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(
            learning_rate, ("exp_avg", "exp_avg_sq"), settings, name=name, **keras_options
        )

    def update_step(self, gradient: Values, variable: Any, learning_rate: Scalar) -> None:
        value, rate = ops.convert_to_tensor(variable), ops.cast(learning_rate, variable.dtype)
        decay = self.settings["weight_decay"] * value
        gradient = ops.cast(gradient, variable.dtype) + (0.0 if self.decoupled else decay)
        first, second = self.settings["betas"]
        square = ops.square(gradient)
        mean = self.update_moment("exp_avg", variable, first, 1 - first, gradient)
        square = self.update_moment("exp_avg_sq", variable, second, 1 - second, square)
        mean = mean / self._one_minus_power(first, variable.dtype)
        square = square / self._one_minus_power(second, variable.dtype)
        step = mean / (ops.sqrt(square) + self.settings["eps"])
        self.assign(variable, value - rate * (step + decay if self.decoupled else step))

    def _one_minus_power(self, beta: float, dtype: str) -> Scalar:
        """1 - beta^t, without cancellation.

        In float32 the difference has a relative error of 1e-5 for 0.999 at t = 1. Two runs that
        differ by that diverge at the next relu.
        """
        count = ops.cast(self.iterations + 1, dtype)
        return -ops.expm1(count * (math.log(beta) if beta else -math.inf))


@keras.saving.register_keras_serializable("resattn")
class AdamW(Adam):
    """`weights.recipe.AdamW`: Adam with decoupled weight decay.

    Not keras.optimizers.AdamW, whose epsilon is that of its Adam.
    """

    decoupled = True

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        name: str = "AdamW",
        **keras_options: Any,
    ):
        super().__init__(learning_rate, betas, eps, weight_decay, name, **keras_options)


def schedule(recipe: Recipe) -> Schedule:
    """A Keras schedule: steps taken -> the learning rate."""
    return Schedule(recipe)


def optimizer(model: keras.layers.Layer, recipe: Recipe) -> Optimizer:
    """A Keras optimizer of the trainable variables, on the devices of the model. Its rate follows
    the recipe's schedule.
    """
    rule, rate = recipe.optimizer, schedule(recipe)
    result: Optimizer
    with device_scope(model), scope_of(model):
        if isinstance(rule, recipes.SGD):
            result = SGD(rate, rule.momentum, rule.nesterov, rule.weight_decay)
        else:
            kind = AdamW if isinstance(rule, recipes.AdamW) else Adam
            result = kind(rate, rule.betas, rule.eps, rule.weight_decay)
        result.build(model.trainable_variables)
    return result


def make_train_step(
    model: keras.layers.Layer, optimizer: Optimizer, recipe: Recipe
) -> Callable[[Maps, Labels], Scalar]:
    """A function of images and labels that makes one update and returns the loss before it.

    It computes in training mode. Variables that are not trainable stay as they are; after changing
    which are, make another. It does not wait for the device: `float(loss)` does.
    images: (batch, height, width, channels), labels: (batch,), tensors on the model's device.

    It is compiled as Keras' `fit` does without jit_compile, with which it takes 10 times as long on
    TensorFlow on CPU (`se-resnet18`, 8 images of 64 x 64).
    """
    trained = tuple(map(id, model.trainable_variables))  # blocks have variables of the same paths
    with device_scope(model):
        update = _update(model, optimizer, recipe.label_smoothing, trained)

    def step(images: Maps, labels: Labels) -> Scalar:
        with device_scope(model):
            return update(images, labels)

    return step


@lru_cache(maxsize=4)
def _update(
    model: keras.layers.Layer,
    optimizer: Optimizer,
    label_smoothing: float,
    trained: tuple[int, ...],
) -> Callable[..., Scalar]:
    """The step as a compiled function of images (channels last) and labels.

    trained: which variables are trainable, so that another set compiles again.
    """
    variables = model.trainable_variables

    def update(x: Maps, labels: Labels) -> Scalar:
        def loss_of(x: Maps) -> Scalar:
            return cross_entropy(logits(model(x, training=True)), labels, label_smoothing)

        loss, _, slopes = pullback(model, loss_of, variables, x, of_input=False)
        optimizer.apply(slopes, variables)
        return ops.stop_gradient(loss)  # on PyTorch it would keep the graph

    return compile_update(update, [*model.variables, *optimizer.variables])


def train_step(
    model: keras.layers.Layer,
    optimizer: Optimizer,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
) -> float:
    """`make_train_step` for canonical arrays. Returns the loss as a number.

    images: (batch, channels, height, width). labels: (batch,).
    """
    step = make_train_step(model, optimizer, recipe)
    loss = step(to_native(model, images), to_native(model, labels))
    return float(to_canonical(loss))


def frozen(model: keras.layers.Layer) -> list[str]:
    """The parameters that an optimizer does not change, by the framework's own names."""
    statistics = ("moving_mean", "moving_variance")
    return [each.path for each in model.non_trainable_weights if each.name not in statistics]


def steps_taken(optimizer: Optimizer) -> int:
    """The number of updates so far."""
    return int(to_numpy(optimizer.iterations))


def moments(
    optimizer: Optimizer, leaves: Mapping[str, keras.Variable]
) -> dict[str, dict[str, np.ndarray]]:
    """The optimizer's moments of each leaf: {moment: {leaf: array}}.

    Moments have PyTorch's names, arrays the framework's layout.
    """
    return {
        moment: {name: to_numpy(optimizer.moment(moment, leaf)) for name, leaf in leaves.items()}
        for moment in optimizer.moment_names
    }


def restore(
    optimizer: Optimizer,
    leaves: Mapping[str, keras.Variable],
    step: int,
    moments: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Puts a number of updates, and the moments after them, into a new optimizer of the model."""
    optimizer.iterations.assign(step)
    for moment, arrays in moments.items():
        for name, leaf in leaves.items():
            optimizer.moment(moment, leaf).assign(arrays[name])

"""Training as a recipe says it: the loss, the schedule, the optimizer, one step, and what the
optimizer keeps, as NumPy.

Keras' own optimizers mean other things by the same arguments and hold their rate in float32, so
these are written out; its loss is used as it is. All of them work in `compile` and `fit`, and are
read from .keras files once this module is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from tf_impl.bridge.adapter import (
    _compiled,
    _device_of,
    _images,
    _numpy,
    _pullback,
    holds_float64,
    to_numpy,
)
from tf_impl.layers import global_average
from weights import recipe as recipes
from weights.recipe import Cosine, Recipe, Step

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from keras import KerasTensor


def logits(
    output: Float[KerasTensor, "batch *positions channels"],
) -> Float[KerasTensor, "batch channels"]:
    """What the loss reads: a network's output as it is, a block's averaged over its positions."""
    return ops.squeeze(global_average(output), axis=(1, 2)) if len(output.shape) == 4 else output


def cross_entropy(
    logits: Float[KerasTensor, "batch classes"],
    labels: Int[KerasTensor, " batch"],
    label_smoothing: float = 0.0,
) -> Float[KerasTensor, ""]:
    """The mean over the batch of -sum(target log_softmax(logits)), in the dtype of the logits
    (Szegedy et al. 2016, section 7): target is label_smoothing / classes everywhere, and 1 -
    label_smoothing more at the label.

    The function, not keras.losses.CategoricalCrossentropy, which casts to Keras' default dtype
    unless given another.
    """
    targets = ops.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    losses = keras.losses.categorical_crossentropy(
        targets, logits, from_logits=True, label_smoothing=label_smoothing
    )
    # Not ops.mean, which computes float64 in float32 on JAX and PyTorch.
    return ops.sum(losses) / math.prod(losses.shape)


@keras.saving.register_keras_serializable("resattn")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Steps taken -> the learning rate of a recipe, in float64 wherever that can be held.

    Not CosineDecay, which computes in float32, nor PiecewiseConstantDecay, which keeps the old rate
    one step longer.
    recipe: a Recipe, or what `to_dict` made of it.
    """

    def __init__(self, recipe: Recipe | Mapping[str, Any]):
        self.recipe = recipe if isinstance(recipe, Recipe) else Recipe.from_dict(recipe)

    def __call__(self, step: Any) -> Float[KerasTensor, ""]:
        given, step = self.recipe.schedule, ops.convert_to_tensor(step)
        # From a table: ops.cos computes float64 in float32 on JAX.
        if isinstance(given, Step):
            position = sum(ops.cast(step >= milestone, "int32") for milestone in given.milestones)
            firsts = (0, *given.milestones)
        else:
            position = ops.minimum(step, given.steps if isinstance(given, Cosine) else 0)
            firsts = range(given.steps + 1 if isinstance(given, Cosine) else 1)
        rates = ops.convert_to_tensor([self.recipe.rate(first) for first in firsts], dtype=_wide())
        return ops.take(rates, position)

    def get_config(self) -> dict[str, Any]:
        return {"recipe": self.recipe.to_dict()}


def _wide() -> str:
    return "float64" if holds_float64() else "float32"


class Optimizer(keras.optimizers.Optimizer):
    """What the three below share: their arguments are PyTorch's, and what they keep has PyTorch's
    names.

    learning_rate: a number, which Keras holds in its default dtype, or a schedule. keras_options:
    as for every Keras optimizer, clipnorm for instance.
    """

    def __init__(
        self,
        learning_rate: Any,
        kept: tuple[str, ...],
        settings: dict[str, Any],
        **keras_options: Any,
    ):
        super().__init__(learning_rate, **keras_options)
        self.kept = kept
        self.settings = settings  # weight_decay among them: the attribute of that name makes Keras apply its own
        self.held: dict[str, list[keras.Variable]] = {}

    def build(self, variables: list[keras.Variable]) -> None:
        if not self.built:
            super().build(variables)
            self.held = {
                moment: self.add_optimizer_variables(variables, moment) for moment in self.kept
            }

    def moment(self, name: str, variable: keras.Variable) -> keras.Variable:
        """What is kept for a variable."""
        return self.held[name][self._get_variable_index(variable)]

    def moved(
        self, name: str, variable: keras.Variable, old: float, new: float, value: KerasTensor
    ) -> KerasTensor:
        """moment = old moment + new value, and its value then."""
        moment = self.moment(name, variable)
        result = old * ops.convert_to_tensor(moment) + new * value
        self.assign(moment, result)
        return result

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, **self.settings}


@keras.saving.register_keras_serializable("resattn")
class SGD(Optimizer):
    """`weights.recipe.SGD`. Not keras.optimizers.SGD, whose momentum holds steps, gradients times
    the rate they came at, so that a new rate does not apply to what is in it, and whose weight
    decay is decoupled.
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

    def update_step(
        self, gradient: KerasTensor, variable: keras.Variable, learning_rate: KerasTensor
    ) -> None:
        # As tensors: on PyTorch a Keras variable times a number is float32 even for a float64
        # variable.
        held, rate = ops.convert_to_tensor(variable), ops.cast(learning_rate, variable.dtype)
        momentum = self.settings["momentum"]
        gradient = ops.cast(gradient, variable.dtype) + self.settings["weight_decay"] * held
        if momentum:
            buffer = self.moved("momentum_buffer", variable, momentum, 1, gradient)
            gradient = gradient + momentum * buffer if self.settings["nesterov"] else buffer
        self.assign(variable, held - rate * gradient)


@keras.saving.register_keras_serializable("resattn")
class Adam(Optimizer):
    """`weights.recipe.Adam`. Not keras.optimizers.Adam, whose epsilon is added before the bias
    correction (Kingma & Ba's "epsilon hat"), and whose weight decay is decoupled.
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

    def update_step(
        self, gradient: KerasTensor, variable: keras.Variable, learning_rate: KerasTensor
    ) -> None:
        held, rate = ops.convert_to_tensor(variable), ops.cast(learning_rate, variable.dtype)
        decay = self.settings["weight_decay"] * held
        gradient = ops.cast(gradient, variable.dtype) + (0.0 if self.decoupled else decay)
        first, second = self.settings["betas"]
        mean = self.moved("exp_avg", variable, first, 1 - first, gradient) / self._bias(
            first, variable.dtype
        )
        square = self.moved("exp_avg_sq", variable, second, 1 - second, ops.square(gradient))
        step = mean / (ops.sqrt(square / self._bias(second, variable.dtype)) + self.settings["eps"])
        self.assign(variable, held - rate * (step + decay if self.decoupled else step))

    def _bias(self, beta: float, dtype: str) -> KerasTensor:
        """1 - beta^t. In float32 that difference is wrong by 1e-5 of itself for 0.999 at t = 1,
        enough to part two runs at the next relu; this is not."""
        return -ops.expm1(
            ops.cast(self.iterations + 1, dtype) * (math.log(beta) if beta else -math.inf)
        )


@keras.saving.register_keras_serializable("resattn")
class AdamW(Adam):
    """`weights.recipe.AdamW`: decay beside the step. Keras' own differs in epsilon, as its Adam
    does.
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
    """A Keras optimizer of the model's trainable variables, whose rate follows the recipe's
    schedule.
    """
    given, rate = recipe.optimizer, schedule(recipe)
    if isinstance(given, recipes.SGD):
        made = SGD(rate, given.momentum, given.nesterov, given.weight_decay)
    else:
        kind = AdamW if isinstance(given, recipes.AdamW) else Adam
        made = kind(rate, given.betas, given.eps, given.weight_decay)
    with keras.device(_device_of(model)):
        made.build(model.trainable_variables)
    return made


def train_step(
    model: keras.layers.Layer,
    optimizer: Optimizer,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
) -> float:
    """One update in training mode; the loss before it. images: (batch, channels, height, width);
    labels: (batch,).

    Variables that are not trainable stay as they are.
    """
    trained = tuple(variable.path for variable in model.trainable_variables)
    with keras.device(_device_of(model)):
        update = _update(model, optimizer, recipe.label_smoothing, trained)
        return float(_numpy(update(_images(images), ops.convert_to_tensor(labels))))


@lru_cache(maxsize=4)
def _update(
    model: keras.layers.Layer,
    optimizer: Optimizer,
    label_smoothing: float,
    trained: tuple[str, ...],
) -> Callable[..., KerasTensor]:
    """The step as a compiled function of images (channels last) and labels. trained: what it was
    compiled for.
    """
    variables = model.trainable_variables

    def update(x: KerasTensor, labels: KerasTensor) -> KerasTensor:
        def loss_of(x: KerasTensor) -> KerasTensor:
            return cross_entropy(logits(model(x, training=True)), labels, label_smoothing)

        loss, _, slopes = _pullback(model, loss_of, variables, x)
        optimizer.apply(slopes, variables)
        return loss

    return _compiled(update, [*model.variables, *optimizer.variables])


def frozen(model: keras.layers.Layer) -> list[str]:
    """The parameters that an optimizer leaves alone, by the framework's own names."""
    statistics = ("moving_mean", "moving_variance")
    return [each.path for each in model.non_trainable_variables if each.name not in statistics]


def steps_taken(optimizer: Optimizer) -> int:
    """Updates made so far."""
    return int(to_numpy(optimizer.iterations))


def moments(
    optimizer: Optimizer, leaves: Mapping[str, keras.Variable]
) -> dict[str, dict[str, np.ndarray]]:
    """What the optimizer keeps of each leaf, {moment: {leaf: array}}, by PyTorch's names of
    moments, in native layout.
    """
    return {
        moment: {name: to_numpy(optimizer.moment(moment, leaf)) for name, leaf in leaves.items()}
        for moment in optimizer.kept
    }


def restore(
    optimizer: Optimizer,
    leaves: Mapping[str, keras.Variable],
    step: int,
    moments: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Puts the number of updates made, and what the optimizer then kept, into a new optimizer of
    the same model.
    """
    optimizer.iterations.assign(step)
    for moment, arrays in moments.items():
        for name, leaf in leaves.items():
            optimizer.moment(moment, leaf).assign(arrays[name])

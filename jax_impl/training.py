"""Training as a recipe says it: the loss, the schedule, the optimizer, one step, and what the
optimizer keeps, as NumPy.

Optax has everything that a recipe needs, given the right arguments, but a bias correction for Adam
that float32 can hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jax_impl.bridge.adapter import _images, _mode, assign, to_numpy
from jax_impl.layers import global_average
from weights.recipe import SGD, AdamW, Cosine, Recipe, Step

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Int

MOMENTS = {
    "momentum_buffer": "trace",
    "exp_avg": "mu",
    "exp_avg_sq": "nu",
}  # PyTorch's name: Optax'


def logits(output: Float[Array, "batch *positions channels"]) -> Float[Array, "batch channels"]:
    """What the loss reads: a network's output as it is, a block's averaged over its positions."""
    return jnp.squeeze(global_average(output), axis=(1, 2)) if output.ndim == 4 else output


def cross_entropy(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, " batch"],
    label_smoothing: float = 0.0,
) -> Float[Array, ""]:
    """The mean over the batch of -sum(target log_softmax(logits)), in the dtype of the logits
    (Szegedy et al. 2016, section 7): target is label_smoothing / classes everywhere, and 1 -
    label_smoothing more at the label.
    """
    targets = optax.smooth_labels(
        jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), label_smoothing
    )
    return optax.softmax_cross_entropy(logits, targets).mean()


def schedule(recipe: Recipe) -> optax.Schedule:
    """An Optax schedule: steps taken -> the learning rate."""
    rate, given = recipe.optimizer.learning_rate, recipe.schedule
    if isinstance(given, Cosine):
        return optax.cosine_decay_schedule(rate, given.steps, alpha=given.final)
    if isinstance(given, Step):
        return optax.piecewise_constant_schedule(
            rate, dict.fromkeys(given.milestones, given.factor)
        )
    return optax.constant_schedule(rate)


def optimizer(model: nnx.Module, recipe: Recipe) -> nnx.Optimizer:
    """An `nnx.Optimizer` of the model's parameters, whose rate follows the recipe's schedule."""
    made = nnx.Optimizer(model, _transformation(recipe), wrt=nnx.Param)
    # Where the parameters are, to stay: what JAX itself put somewhere it would compile for again
    # after the first step.
    place = jax.tree.leaves(nnx.state(model, nnx.Param))[0].sharding
    nnx.update(made, jax.device_put(nnx.state(made), place))
    return made


@cache  # functions that are made anew are compiled anew
def _transformation(recipe: Recipe) -> optax.GradientTransformation:
    given, rate = recipe.optimizer, schedule(recipe)
    decay = optax.add_decayed_weights(given.weight_decay)
    # Decay in front is a part of the gradient for what follows: coupled.
    if isinstance(given, SGD):
        return optax.chain(decay, optax.sgd(rate, given.momentum or None, given.nesterov))
    adam = _scale_by_adam(*given.betas, given.eps)
    return optax.chain(
        *((adam, decay) if isinstance(given, AdamW) else (decay, adam)),
        optax.scale_by_learning_rate(rate),
    )


def _scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """optax.scale_by_adam, with its state, but for the bias correction: 1 - 0.999^t in float32 is
    wrong by 1e-5 of itself at t = 1, and that is enough to part two runs at the next relu.
    """

    def update(
        slopes: Any, state: optax.ScaleByAdamState, params: Any = None
    ) -> tuple[Any, optax.ScaleByAdamState]:
        count = optax.safe_increment(state.count)
        mu = optax.tree.update_moment(slopes, state.mu, b1, 1)
        nu = optax.tree.update_moment_per_elem_norm(slopes, state.nu, b2, 2)
        first, second = _one_minus_power(b1, count), _one_minus_power(b2, count)
        steps = jax.tree.map(lambda m, v: (m / first) / (jnp.sqrt(v / second) + eps), mu, nu)
        return steps, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(optax.scale_by_adam().init, update)


def _one_minus_power(beta: float, count: Array) -> Array:
    """1 - beta^count, without its cancellation."""
    return -jnp.expm1(count * (math.log(beta) if beta else -math.inf))


def train_step(
    model: nnx.Module,
    optimizer: nnx.Optimizer,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
) -> float:
    """One update in training mode; the loss before it. images: (batch, channels, height, width);
    labels: (batch,).

    The model's mode is left as it was.
    """
    with _mode(model, True):
        x = _images(nnx.state(model, nnx.Param), images)
        loss, slopes = _loss_and_slopes(model, x, jnp.asarray(labels), recipe.label_smoothing)
        _update(model, optimizer, slopes)
    return float(loss)


@nnx.jit
def _loss_and_slopes(
    model: nnx.Module, x: Array, labels: Array, label_smoothing: float
) -> tuple[Array, nnx.State]:
    return nnx.value_and_grad(
        lambda model: cross_entropy(logits(model(x)), labels, label_smoothing)
    )(model)


@nnx.jit  # apart from the slopes, which are compiled once for all recipes
def _update(model: nnx.Module, optimizer: nnx.Optimizer, slopes: nnx.State) -> None:
    optimizer.update(model, slopes)


def frozen(model: nnx.Module) -> list[str]:
    """The parameters that an optimizer leaves alone: none, since in Flax that is said to the
    optimizer, not to the model.
    """
    return []


def steps_taken(optimizer: nnx.Optimizer) -> int:
    """Updates made so far."""
    return int(optimizer.step[...])


def moments(
    optimizer: nnx.Optimizer, leaves: Mapping[str, nnx.Variable]
) -> dict[str, dict[str, np.ndarray]]:
    """What the optimizer keeps of each leaf, {moment: {leaf: array}}, by PyTorch's names of
    moments, in native layout.
    """
    held = _held(optimizer)
    return {
        moment: {name: to_numpy(held[own, name]) for name in leaves}
        for moment, own in MOMENTS.items()
        if any(kind == own for kind, _ in held)
    }


def restore(
    optimizer: nnx.Optimizer,
    leaves: Mapping[str, nnx.Variable],
    step: int,
    moments: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Puts the number of updates made, and what the optimizer then kept, into a new optimizer of
    the same model.
    """
    held = _held(optimizer)
    for moment, arrays in moments.items():
        for name in leaves:
            assign(held[MOMENTS[moment], name], arrays[name])
    for count in (
        optimizer.step,
        *(variable for (kind, _), variable in held.items() if kind == "count"),
    ):
        assign(count, np.full((), step, count.dtype))


def _held(optimizer: nnx.Optimizer) -> dict[tuple[str, Any], nnx.Variable]:
    """The optimizer's variables: moments by (Optax' name, leaf), counters by ("count", where)."""
    found: dict[tuple[str, Any], nnx.Variable] = {}
    flat, _ = jax.tree.flatten_with_path(
        optimizer.opt_state, is_leaf=lambda node: isinstance(node, nnx.Variable)
    )
    for path, variable in flat:
        words = [
            str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path
        ]
        kinds = [word for word in words if word in (*MOMENTS.values(), "count")]
        kind = kinds[0]
        rest = words[words.index(kind) + 1 :]
        found[kind, ".".join(rest) if kind != "count" else ".".join(words)] = variable
    return found

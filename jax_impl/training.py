"""Training by a recipe: the loss, the schedule, the optimizer with its state as NumPy, one step.

Optax has everything that a recipe needs, except a bias correction for Adam that is precise in
float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.sharding import NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from jax_impl.bridge.adapter import assign
from jax_impl.bridge.native import place_whole, to_native, to_numpy, training_mode
from jax_impl.layers import global_average
from jax_impl.shapes import Count, Labels, Logits, Maps, Outputs, Scalar
from jax_impl.shards import MESH_AXIS, divided, example_weights
from weights.recipe import SGD, AdamW, Cosine, Recipe, Step
from weights.shards import Division

# PyTorch's name of a moment: Optax'.
MOMENTS = {"momentum_buffer": "trace", "exp_avg": "mu", "exp_avg_sq": "nu"}


def logits(output: Outputs) -> Logits:
    """The input of the loss: a network's output, or a block's averaged over its positions."""
    return jnp.squeeze(global_average(output), axis=(1, 2)) if output.ndim == 4 else output


def cross_entropy(
    logits: Logits,
    labels: Labels,
    label_smoothing: float | Scalar = 0.0,
    division: Division | None = None,
) -> Scalar:
    """The mean cross-entropy of a batch, with label smoothing (Szegedy et al. 2016, section 7).

    -sum(target * log_softmax(logits)), in the dtype of the logits. The target is label_smoothing /
    classes everywhere, and 1 - label_smoothing more at the label.
    division: of the batch over devices. Images that fill it up do not count, and the results of the
        devices add up to the mean of the batch.
    """
    targets = optax.smooth_labels(
        jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), label_smoothing
    )
    losses = optax.softmax_cross_entropy(logits, targets)
    if division is None:
        return losses.mean()
    return (losses * example_weights(losses, division)).sum() / division.examples


def schedule(recipe: Recipe) -> optax.Schedule:
    """An Optax schedule: steps taken -> the learning rate."""
    rate, rule = recipe.optimizer.learning_rate, recipe.schedule
    if isinstance(rule, Cosine):
        return optax.cosine_decay_schedule(rate, rule.steps, alpha=rule.final)
    if isinstance(rule, Step):
        return optax.piecewise_constant_schedule(rate, dict.fromkeys(rule.milestones, rule.factor))
    return optax.constant_schedule(rate)


def optimizer(model: nnx.Module, recipe: Recipe) -> nnx.Optimizer:
    """An `nnx.Optimizer` of the model's parameters. Its rate follows the recipe's schedule."""
    result = nnx.Optimizer(model, _transformation(recipe), wrt=nnx.Param)
    # Commits the state to the parameters' device. JAX would compile again after the first step if
    # it had chosen the device itself. Moments of divided parameters are divided already.
    first = jax.tree.leaves(nnx.state(model, nnx.Param))[0]
    state = nnx.state(result)
    places = jax.tree.map(lambda array: _place_beside(first, array), state)
    nnx.update(result, jax.device_put(state, places))
    return result


def _place_beside(parameter: Array, array: Array) -> Sharding:
    """Where an array of an optimizer is kept."""
    divided = len(array.sharding.device_set) > 1
    return array.sharding if divided else place_whole(parameter)


@cache  # JAX compiles each new function again
def _transformation(recipe: Recipe) -> optax.GradientTransformation:
    rule, rate = recipe.optimizer, schedule(recipe)
    decay = optax.add_decayed_weights(rule.weight_decay)
    # A decay that comes first is part of the gradient: it is coupled.
    if isinstance(rule, SGD):
        return optax.chain(decay, optax.sgd(rate, rule.momentum or None, rule.nesterov))
    adam = _scale_by_adam(*rule.betas, rule.eps)
    parts = (adam, decay) if isinstance(rule, AdamW) else (decay, adam)
    return optax.chain(*parts, optax.scale_by_learning_rate(rate))


def _scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """optax.scale_by_adam, and its state, with a precise bias correction.

    In float32 its 1 - 0.999^t has a relative error of 1e-5 at t = 1. Two runs that differ by that
    diverge at the next relu.
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


def _one_minus_power(beta: float, count: Count) -> Scalar:
    """1 - beta^count, without cancellation."""
    return -jnp.expm1(count * (math.log(beta) if beta else -math.inf))


def make_train_step(
    model: nnx.Module, optimizer: nnx.Optimizer, recipe: Recipe
) -> Callable[[Maps, Labels], Scalar]:
    """A function of images and labels that makes one update and returns the loss before it.

    It computes in training mode; the model's mode stays as it is. Model and optimizer are current
    after each step. It does not wait for the device: `float(loss)` does.
    images: (batch, height, width, channels), labels: (batch,), arrays on the model's device.

    The step is one traced function of the arrays in model and optimizer, which it reuses for the
    new ones: a copy of the model that should outlast a step needs arrays of its own
    (`jax.tree.map(jnp.copy, nnx.state(model))`). It is made for the layers, modes and devices that
    the model has now; after changing them, make another.
    """
    return make_divided_step(model, optimizer, recipe, None)


def make_divided_step(
    model: nnx.Module, optimizer: nnx.Optimizer, recipe: Recipe, division: Division | None
) -> Callable[[Maps, Labels], Scalar]:
    """`make_train_step` for batches that are divided over devices, if there is a division.

    images, labels: the filled up batch, arrays that are divided over the devices. The arrays of
    model and optimizer are on all of them, on the axis `MESH_AXIS` of a mesh.
    """
    with training_mode(model, True), divided(model, division) if division else nullcontext():
        graph, state = nnx.split((model, optimizer))
    structure = jax.tree.structure(state)
    nodes = dict(nnx.iter_graph((model, optimizer)))
    variables = [nodes[path] for path, _ in nnx.to_flat_state(state)]
    places = _find_places([variable.get_raw_value() for variable in variables])

    def step(images: Maps, labels: Labels) -> Scalar:
        arrays = _without_repeats([variable.get_raw_value() for variable in variables])
        # With these settings JAX looks for NaN after the call. Its error must not leave a model
        # whose arrays were given away, so nothing is given away then.
        config: Any = jax.config
        checked = config.jax_debug_nans or config.jax_debug_infs
        train = _train if checked else _train_in_place
        fixed = (graph, structure, places, division)
        loss, arrays = train(*fixed, arrays, images, labels, recipe.label_smoothing)
        for variable, array in zip(variables, arrays, strict=True):
            variable.set_raw_value(array)
        return loss

    return step


def _find_places(arrays: list[Array]) -> tuple[Sharding, ...] | None:
    """How arrays are divided over several devices, which XLA would choose anew. None for arrays on
    one device.
    """
    places = tuple(array.sharding for array in arrays)
    return places if any(isinstance(place, NamedSharding) for place in places) else None


def _without_repeats(arrays: list[Array]) -> list[Array]:
    """The arrays, with copies of those that come a second time: JAX reuses none twice."""
    first = {id(array): number for number, array in reversed(list(enumerate(arrays)))}
    return [
        array if first[id(array)] == number else array.copy() for number, array in enumerate(arrays)
    ]


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _train(
    graph: nnx.GraphDef[Any],
    structure: Any,
    places: tuple[Sharding, ...] | None,
    division: Division | None,
    arrays: list[Array],
    *batch: Any,
) -> tuple[Scalar, list[Array]]:
    update: Any = partial(_update, graph, structure, division)
    if division is not None:
        whole: Any = places
        parts = (P(), P(MESH_AXIS), P(MESH_AXIS), P())  # of the arguments
        # Unchecked: the gradients of sums over the devices are sums over the devices then.
        update = jax.shard_map(
            update, mesh=whole[0].mesh, in_specs=parts, out_specs=P(), check_vma=False
        )
    loss, arrays = update(arrays, *batch)
    if places is not None:
        arrays = jax.lax.with_sharding_constraint(arrays, list(places))
    return loss, arrays


def _update(
    graph: nnx.GraphDef[Any],
    structure: Any,
    division: Division | None,
    arrays: list[Array],
    images: Maps,
    labels: Labels,
    label_smoothing: float | Scalar,
) -> tuple[Scalar, list[Array]]:
    """One update. With a division: what one of the devices does, with its part of the batch."""
    given = arrays if division is None else _draw_apart(arrays, division)
    model, optimizer = nnx.merge(graph, jax.tree.unflatten(structure, given))
    loss, slopes = nnx.value_and_grad(
        lambda model: cross_entropy(logits(model(images)), labels, label_smoothing, division),
        argnums=nnx.DiffState(0, optimizer.wrt),
    )(model)
    if division is not None:
        loss, slopes = jax.lax.psum((loss, slopes), MESH_AXIS)
    optimizer.update(model, slopes)
    updated = jax.tree.leaves(nnx.state((model, optimizer)))
    pairs = zip(arrays, updated, strict=True)
    return loss, [before if _is_key(before) else after for before, after in pairs]


def _draw_apart(arrays: list[Array], division: Division) -> list[Array]:
    """The arrays with keys of their own for each device, if there are several."""
    if division.shards.count == 1:
        return arrays
    number = jax.lax.axis_index(MESH_AXIS)
    return [jax.random.fold_in(array, number) if _is_key(array) else array for array in arrays]


def _is_key(array: Array) -> bool:
    """Whether it is the key of random numbers, which no update changes."""
    return bool(jnp.issubdtype(array.dtype, jax.dtypes.prng_key))


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def _train_in_place(
    graph: nnx.GraphDef[Any],
    structure: Any,
    places: tuple[Sharding, ...] | None,
    division: Division | None,
    arrays: list[Array],
    *batch: Any,
) -> tuple[Scalar, list[Array]]:
    return _train(graph, structure, places, division, arrays, *batch)


def train_step(
    model: nnx.Module,
    optimizer: nnx.Optimizer,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
) -> float:
    """`make_train_step` for canonical arrays. Returns the loss as a number.

    images: (batch, channels, height, width). labels: (batch,).
    """
    step = make_train_step(model, optimizer, recipe)
    return float(step(to_native(model, images), to_native(model, labels)))


def frozen(model: nnx.Module) -> list[str]:
    """No parameters: in Flax the optimizer knows what it does not change, not the model."""
    return []


def steps_taken(optimizer: nnx.Optimizer) -> int:
    """The number of updates so far."""
    return int(optimizer.step[...])


def moments(
    optimizer: nnx.Optimizer, leaves: Mapping[str, nnx.Variable]
) -> dict[str, dict[str, np.ndarray]]:
    """The optimizer's moments of each leaf: {moment: {leaf: array}}.

    Moments have PyTorch's names, arrays the framework's layout.
    """
    state = _state(optimizer)
    return {
        moment: {name: to_numpy(state[own, name]) for name in leaves}
        for moment, own in MOMENTS.items()
        if any(kind == own for kind, _ in state)
    }


def restore(
    optimizer: nnx.Optimizer,
    leaves: Mapping[str, nnx.Variable],
    step: int,
    moments: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Puts a number of updates, and the moments after them, into a new optimizer of the model."""
    state = _state(optimizer)
    held = [
        (state[MOMENTS[moment], name], arrays[name])
        for moment, arrays in moments.items()
        for name in leaves
    ]
    counts = [variable for (kind, _), variable in state.items() if kind == "count"]
    held += [(count, np.full((), step, count.dtype)) for count in (optimizer.step, *counts)]
    variables, values = zip(*held, strict=True)
    assign(variables, [np.array(value) for value in values])


def _state(optimizer: nnx.Optimizer) -> dict[tuple[str, str], nnx.Variable]:
    """The optimizer's variables: moments by (Optax' name, leaf), counters by ("count", path)."""
    found: dict[tuple[str, str], nnx.Variable] = {}
    flat, _ = jax.tree.flatten_with_path(
        optimizer.opt_state, is_leaf=lambda node: isinstance(node, nnx.Variable)
    )
    for path, variable in flat:
        words = [_word(key) for key in path]
        kind = next(word for word in words if word in (*MOMENTS.values(), "count"))
        leaf = words if kind == "count" else words[words.index(kind) + 1 :]
        found[kind, ".".join(leaf)] = variable
    return found


def _word(key: Any) -> str:
    """One part of a path in a tree of JAX."""
    return str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key))))

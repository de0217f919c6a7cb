"""The arguments of optimizers: the recipes expose a misread one, and the libraries' own differ."""

from __future__ import annotations

import numpy as np
import pytest

from resattn.checking.backends import precise
from resattn.checking.draws import random_arrays
from resattn.oracle import training as reference_training
from resattn.oracle.training import ReferenceTrainer
from shared_tests import training_cases
from shared_tests.training_cases import NETWORK, RECIPES, digits
from weights.live import adapter, part
from weights.recipe import SGD, Adam, AdamW, Cosine, Recipe, Step, batch

one_thread = training_cases.one_thread


# Other meanings that arguments have in other libraries. Each replaces a function of the oracle.


def eps_before_bias_correction(given, rate, t, w, g, moments, *, decoupled):
    b1, b2 = given.betas
    g = g if decoupled else g + given.weight_decay * w
    m, v = b1 * moments["exp_avg"] + (1 - b1) * g, b2 * moments["exp_avg_sq"] + (1 - b2) * g * g
    step = m * np.sqrt(1 - b2**t) / (1 - b1**t) / (np.sqrt(v) + given.eps)
    return w - rate * (step + decoupled * given.weight_decay * w), {"exp_avg": m, "exp_avg_sq": v}


def eps_inside_the_root(given, rate, t, w, g, moments, *, decoupled):
    b1, b2 = given.betas
    g = g if decoupled else g + given.weight_decay * w
    m, v = b1 * moments["exp_avg"] + (1 - b1) * g, b2 * moments["exp_avg_sq"] + (1 - b2) * g * g
    step = m / (1 - b1**t) / np.sqrt(v / (1 - b2**t) + given.eps)
    return w - rate * (step + decoupled * given.weight_decay * w), {"exp_avg": m, "exp_avg_sq": v}


right_adam, right_sgd, right_rate = (
    reference_training.adam,
    reference_training.sgd,
    reference_training.rate,
)


def no_bias_correction(given, rate, t, w, g, moments, *, decoupled):
    return right_adam(given, rate, 10**9, w, g, moments, decoupled=decoupled)


def the_other_decay(given, rate, t, w, g, moments, *, decoupled):
    return right_adam(given, rate, t, w, g, moments, decoupled=not decoupled)


def decoupled_in_sgd(given, rate, w, g, moments):
    without = SGD(given.learning_rate, given.momentum, given.nesterov)
    stepped, moments = right_sgd(without, rate, w, g, moments)
    return stepped - rate * given.weight_decay * w, moments


def momentum_times_the_rate(given, rate, w, g, moments):
    g = g + given.weight_decay * w
    velocity = given.momentum * moments["momentum_buffer"] - rate * g
    return w + (given.momentum * velocity - rate * g if given.nesterov else velocity), {
        "momentum_buffer": velocity
    }


def nesterov_from_the_old_buffer(given, rate, w, g, moments):
    g = g + given.weight_decay * w
    old = moments["momentum_buffer"]
    return w - rate * (g + given.momentum * old), {"momentum_buffer": given.momentum * old + g}


def dampened(given, rate, w, g, moments):
    g = g + given.weight_decay * w
    buffer = given.momentum * moments["momentum_buffer"] + (1 - given.momentum) * g
    return w - rate * (given.momentum * buffer + g if given.nesterov else buffer), {
        "momentum_buffer": buffer
    }


def a_step_late(recipe, step):
    return right_rate(recipe, max(step - 1, 0))


def a_step_early(recipe, step):
    return right_rate(recipe, step + 1)


def no_smoothing(logits, labels, label_smoothing, right=reference_training.cross_entropy):
    return right(logits, labels, 0.0)


def smoothing_over_the_other_classes(
    logits, labels, label_smoothing, right=reference_training.cross_entropy
):
    classes = logits.shape[1]
    return right(logits, labels, label_smoothing * classes / (classes - 1))


MISREADINGS = [
    ("adam-cosine", "adam", eps_before_bias_correction),
    ("adam-cosine", "adam", eps_inside_the_root),
    ("adam-cosine", "adam", no_bias_correction),
    ("adam-cosine", "adam", the_other_decay),
    ("adamw-step", "adam", the_other_decay),
    ("momentum-step", "sgd", decoupled_in_sgd),
    ("nesterov-cosine", "sgd", decoupled_in_sgd),
    ("momentum-step", "sgd", momentum_times_the_rate),
    ("nesterov-cosine", "sgd", momentum_times_the_rate),
    ("nesterov-cosine", "sgd", nesterov_from_the_old_buffer),
    ("momentum-step", "sgd", dampened),
    ("momentum-step", "rate", a_step_late),
    ("nesterov-cosine", "rate", a_step_late),
    ("adam-cosine", "rate", a_step_early),
    ("nesterov-cosine", "cross_entropy", no_smoothing),
    ("adamw-step", "cross_entropy", smoothing_over_the_other_classes),
]


@pytest.mark.parametrize(
    ("kind", "piece", "misread"), MISREADINGS, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_misread_argument_shows(monkeypatch, kind, piece, misread):
    """After 8 steps, a run that misreads an argument is far outside of the tests' bounds."""
    images, labels = digits()

    def run():
        trainer = ReferenceTrainer(NETWORK, random_arrays(NETWORK), RECIPES[kind])
        for step in range(8):
            chosen = batch(RECIPES[kind], len(images), step)
            trainer.train_step(images[chosen], labels[chosen])
        return trainer.arrays

    right = run()
    monkeypatch.setattr(reference_training, piece, misread)
    wrong = run()
    assert (
        max(abs(wrong[name] - array).max() / abs(array).max() for name, array in right.items())
        > 1e-5
    )


# The libraries' own optimizers with PyTorch's arguments: the table in docs/differences.md

STEPS = 30


def make_slopes() -> list[np.ndarray]:
    return [np.random.default_rng([7, step]).normal(0.1, 1, (3, 4)) for step in range(STEPS)]


def step_oracle(recipe: Recipe) -> np.ndarray:
    w, moments = (
        np.linspace(-1, 2, 12).reshape(3, 4),
        {moment: np.zeros((3, 4)) for moment in recipe.optimizer.moments},
    )
    for step, g in enumerate(make_slopes()):
        now = right_rate(recipe, step)
        if isinstance(recipe.optimizer, SGD):
            w, moments = right_sgd(recipe.optimizer, now, w, g, moments)
        else:
            decoupled = isinstance(recipe.optimizer, AdamW)
            w, moments = right_adam(
                recipe.optimizer, now, step + 1, w, g, moments, decoupled=decoupled
            )
    return w


def step_keras(keras, optimizer) -> np.ndarray:
    variable = keras.Variable(np.linspace(-1, 2, 12).reshape(3, 4), dtype="float64")
    for g in make_slopes():
        optimizer.apply([keras.ops.convert_to_tensor(g)], [variable])
    return adapter("tf").to_numpy(variable)


def step_optax(transformation) -> np.ndarray:
    import jax.numpy as jnp
    import optax

    w = jnp.asarray(np.linspace(-1, 2, 12).reshape(3, 4))
    state = transformation.init(w)
    for g in make_slopes():
        updates, state = transformation.update(jnp.asarray(g), state, w)
        w = optax.apply_updates(w, updates)
    return np.asarray(w)


SMALL = {
    "sgd": Recipe(SGD(0.1, 0.9, True)),
    "sgd-cosine": Recipe(SGD(0.1, 0.9), Cosine(STEPS)),
    "sgd-step": Recipe(SGD(0.1, 0.9), Step((10, 20))),
    "sgd-decay": Recipe(SGD(0.1, 0.9, weight_decay=0.1)),
    "adam": Recipe(Adam(0.1, eps=1e-8)),
    "adam-eps": Recipe(Adam(0.1, eps=1e-3)),
    "adam-decay": Recipe(Adam(0.1, weight_decay=0.1)),
    "adam-no-momentum": Recipe(Adam(0.1, (0.0, 0.9))),
    "adamw": Recipe(AdamW(0.1, weight_decay=0.1)),
}


@pytest.mark.parametrize("kind", SMALL)
def test_our_keras_optimizers_alone(keras, kind):
    module = part("tf", "training")
    recipe, given = SMALL[kind], SMALL[kind].optimizer
    with precise(("tf",), "float64"):
        rate = module.schedule(recipe)
        if isinstance(given, SGD):
            made = module.SGD(rate, given.momentum, given.nesterov, given.weight_decay)
        else:
            kind = module.AdamW if isinstance(given, AdamW) else module.Adam
            made = kind(rate, given.betas, given.eps, given.weight_decay)
        again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
        expected = step_oracle(recipe)
        for optimizer in (made, again):
            assert abs(step_keras(keras, optimizer) - expected).max() < 1e-13


KERAS_OWN = {
    "sgd": (lambda o, s: o.SGD(0.1, 0.9, True), 1e-9),
    "sgd-cosine": (lambda o, s: o.SGD(s.CosineDecay(0.1, STEPS), 0.9), 1e-2),
    "sgd-step": (
        lambda o, s: o.SGD(s.PiecewiseConstantDecay([10, 20], [0.1, 0.01, 0.001]), 0.9),
        1e-2,
    ),
    "sgd-decay": (lambda o, s: o.SGD(0.1, 0.9, weight_decay=0.1), 1e-2),
    "adam": (lambda o, s: o.Adam(0.1, epsilon=1e-8), 1e-9),
    "adam-eps": (lambda o, s: o.Adam(0.1, epsilon=1e-3), 1e-4),
    "adam-decay": (lambda o, s: o.Adam(0.1, weight_decay=0.1), 1e-2),
}


@pytest.mark.parametrize("kind", KERAS_OWN)
def test_keras_own_optimizers_mean_something_else(keras, kind):
    """If one of these agrees, our class is no longer needed."""
    make, least = KERAS_OWN[kind]
    with precise(("tf",), "float64"):
        found = step_keras(keras, make(keras.optimizers, keras.optimizers.schedules))
    assert abs(found - step_oracle(SMALL[kind])).max() > least


def test_optax_with_the_right_arguments(jax):
    import optax

    transformation = part("jax", "training")._transformation
    with precise(("jax",), "float64"):
        for kind, recipe in SMALL.items():
            assert abs(step_optax(transformation(recipe)) - step_oracle(recipe)).max() < 1e-13, kind
        # Decay after the momentum has another effect.
        after = optax.chain(
            optax.trace(0.9), optax.add_decayed_weights(0.1), optax.scale_by_learning_rate(0.1)
        )
        assert abs(step_optax(after) - step_oracle(SMALL["sgd-decay"])).max() > 1e-2


def test_why_adam_is_written_out_in_flax(jax):
    """Optax computes 1 - 0.999^t in float32. Once that is exact, optax.scale_by_adam is enough."""
    import jax.numpy as jnp
    import optax

    exact = 1 - 0.999
    theirs = 1 / optax.tree.bias_correction(
        jnp.ones((), jnp.float32), 0.999, jnp.ones((), jnp.int32)
    )
    ours = part("jax", "training")._one_minus_power(0.999, jnp.ones((), jnp.int32))
    assert abs(float(theirs) / exact - 1) > 3e-6
    assert abs(float(ours) / exact - 1) < 3e-7

"""Training: the same run in three frameworks, runs that move between them, and files that survive a
death while saving.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from resattn.checking.backends import FRAMEWORKS, Backend, implementation, precise
from resattn.checking.crosscheck import ORACLE
from resattn.checking.draws import random_arrays
from resattn.checking.tolerances import TRAINING
from resattn.oracle import training as reference_training
from resattn.oracle.training import ReferenceTrainer
from resattn.training.digits import split
from resattn.training.drift import Point, Trajectory, drift
from weights import BlockConfig, NetworkConfig, WeightsError, read, write
from weights.files.store import METADATA
from weights.files.training import (
    Trainer,
    TrainingState,
    read_training,
    resume,
    trainable,
    write_training,
)
from weights.live import adapter, part
from weights.recipe import SGD, Adam, AdamW, Constant, Cosine, Recipe, Step, batch

ROOT = Path(__file__).parent.parent
NETWORK = NetworkConfig(
    1, 10, (6,), (1,), strides=((2, 1),), stem_channels=4, attention_options={"reduction": 2}
)
BLOCK = BlockConfig(
    3, 5, 3, (2, 1), attention_options={"hidden_channels": 3}
)  # with biases in front of batch norms

RECIPES = {
    "plain": Recipe(SGD(0.1), batch_size=16),
    "momentum-step": Recipe(
        SGD(0.05, 0.9, weight_decay=1e-2), Step((3, 6), 0.3), batch_size=16, seed=3
    ),
    "nesterov-cosine": Recipe(SGD(0.1, 0.9, True, 5e-4), Cosine(100), 0.1, 16),
    "adam-cosine": Recipe(Adam(1e-2, (0.8, 0.99), 1e-3, 0.1), Cosine(6, 0.2), batch_size=16),
    "adamw-step": Recipe(AdamW(1e-2, weight_decay=0.1), Step((30, 60)), 0.05, 16, seed=1),
}


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = split()
    return data.training_images.astype(np.float64), data.training_labels


def followed(recipe, steps, frameworks, dtype="float64", **options) -> Trajectory:
    images, labels = digits()
    arrays = random_arrays(NETWORK)
    return drift(
        NETWORK, arrays, recipe, frameworks, dtype, steps, images=images, labels=labels, **options
    )


def block_followed(recipe, steps, backend, dtype) -> Trajectory:
    rng = np.random.default_rng(4)
    data = {"images": rng.normal(0.3, 1, (64, 3, 7, 6)), "labels": rng.integers(0, 5, 64)}
    return drift(
        BLOCK,
        random_arrays(BLOCK),
        recipe,
        (backend.framework,),
        dtype,
        steps,
        device=backend.device,
        **data,
    )


@pytest.fixture(autouse=True)
def one_thread():
    """For PyTorch: steps of these small networks on several threads wait for each other, seconds on
    a busy machine.
    """
    if "torch" not in sys.modules:
        yield
        return
    torch = sys.modules["torch"]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def short(monkeypatch):
    """For tests of a few steps: without compiling Keras' step on TensorFlow, which takes as long as
    ten of them.
    """
    if "keras" in sys.modules and adapter("tf").BACKEND == "tensorflow":
        monkeypatch.setattr(part("tf", "training"), "compile_update", lambda update, variables: update)


def trainer_of(framework, recipe, config=NETWORK, dtype="float64") -> Trainer:
    """To be used within `precise`."""
    return Trainer(
        Backend(framework, "cpu").build(config, random_arrays(config, dtype)),
        recipe,
        len(digits()[0]),
    )


def farthest(actual: TrainingState, expected: TrainingState) -> float:
    """The greatest relative difference of any array or moment."""
    pairs = [(actual.arrays[name], array) for name, array in expected.arrays.items()]
    pairs += [
        (actual.moments[moment][name], array)
        for moment, held in expected.moments.items()
        for name, array in held.items()
    ]
    return max(float(abs(first - second).max() / abs(second).max()) for first, second in pairs)


# Trajectories


@pytest.mark.parametrize("kind", RECIPES)
def test_every_recipe_against_the_oracle(backend, kind):
    result = followed(RECIPES[kind], 8, (backend.framework,), device=backend.device)
    assert result.worst("parameters").relative < 1e-12, str(result)
    assert result.worst("statistics").relative < 1e-12, str(result)
    assert result.worst("moments").relative < 1e-11 if result.of("moments") else kind == "plain"
    assert result.worst("loss").relative < 1e-13, str(result)


@pytest.mark.parametrize("kind", ["nesterov-cosine", "adamw-step"])
def test_a_hundred_steps_on_the_digits(all_frameworks, kind):
    result = followed(RECIPES[kind], 100, all_frameworks, every=20)
    assert result.ok, str(result)
    assert (
        max(result.worst(quantity).relative for quantity in ("parameters", "statistics", "moments"))
        <= TRAINING
    )
    assert len(result.pairs) == 6  # every two frameworks, and each with the oracle


def test_a_block_alone(backend, short):
    """Its channels, averaged over positions, are its logits; biases in front of its batch norms
    stand apart.
    """
    result = block_followed(RECIPES["adam-cosine"], 4, backend, "float64")
    assert result.worst("parameters").relative < 1e-11, str(result)
    free = {point.tensor for point in result.of("free")}
    assert free <= {
        *("conv1.bias", "conv2.bias", "shortcut.0.bias"),
        *("bn1.running_mean", "bn2.running_mean", "shortcut.1.running_mean"),
        *(
            f"{m}.{c}.bias"
            for m in ("exp_avg", "exp_avg_sq")
            for c in ("conv1", "conv2", "shortcut.0")
        ),
    }
    assert result.worst("statistics").relative < 1e-12, str(result)


def test_noise_that_adam_makes_steps_of(backend, short):
    """Why such biases stand apart: in float32 one moves by a good part of the rate at each step,
    each framework's its own way, and parameters, running variances and loss stay together."""
    recipe = Recipe(Adam(1e-2), batch_size=16)
    result = block_followed(recipe, 4, backend, "float32")
    assert result.worst("free").relative > 1e-3, str(result)
    assert result.worst("loss").relative < 1e-5, str(result)
    assert result.worst("parameters").relative < 1e-4, str(result)


def test_float32_stays_near(backend, short):
    """No limit is promised, but a rate, a moment or a bias correction in the wrong precision would
    show.
    """
    result = followed(
        RECIPES["adamw-step"], 6, (backend.framework,), "float32", device=backend.device
    )
    assert result.worst("parameters").relative < 1e-5, str(result)
    assert result.worst("loss").relative < 1e-5, str(result)


# What a reader of another library's documentation could take an argument for. Each replaces a piece
# of the oracle.


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
    """The recipes expose it: after 8 steps a run that reads the argument so is far outside of what
    the tests allow.
    """
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


# What the libraries' own optimizers do with PyTorch's arguments: the table in the README.

STEPS = 30


def slopes() -> list[np.ndarray]:
    return [np.random.default_rng([7, step]).normal(0.1, 1, (3, 4)) for step in range(STEPS)]


def by_oracle(recipe: Recipe) -> np.ndarray:
    w, moments = (
        np.linspace(-1, 2, 12).reshape(3, 4),
        {moment: np.zeros((3, 4)) for moment in recipe.optimizer.moments},
    )
    for step, g in enumerate(slopes()):
        now = right_rate(recipe, step)
        if isinstance(recipe.optimizer, SGD):
            w, moments = right_sgd(recipe.optimizer, now, w, g, moments)
        else:
            decoupled = isinstance(recipe.optimizer, AdamW)
            w, moments = right_adam(
                recipe.optimizer, now, step + 1, w, g, moments, decoupled=decoupled
            )
    return w


def by_keras(keras, optimizer) -> np.ndarray:
    variable = keras.Variable(np.linspace(-1, 2, 12).reshape(3, 4), dtype="float64")
    for g in slopes():
        optimizer.apply([keras.ops.convert_to_tensor(g)], [variable])
    return adapter("tf").to_numpy(variable)


def by_optax(transformation) -> np.ndarray:
    import jax.numpy as jnp
    import optax

    w = jnp.asarray(np.linspace(-1, 2, 12).reshape(3, 4))
    state = transformation.init(w)
    for g in slopes():
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
        expected = by_oracle(recipe)
        for optimizer in (made, again):
            assert abs(by_keras(keras, optimizer) - expected).max() < 1e-13


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
    """If one of these starts to agree, there is one class less to keep."""
    make, least = KERAS_OWN[kind]
    with precise(("tf",), "float64"):
        found = by_keras(keras, make(keras.optimizers, keras.optimizers.schedules))
    assert abs(found - by_oracle(SMALL[kind])).max() > least


def test_optax_with_the_right_arguments(jax):
    import optax

    transformation = part("jax", "training")._transformation
    with precise(("jax",), "float64"):
        for kind, recipe in SMALL.items():
            assert abs(by_optax(transformation(recipe)) - by_oracle(recipe)).max() < 1e-13, kind
        # Decay behind the momentum is another thing.
        behind = optax.chain(
            optax.trace(0.9), optax.add_decayed_weights(0.1), optax.scale_by_learning_rate(0.1)
        )
        assert abs(by_optax(behind) - by_oracle(SMALL["sgd-decay"])).max() > 1e-2


def test_why_adam_is_written_out_in_flax(jax):
    """Optax computes 1 - 0.999^t in float32; if that is exact one day, optax.scale_by_adam is
    enough.
    """
    import jax.numpy as jnp
    import optax

    exact = 1 - 0.999
    theirs = 1 / optax.tree.bias_correction(
        jnp.ones((), jnp.float32), 0.999, jnp.ones((), jnp.int32)
    )
    ours = part("jax", "training")._one_minus_power(0.999, jnp.ones((), jnp.int32))
    assert abs(float(theirs) / exact - 1) > 3e-6
    assert abs(float(ours) / exact - 1) < 3e-7


# Schedules


@pytest.mark.parametrize(
    "schedule", [Constant(), Cosine(7), Cosine(5, 0.3), Step((1,)), Step((2, 3, 7), 0.5)], ids=repr
)
def test_the_frameworks_schedules(framework, schedule):
    recipe = Recipe(SGD(0.3), schedule)
    with precise((framework,), "float64"):
        made = part(framework, "training").schedule(recipe)
        scale = 0.3 if framework == "torch" else 1  # PyTorch's is a factor
        for step in range(10):
            assert float(made(step)) * scale == pytest.approx(
                right_rate(recipe, step), rel=1e-13, abs=1e-17
            )
            assert recipe.rate(step) == pytest.approx(
                right_rate(recipe, step), rel=1e-13, abs=1e-17
            )


# Runs that move


@cache
def journey(framework: str) -> tuple[TrainingState, TrainingState, np.ndarray]:
    """The state after 50 steps and after 100, without a stop, and the losses."""
    with precise((framework,), "float64"):
        trainer = trainer_of(framework, RECIPES["adamw-step"])
        first = trainer.train(*digits(), 50)
        halfway = trainer.state()
        second = trainer.train(*digits(), 50)
        return halfway, trainer.state(), np.concatenate([first, second])


@pytest.mark.parametrize("to", FRAMEWORKS)
@pytest.mark.parametrize("source", FRAMEWORKS)
def test_fifty_steps_here_and_fifty_there(request, tmp_path, source, to):
    """Equal to a hundred in either; to the last bit where both are the same framework."""
    for name in {source, to}:
        request.getfixturevalue({"torch": "torch", "jax": "jax", "tf": "keras"}[name])
    path = tmp_path / "run.safetensors"
    write_training(path, journey(source)[0])
    with precise((to,), "float64"):
        trainer = resume(read_training(path), to)
        assert trainer.step == 50
        losses = trainer.train(*digits(), 50)
        end = trainer.state()
    assert end.step == 100
    for framework in {source, to}:
        _, expected, all_losses = journey(framework)
        assert farthest(end, expected) <= TRAINING
        assert abs(losses - all_losses[50:]).max() <= TRAINING
    if source == to:
        assert farthest(end, journey(to)[1]) == 0
        assert (losses == journey(to)[2][50:]).all()
        assert journey(to)[2][-10:].mean() < 0.9 * journey(to)[2][:10].mean()  # it learns


def test_a_run_that_has_not_begun_moves_too(framework, tmp_path, short):
    with precise((framework,), "float64"):
        trainer = trainer_of(framework, RECIPES["nesterov-cosine"])
        write_training(tmp_path / "a.safetensors", trainer.state())
        again = resume(read_training(tmp_path / "a.safetensors"), framework)
        assert (again.train(*digits(), 3) == trainer.train(*digits(), 3)).all()
        assert farthest(again.state(), trainer.state()) == 0


def test_the_mode_is_left_alone(framework, short):
    adapter = Backend(framework, "cpu").adapter
    with precise((framework,), "float64"):
        trainer = trainer_of(framework, RECIPES["plain"])
        for training in (False, True):
            adapter.set_training(trainer.model, training)
            trainer.train(*digits(), 1)
            assert adapter.is_training(trainer.model) == (training and framework != "tf")


# The optimizers in the loops that users write


def ordered(recipe: Recipe, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    images, labels = digits()
    chosen = [batch(recipe, len(images), step) for step in range(steps)]
    return [(images[which], labels[which]) for which in chosen]


def trained(framework: str, recipe: Recipe, steps: int) -> TrainingState:
    trainer = trainer_of(framework, recipe)
    trainer.train(*digits(), steps)
    return trainer.state()


def same_arrays(model, state: TrainingState) -> None:
    from weights import export

    assert (
        max(abs(export(model)[name] - array).max() for name, array in state.arrays.items()) < 1e-13
    )


@pytest.mark.parametrize("own_schedule", [True, False])
def test_a_pytorch_loop(torch, own_schedule):
    module, recipe = part("torch", "training"), RECIPES["nesterov-cosine"]
    model = Backend("torch", "cpu").build(NETWORK, random_arrays(NETWORK, "float64")).train()
    if own_schedule:
        optimizer = module.optimizer(model, recipe)
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, module.schedule(recipe))
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    for images, labels in ordered(recipe, 6):
        optimizer.zero_grad()
        criterion(model(torch.from_numpy(images)), torch.from_numpy(labels)).backward()
        optimizer.step()
        if not own_schedule:
            scheduler.step()
    same_arrays(model, trained("torch", recipe, 6))


def test_a_flax_loop(jax):
    import jax.numpy as jnp
    from flax import nnx

    module, recipe = part("jax", "training"), RECIPES["nesterov-cosine"]

    @nnx.jit
    def step(model, optimizer, images, labels):
        slopes = nnx.grad(lambda model: module.cross_entropy(model(images), labels, 0.1))(model)
        optimizer.update(model, slopes)

    with precise(("jax",), "float64"):
        model = Backend("jax", "cpu").build(NETWORK, random_arrays(NETWORK, "float64"))
        model.train()
        optimizer = module.optimizer(model, recipe)
        for images, labels in ordered(recipe, 6):
            step(model, optimizer, jnp.asarray(np.moveaxis(images, 1, -1)), jnp.asarray(labels))
        same_arrays(model, trained("jax", recipe, 6))


@contextmanager
def floatx(keras, dtype):
    """Keras' fit casts data and losses to its default dtype, whatever the model's is."""
    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


@pytest.mark.parametrize("kind", ["nesterov-cosine", "adam-cosine"])
def test_keras_compile_and_fit(keras, kind, tmp_path, short):
    module, recipe = part("tf", "training"), RECIPES[kind]
    batches = ordered(recipe, 6)
    x = np.concatenate([np.moveaxis(images, 1, -1) for images, _ in batches])
    y = np.eye(10)[np.concatenate([labels for _, labels in batches])]
    with precise(("tf",), "float64"), floatx(keras, "float64"):
        model = Backend("tf", "cpu").build(NETWORK, random_arrays(NETWORK, "float64"))
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        )
        # Compiled by XLA Keras' TensorFlow convolutions are rounded otherwise.
        model.compile(optimizer=module.optimizer(model, recipe), loss=loss, jit_compile=False)
        model.fit(x[:64], y[:64], batch_size=16, epochs=1, shuffle=False, verbose=0)
        if kind == "adam-cosine":
            model.save(tmp_path / "model.keras")
            model = keras.models.load_model(tmp_path / "model.keras")
        assert module.steps_taken(model.optimizer) == 4
        model.fit(x[64:], y[64:], batch_size=16, epochs=1, shuffle=False, verbose=0)
        same_arrays(model, trained("tf", recipe, 6))


def test_frozen_parameters_stay(torch):
    module, recipe = part("torch", "training"), RECIPES["adamw-step"]
    model = Backend("torch", "cpu").build(NETWORK, random_arrays(NETWORK, "float64"))
    model.stem.conv.weight.requires_grad_(False)
    before = model.stem.conv.weight.clone(), model.classifier.weight.clone()
    module.train_step(model, module.optimizer(model, recipe), recipe, *ordered(recipe, 1)[0])
    assert (model.stem.conv.weight == before[0]).all()
    assert (model.classifier.weight != before[1]).any()
    with pytest.raises(
        ValueError,
        match=r"expected every parameter to be trainable, got 1 that are frozen \(stem\.conv",
    ):
        Trainer(model, recipe, 100)


def test_frozen_layers_stay_in_keras(keras, short):
    module, recipe = part("tf", "training"), RECIPES["adamw-step"]
    to_numpy = Backend("tf", "cpu").adapter.to_numpy
    with precise(("tf",), "float64"):
        model = Backend("tf", "cpu").build(NETWORK, random_arrays(NETWORK, "float64"))
        model.stem.trainable = False
        before = [to_numpy(leaf).copy() for leaf in (*model.stem.weights, model.classifier.kernel)]
        module.train_step(model, module.optimizer(model, recipe), recipe, *ordered(recipe, 1)[0])
        after = [to_numpy(leaf) for leaf in (*model.stem.weights, model.classifier.kernel)]
        assert all(
            (first == second).all() for first, second in zip(before[:-1], after[:-1], strict=True)
        )
        assert (before[-1] != after[-1]).any()
        with pytest.raises(
            ValueError, match="expected every parameter to be trainable, got 3 that are frozen"
        ):
            Trainer(model, recipe, 100)


# The order of the data


def test_the_order_of_the_data():
    recipe = Recipe(SGD(0.1), batch_size=4, seed=5)
    epochs = [
        np.concatenate([batch(recipe, 14, 3 * epoch + position) for position in range(3)])
        for epoch in range(3)
    ]
    for order in epochs:
        assert len(set(order.tolist())) == 12  # of 14: what remains is left out
    assert len({tuple(order) for order in epochs}) == 3
    other = Recipe(SGD(0.1), batch_size=4, seed=6)
    assert (batch(other, 14, 0) != batch(recipe, 14, 0)).any()
    # Written down: a run that resumes on another machine or with a later NumPy must meet the same
    # images.
    assert batch(recipe, 14, 0).tolist() == WRITTEN[0]
    assert batch(recipe, 14, 7).tolist() == WRITTEN[1]


WRITTEN = ([5, 7, 1, 8], [3, 7, 10, 4])


# Files


def made_state(
    recipe: Recipe = RECIPES["adamw-step"], step: int = 7, seed: int = 0, config=NETWORK
) -> TrainingState:
    rng = np.random.default_rng(seed)
    moments = {
        moment: {p.name: rng.uniform(0.1, 1, p.shape).astype("float32") for p in trainable(config)}
        for moment in recipe.optimizer.moments
    }
    return TrainingState(config, recipe, random_arrays(config, seed=seed), moments, step, 500)


def same_state(first: TrainingState, second: TrainingState) -> bool:
    values = [(state.config, state.recipe, state.step, state.examples) for state in (first, second)]
    return values[0] == values[1] and farthest(first, second) == 0


@pytest.mark.parametrize("kind", RECIPES)
def test_a_file_holds_the_whole_state(tmp_path, kind):
    state = made_state(RECIPES[kind])
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    write_training(first, state)
    write_training(second, read_training(first))
    assert same_state(read_training(first), state)
    assert first.read_bytes() == second.read_bytes()
    assert Recipe.from_dict(json.loads(state.recipe.to_json())) == state.recipe


def test_the_model_is_read_from_the_same_file(tmp_path):
    state = made_state()
    write_training(tmp_path / "run.safetensors", state)
    config, arrays = read(tmp_path / "run.safetensors")
    assert config == NETWORK
    assert set(arrays) == set(state.arrays)
    write(tmp_path / "model.safetensors", config, arrays)
    with pytest.raises(ValueError, match="holds no training state, only weights"):
        read_training(tmp_path / "model.safetensors")


def test_the_command_line_reads_it(tmp_path):
    from typer.testing import CliRunner

    from resattn.cli.app import app

    write_training(tmp_path / "run.safetensors", made_state())
    done = CliRunner().invoke(app, ["inspect", str(tmp_path / "run.safetensors")])
    assert done.exit_code == 0, done.output
    assert "stem.conv.weight" in done.output
    assert "optimizer." not in done.output


def rewritten(path: Path, change) -> None:
    """Changes a file's "training" and its arrays by hand."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, framework="numpy") as file:
        values = json.loads(file.metadata()[METADATA])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(values["training"], arrays)
    save_file(arrays, path, metadata={METADATA: json.dumps(values)})


def drop_a_moment(training, arrays):
    del arrays["optimizer.exp_avg.classifier.bias"]


def reshape_a_moment(training, arrays):
    arrays["optimizer.exp_avg_sq.classifier.bias"] = np.zeros(3, "float32")


def widen_a_moment(training, arrays):
    arrays["optimizer.exp_avg_sq.classifier.bias"] = np.zeros(10, "float64")


def add_a_moment(training, arrays):
    arrays["optimizer.max_exp_avg_sq.classifier.bias"] = np.zeros(10, "float32")


def statistics_moment(training, arrays):
    arrays["optimizer.exp_avg.stem.bn.running_mean"] = np.zeros(4, "float32")


@pytest.mark.parametrize(("change", "message"), [
    (lambda t, a: t.update(step=-1), "run.safetensors: step: expected an integer of at least 0, got -1"),
    (lambda t, a: t.update(step=1.5), "step: expected an integer of at least 0, got 1.5"),
    (lambda t, a: t.update(examples=0), "examples: expected a positive integer, got 0"),
    (lambda t, a: t.update(examples=3), "batch_size: expected at most the number of images, 3, got 16"),
    (lambda t, a: t.update(version=2), "has version 2, and this is version 1"),
    (lambda t, a: t.pop("version"), 'expected an object with a "version"'),
    (lambda t, a: t.pop("step"), "missing or unknown: step"),
    (lambda t, a: t.update(loss=1), "missing or unknown: loss"),
    (lambda t, a: t.update(recipe=3), "expected an object as recipe, got 3"),
    (lambda t, a: t["recipe"].update(warmup=3), "Recipe: no field 'warmup'"),
    (lambda t, a: t["recipe"].pop("optimizer"), "Recipe: missing optimizer"),
    (lambda t, a: t["recipe"]["optimizer"].update(amsgrad=True), "AdamW: no field 'amsgrad'"),
    (lambda t, a: t["recipe"]["optimizer"].update(name="Lion"), 'optimizer: expected an object whose "name" is one of SGD'),
    (lambda t, a: t["recipe"]["schedule"].update(milestones=[60, 30]), "milestones: expected each to be later"),
    (drop_a_moment, r"optimizer.exp_avg.classifier.bias: missing, expected \(10,\)"),
    (reshape_a_moment, r"optimizer.exp_avg_sq.classifier.bias: expected \(10,\) \(out\), got \(3,\)"),
    (widen_a_moment, "optimizer.exp_avg_sq.classifier.bias: expected float32, got float64"),
    (add_a_moment, "optimizer.max_exp_avg_sq: unexpected"),
    (statistics_moment, "optimizer.exp_avg.stem.bn.running_mean: unexpected"),
])  # fmt: skip
def test_files_that_claim_nonsense(tmp_path, change, message):
    path = tmp_path / "run.safetensors"
    write_training(path, made_state())
    rewritten(path, change)
    with pytest.raises(ValueError, match=message) as caught:
        read_training(path)
    assert "run.safetensors" in str(caught.value)


def test_all_faults_of_a_state_together():
    state = made_state()
    moments = {"exp_avg": dict(state.moments["exp_avg"])}
    del moments["exp_avg"]["stem.conv.weight"]
    with pytest.raises(WeightsError) as caught:
        TrainingState(NETWORK, state.recipe, state.arrays, moments, 1, 500)
    assert len(caught.value.faults) == 1 + len(
        trainable(NETWORK)
    )  # one gone, and all of the second moment


@pytest.mark.parametrize(("make", "message"), [
    (lambda: SGD(-1), "learning_rate: expected a positive number, got -1"),
    (lambda: SGD(0.1, 1.0), "momentum: expected a number of at least 0 and under 1, got 1.0"),
    (lambda: SGD(0.1, nesterov=True), "nesterov: expected a momentum over 0"),
    (lambda: SGD(0.1, 0.9, 1), "nesterov: expected True or False, got 1"),
    (lambda: SGD(0.1, weight_decay=-1), "weight_decay: expected a number of at least 0, got -1"),
    (lambda: Adam(betas=0.9), "betas: expected two numbers"),
    (lambda: Adam(betas=(0.9, 1)), "betas: expected a number of at least 0 and under 1, got 1"),
    (lambda: AdamW(eps=float("nan")), "eps: expected a number of at least 0, got nan"),
    (lambda: Cosine(0), "steps: expected a positive integer, got 0"),
    (lambda: Cosine(3, -1), "final: expected a number of at least 0, got -1"),
    (lambda: Step(()), "milestones: expected one or more"),
    (lambda: Step((0,)), "milestones: expected positive integers"),
    (lambda: Step((3, 3)), "milestones: expected each to be later"),
    (lambda: Step((3,), 0), "factor: expected a positive number, got 0"),
    (lambda: Recipe(0.1), "optimizer: expected one of SGD, Adam, AdamW, got 0.1"),
    (lambda: Recipe(SGD(), 3), "schedule: expected one of Constant, Cosine, Step, got 3"),
    (lambda: Recipe(SGD(), label_smoothing=1), "label_smoothing: expected a number of at least 0 and under 1, got 1"),
    (lambda: Recipe(SGD(), batch_size=0), "batch_size: expected a positive integer, got 0"),
    (lambda: Recipe(SGD(), seed=2**32), r"seed: expected an integer under 2\^32"),
    (lambda: batch(Recipe(SGD()), 63, 0), "batch_size: expected at most the number of images, 63, got 64"),
    (lambda: write_training("run.npz", made_state()), "run.npz: cannot write a training state there"),
    (lambda: read_training("run.pt"), "run.pt: cannot read a training state there"),
])  # fmt: skip
def test_arguments_that_make_no_recipe(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_data_of_another_length(framework):
    images, labels = digits()
    with precise((framework,), "float64"):
        trainer = trainer_of(framework, RECIPES["plain"])
        with pytest.raises(
            ValueError,
            match="expected the 1347 images that this run began with, and as many labels, got 9",
        ):
            trainer.train(images[:9], labels[:9], 1)
        with pytest.raises(
            ValueError, match=r"images: expected float64, the dtype of the model .*, got float32"
        ):
            trainer.train(images.astype("float32"), labels, 1)
        assert trainer.step == 0


def test_float64_where_it_would_not_be_computed(jax):
    with precise(("jax",), "float64"):
        trainer = trainer_of("jax", RECIPES["plain"])
    with pytest.raises(ValueError, match="cannot train in float64: JAX computes in 32 bits"):
        trainer.train(*digits(), 1)


# Killed while saving

SAVER = """
import sys
sys.path.insert(0, {root!r})
from shared_tests.test_training import made_state
from weights import NetworkConfig
from weights.files.training import write_training
large = NetworkConfig(3, 10, (64, 128), (2, 2))
states = [made_state(step=step, seed=step, config=large) for step in (1, 2)]
print("ready", flush=True)
while True:
    for state in states:
        write_training({path!r}, state)
"""


def test_killed_at_any_moment(tmp_path):
    """The file is whole, and one of the two that were being written in turn."""
    path = tmp_path / "run.safetensors"
    command = [sys.executable, "-c", SAVER.format(root=str(ROOT), path=str(path))]
    random, seen = np.random.default_rng(0), set()
    for _ in range(4):
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as saver:
            assert saver.stdout.readline() == b"ready\n"
            while not path.exists():
                time.sleep(0.001)
            time.sleep(random.uniform(0, 0.1))
            saver.send_signal(signal.SIGKILL)
        state = read_training(path)
        assert same_state(state, made_state(step=state.step, seed=state.step, config=state.config))
        seen.add(state.step)
    assert seen <= {1, 2}


HALFWAY = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from weights.files.store import write_atomically
def write(path):
    with open(path, "wb") as file:
        file.write({half!r})
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
{how}
"""


@pytest.mark.parametrize(("how", "survives"), [
    ("write_atomically(Path({path!r}), write)", True),
    ("write({path!r})", False),  # what writing in place does: the test can fail
])  # fmt: skip
def test_killed_with_half_of_it_written(tmp_path, how, survives):
    path = tmp_path / "run.safetensors"
    write_training(path, made_state())
    before = path.read_bytes()
    code = HALFWAY.format(
        root=str(ROOT), half=before[: len(before) // 2], how=how.format(path=str(path))
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert (path.read_bytes() == before) == survives
    if not survives:
        with pytest.raises(WeightsError, match="is not a whole safetensors file"):
            read_training(path)


def test_a_full_disk_leaves_the_file(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    write_training(path, made_state())
    before = path.read_bytes()

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_training(path, made_state(step=8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# The result as text


def test_a_trajectory_as_text():
    pair = ("torch", ORACLE)
    points = [
        Point("parameters", step, 10.0 ** (-9 + step // 20), "conv1.weight", pair)
        for step in range(1, 101)
    ]
    text = str(Trajectory("title", "float64", tuple(points)))
    assert "step 1   step 10  step 100" in text
    assert "OVER the limit 1e-09" in text
    assert "1e-04 |" in text
    rows = [line for line in text.splitlines() if "|" in line]
    assert [row.strip()[:5] for row in rows] == [
        "1e-04",
        "1e-05",
        "1e-06",
        "1e-07",
        "1e-08",
        "1e-09",
    ]
    assert text.isascii()
    equal = Trajectory("title", "float32", (Point("parameters", 1, 0.0, "conv1.weight", pair),))
    assert "all equal" in str(equal)
    broken = Trajectory(
        "title", "float64", (Point("parameters", 1, float("inf"), "conv1.weight", pair),)
    )
    assert not broken.ok
    json.dumps(broken.to_dict(), allow_nan=False)
    with pytest.raises(ValueError, match="no points of 'loss'"):
        broken.worst("loss")


def test_the_same_surface(framework):
    """Names that `weights.files.training` asks every framework for."""
    module = part(framework, "training")
    assert implementation(framework).__name__ == module.__name__.split(".")[0]
    assert all(
        callable(getattr(module, name))
        for name in ("train_step", "moments", "restore", "steps_taken", "frozen")
    )

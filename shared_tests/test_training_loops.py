"""Our optimizers in the loops that users write."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from resattn.checking.backends import Backend, precise
from resattn.checking.draws import random_arrays
from resattn.training.trainer import Trainer
from shared_tests import training_cases
from shared_tests.training_cases import NETWORK, RECIPES, digits, make_trainer
from weights.files.training import TrainingState
from weights.live import part
from weights.recipe import Recipe, batch

one_thread, short = training_cases.one_thread, training_cases.short


def list_batches(recipe: Recipe, steps: int) -> list[tuple[np.ndarray, np.ndarray]]:
    images, labels = digits()
    chosen = [batch(recipe, len(images), step) for step in range(steps)]
    return [(images[which], labels[which]) for which in chosen]


def train_state(framework: str, recipe: Recipe, steps: int) -> TrainingState:
    trainer = make_trainer(framework, recipe)
    trainer.train(*digits(), steps)
    return trainer.state()


def check_arrays(model, state: TrainingState) -> None:
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
    for images, labels in list_batches(recipe, 6):
        optimizer.zero_grad()
        criterion(model(torch.from_numpy(images)), torch.from_numpy(labels)).backward()
        optimizer.step()
        if not own_schedule:
            scheduler.step()
    check_arrays(model, train_state("torch", recipe, 6))


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
        for images, labels in list_batches(recipe, 6):
            step(model, optimizer, jnp.asarray(np.moveaxis(images, 1, -1)), jnp.asarray(labels))
        check_arrays(model, train_state("jax", recipe, 6))


@contextmanager
def set_floatx(keras, dtype):
    """Keras' fit casts data and losses to its default dtype, whatever the dtype of the model."""
    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


@pytest.mark.parametrize("kind", ["nesterov-cosine", "adam-cosine"])
def test_keras_compile_and_fit(keras, kind, tmp_path, short):
    module, recipe = part("tf", "training"), RECIPES[kind]
    batches = list_batches(recipe, 6)
    x = np.concatenate([np.moveaxis(images, 1, -1) for images, _ in batches])
    y = np.eye(10)[np.concatenate([labels for _, labels in batches])]
    with precise(("tf",), "float64"), set_floatx(keras, "float64"):
        model = Backend("tf", "cpu").build(NETWORK, random_arrays(NETWORK, "float64"))
        loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        )
        # XLA rounds the convolutions of Keras on TensorFlow in another way.
        model.compile(optimizer=module.optimizer(model, recipe), loss=loss, jit_compile=False)
        model.fit(x[:64], y[:64], batch_size=16, epochs=1, shuffle=False, verbose=0)
        if kind == "adam-cosine":
            model.save(tmp_path / "model.keras")
            model = keras.models.load_model(tmp_path / "model.keras")
        assert module.steps_taken(model.optimizer) == 4
        model.fit(x[64:], y[64:], batch_size=16, epochs=1, shuffle=False, verbose=0)
        check_arrays(model, train_state("tf", recipe, 6))


def test_frozen_parameters_stay(torch):
    module, recipe = part("torch", "training"), RECIPES["adamw-step"]
    model = Backend("torch", "cpu").build(NETWORK, random_arrays(NETWORK, "float64"))
    model.stem.conv.weight.requires_grad_(False)
    before = model.stem.conv.weight.clone(), model.classifier.weight.clone()
    module.train_step(model, module.optimizer(model, recipe), recipe, *list_batches(recipe, 1)[0])
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
        module.train_step(
            model, module.optimizer(model, recipe), recipe, *list_batches(recipe, 1)[0]
        )
        after = [to_numpy(leaf) for leaf in (*model.stem.weights, model.classifier.kernel)]
        assert all(
            (first == second).all() for first, second in zip(before[:-1], after[:-1], strict=True)
        )
        assert (before[-1] != after[-1]).any()
        with pytest.raises(
            ValueError, match="expected every parameter to be trainable, got 3 that are frozen"
        ):
            Trainer(model, recipe, 100)

"""The training step on a framework's own arrays: against the oracle, and what it must not touch."""

from __future__ import annotations

import numpy as np
import pytest

from resattn.checking.backends import Backend, precise
from resattn.checking.draws import random_arrays
from resattn.oracle.training import ReferenceTrainer
from shared_tests import training_cases
from shared_tests.training_cases import NETWORK, RECIPES, digits
from weights import NetworkConfig, export
from weights.live import LiveModel, adapter, part
from weights.recipe import Recipe, batch

one_thread, short = training_cases.one_thread, training_cases.short
RECIPE = RECIPES["nesterov-cosine"]


def make(framework, recipe=RECIPE, config=NETWORK):
    """A model, its optimizer and its step. Call it within `precise`."""
    module = part(framework, "training")
    model = Backend(framework, "cpu").build(config, random_arrays(config, "float64"))
    optimizer = module.optimizer(model, recipe)
    return model, optimizer, module.make_train_step(model, optimizer, recipe)


def native_batch(framework, model, recipe=RECIPE, number=0):
    images, labels = digits()
    chosen = batch(recipe, len(images), number)
    to_native = part(framework, "bridge.native").to_native
    return to_native(model, images[chosen]), to_native(model, labels[chosen])


@pytest.mark.parametrize("kind", RECIPES)
def test_model_and_optimizer_are_current_after_each_step(framework, kind, short):
    """Compared with the oracle after every step: loss, parameters, statistics and moments."""
    recipe, (images, labels) = RECIPES[kind], digits()
    reference = ReferenceTrainer(NETWORK, random_arrays(NETWORK, "float64"), recipe)
    with precise((framework,), "float64"):
        model, optimizer, step = make(framework, recipe)
        for number in range(4):
            chosen = batch(recipe, len(images), number)
            loss = step(*native_batch(framework, model, recipe, number))
            expected = reference.train_step(images[chosen], labels[chosen])
            assert loss.shape == ()
            assert float(loss) == pytest.approx(expected, rel=1e-12)
            held = export(model)
            for name, array in reference.arrays.items():
                assert abs(held[name] - array).max() < 1e-11 * abs(array).max(), name
            moments = LiveModel.of(model).moments(optimizer)
            for moment, arrays in reference.moments.items():
                for name, array in arrays.items():
                    assert abs(moments[moment][name] - array).max() < 1e-10 * abs(array).max()
            assert part(framework, "training").steps_taken(optimizer) == number + 1


def test_the_mode_stays(framework, short):
    module = adapter(framework)
    with precise((framework,), "float64"):
        model, _, step = make(framework)
        for training in (False, True):
            module.set_training(model, training)
            before = export(model)
            step(*native_batch(framework, model))
            assert module.is_training(model) == (training and framework != "tf")
            held = export(model)
            name = next(name for name in held if name.endswith("running_mean"))
            assert (held[name] != before[name]).all()  # a step trains, whatever the mode is


def test_another_frozen_block(keras, short):
    """Blocks have variables of the same paths: another frozen one is another step."""
    config = NetworkConfig(in_channels=1, classes=10, widths=(4,), depths=(3,), stem_channels=4)
    with precise(("tf",), "float64"):
        module = part("tf", "training")
        model = Backend("tf", "cpu").build(config, random_arrays(config, "float64"))
        blocks = model.stages[0].layers if hasattr(model.stages, "__getitem__") else None
        blocks = blocks or model.stages.layers[0].layers
        optimizer = module.optimizer(model, RECIPE)
        for frozen in (1, 2):
            for number, block in enumerate(blocks):
                block.trainable = number != frozen
            before = export(model)
            module.make_train_step(model, optimizer, RECIPE)(*native_batch("tf", model))
            after = export(model)
            moved = {
                name.split(".conv1")[0]
                for name in after
                if name.endswith("conv1.weight") and (after[name] != before[name]).any()
            }
            assert moved == {f"stages.0.{number}" for number in range(3) if number != frozen}


def test_images_are_not_changed(framework, short):
    with precise((framework,), "float64"):
        model, _, step = make(framework)
        images, labels = native_batch(framework, model)
        before = np.array(images)
        step(images, labels)
        assert (np.array(images) == before).all()
        assert not getattr(images, "requires_grad", False)


def test_a_failed_step_changes_nothing(framework, short):
    with precise((framework,), "float64"):
        model, _, step = make(framework)
        images, labels = native_batch(framework, model)
        step(images, labels)
        before = export(model)
        with pytest.raises(Exception, match=r"\d"):  # each framework's own, with a shape
            step(images[:, :, :, None], labels)
        held = export(model)
        assert all((held[name] == before[name]).all() for name in before)
        step(images, labels)
        assert any((export(model)[name] != before[name]).any() for name in before)


# Flax


def deleted_arrays(*holders):
    from flax import nnx

    return [
        path
        for path, node in nnx.iter_graph(holders)
        if isinstance(node, nnx.Variable) and node.get_raw_value().is_deleted()
    ]


def test_no_deleted_array_stays_in_a_model(jax):
    """The step reuses the arrays of model and optimizer, and puts new ones in their place."""
    with precise(("jax",), "float64"):
        model, optimizer, step = make("jax")
        images, labels = native_batch("jax", model)
        used = model.classifier.kernel.get_raw_value()
        step(images, labels)
        assert used.is_deleted()
        assert deleted_arrays(model, optimizer) == []
        with pytest.raises(TypeError, match="array"):
            step("no image", labels)
        assert deleted_arrays(model, optimizer) == []


def test_an_error_behind_the_step_leaves_the_arrays(jax):
    """Where JAX looks for NaN it raises its error only once the step is done."""
    with precise(("jax",), "float64"):
        model, optimizer, step = make("jax")
        images, labels = native_batch("jax", model)
        before = export(model)
        with jax.debug_nans(True), pytest.raises(FloatingPointError, match="nan"):
            step(images * np.nan, labels)
        assert deleted_arrays(model, optimizer) == []
        assert all((export(model)[name] == before[name]).all() for name in before)


def test_variables_that_share_an_array(jax):
    """JAX takes an array over only once."""
    with precise(("jax",), "float64"):
        model, optimizer, step = make("jax")
        block = model.stages.layers[0].layers[0]
        block.bn2.bias.set_raw_value(block.bn1.bias.get_raw_value())
        step(*native_batch("jax", model))
        assert deleted_arrays(model, optimizer) == []


def test_exported_arrays_outlast_the_step(jax):
    with precise(("jax",), "float64"):
        model, optimizer, step = make("jax")
        step(*native_batch("jax", model))
        held = {**export(model), **LiveModel.of(model).moments(optimizer)["momentum_buffer"]}
        before = {name: array.copy() for name, array in held.items()}
        step(*native_batch("jax", model, number=1))
        assert all((held[name] == before[name]).all() for name in held)


def test_only_what_the_optimizer_trains(jax):
    from flax import nnx

    module = part("jax", "training")
    with precise(("jax",), "float64"):
        model = Backend("jax", "cpu").build(NETWORK, random_arrays(NETWORK, "float64"))
        wrt = nnx.All(nnx.Param, nnx.PathContains("classifier"))
        optimizer = nnx.Optimizer(model, module._transformation(RECIPE), wrt=wrt)
        before = export(model)
        module.make_train_step(model, optimizer, RECIPE)(*native_batch("jax", model))
        held = export(model)
        changed = {name for name in held if (held[name] != before[name]).any()}
        assert {name for name in changed if "running" not in name} == {
            "classifier.weight",
            "classifier.bias",
        }


def test_random_numbers_go_on(jax):
    """Dropout and stochastic depth: the same draws as in a loop that Flax users write."""
    from flax import nnx

    config = NetworkConfig.from_dict({**NETWORK.to_dict(), "dropout": 0.4, "drop_path": 0.3})
    module, recipe = part("jax", "training"), Recipe(RECIPE.optimizer, batch_size=16)
    with precise(("jax",), "float64"):
        model, _, step = make("jax", recipe, config)
        other = Backend("jax", "cpu").build(config, random_arrays(config, "float64"))
        other.train()
        optimizer = module.optimizer(other, recipe)

        @nnx.jit
        def written(model, optimizer, images, labels):
            loss, slopes = nnx.value_and_grad(
                lambda model: module.cross_entropy(model(images), labels, recipe.label_smoothing)
            )(model)
            optimizer.update(model, slopes)
            return loss

        losses = []
        for number in range(3):
            images, labels = native_batch("jax", model, recipe, number)
            losses.append((float(step(images, labels)), written(other, optimizer, images, labels)))
        assert all(ours == pytest.approx(float(theirs), rel=1e-12) for ours, theirs in losses)
        held, expected = export(model), export(other)
        assert all(abs(held[name] - expected[name]).max() < 1e-11 for name in held)

"""Training: the same run in three frameworks, and runs that move between them."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest

from resattn.checking.backends import Backend, implementation, precise
from resattn.checking.crosscheck import ORACLE
from resattn.checking.draws import random_arrays
from resattn.checking.tolerances import TRAINING_TOLERANCE
from resattn.oracle import training as reference_training
from resattn.training.drift import Point, Trajectory, drift
from resattn.training.trainer import resume
from shared_tests import training_cases
from shared_tests.training_cases import NETWORK, RECIPES, digits, make_trainer, measure_farthest
from weights import BlockConfig
from weights.files.training import TrainingState, read_training, write_training
from weights.frameworks import FRAMEWORKS
from weights.live import part
from weights.recipe import SGD, Adam, Constant, Cosine, Recipe, Step, batch

one_thread, short = training_cases.one_thread, training_cases.short

# With biases before batch norms.
BLOCK = BlockConfig(3, 5, 3, (2, 1), attention_options={"hidden_channels": 3})


def follow(recipe, steps, frameworks, dtype="float64", **options) -> Trajectory:
    images, labels = digits()
    arrays = random_arrays(NETWORK)
    return drift(
        NETWORK, arrays, recipe, frameworks, dtype, steps, images=images, labels=labels, **options
    )


def follow_block(recipe, steps, backend, dtype) -> Trajectory:
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


# Trajectories


@pytest.mark.parametrize("kind", RECIPES)
def test_every_recipe_against_the_oracle(backend, kind):
    result = follow(RECIPES[kind], 8, (backend.framework,), device=backend.device)
    assert result.worst("parameters").relative < 1e-12, str(result)
    assert result.worst("statistics").relative < 1e-12, str(result)
    assert result.worst("moments").relative < 1e-11 if result.of("moments") else kind == "plain"
    assert result.worst("loss").relative < 1e-13, str(result)


@pytest.mark.parametrize("kind", ["nesterov-cosine", "adamw-step"])
def test_a_hundred_steps_on_the_digits(all_frameworks, kind):
    result = follow(RECIPES[kind], 100, all_frameworks, every=20)
    assert result.ok, str(result)
    assert (
        max(result.worst(quantity).relative for quantity in ("parameters", "statistics", "moments"))
        <= TRAINING_TOLERANCE
    )
    assert len(result.pairs) == 6  # every two frameworks, and each with the oracle


def test_a_block_alone(backend, short):
    """The averages of its channels over positions are its logits; biases before its batch norms are
    compared separately.
    """
    result = follow_block(RECIPES["adam-cosine"], 4, backend, "float64")
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
    """Such biases are compared separately because in float32 they move by much of the rate in each
    step, differently in each framework. Parameters, running variances and loss agree.
    """
    recipe = Recipe(Adam(1e-2), batch_size=16)
    result = follow_block(recipe, 4, backend, "float32")
    assert result.worst("free").relative > 1e-3, str(result)
    assert result.worst("loss").relative < 1e-5, str(result)
    assert result.worst("parameters").relative < 1e-4, str(result)


def test_float32_stays_near(backend, short):
    """There is no limit for float32, but a rate, a moment or a bias correction in the wrong
    precision would exceed these bounds.
    """
    result = follow(
        RECIPES["adamw-step"], 6, (backend.framework,), "float32", device=backend.device
    )
    assert result.worst("parameters").relative < 1e-5, str(result)
    assert result.worst("loss").relative < 1e-5, str(result)


# Schedules


@pytest.mark.parametrize(
    "schedule", [Constant(), Cosine(7), Cosine(5, 0.3), Step((1,)), Step((2, 3, 7), 0.5)], ids=repr
)
def test_the_frameworks_schedules(framework, schedule):
    recipe = Recipe(SGD(0.3), schedule)
    with precise((framework,), "float64"):
        made = part(framework, "training").schedule(recipe)
        scale = 0.3 if framework == "torch" else 1  # PyTorch's schedule is a factor
        for step in range(10):
            assert float(made(step)) * scale == pytest.approx(
                reference_training.rate(recipe, step), rel=1e-13, abs=1e-17
            )
            assert recipe.rate(step) == pytest.approx(
                reference_training.rate(recipe, step), rel=1e-13, abs=1e-17
            )


# Runs that move


@cache
def run_hundred_steps(framework: str) -> tuple[TrainingState, TrainingState, np.ndarray]:
    """The state after 50 steps and after 100 in one run, and the losses."""
    with precise((framework,), "float64"):
        trainer = make_trainer(framework, RECIPES["adamw-step"])
        first = trainer.train(*digits(), 50)
        halfway = trainer.state()
        second = trainer.train(*digits(), 50)
        return halfway, trainer.state(), np.concatenate([first, second])


@pytest.mark.parametrize("to", FRAMEWORKS)
@pytest.mark.parametrize("source", FRAMEWORKS)
def test_fifty_steps_here_and_fifty_there(request, tmp_path, source, to):
    """Equal to 100 steps in either framework; to the last bit if both are the same."""
    for name in {source, to}:
        request.getfixturevalue({"torch": "torch", "jax": "jax", "tf": "keras"}[name])
    path = tmp_path / "run.safetensors"
    write_training(path, run_hundred_steps(source)[0])
    with precise((to,), "float64"):
        trainer = resume(read_training(path), to)
        assert trainer.step == 50
        losses = trainer.train(*digits(), 50)
        end = trainer.state()
    assert end.step == 100
    for framework in {source, to}:
        _, expected, all_losses = run_hundred_steps(framework)
        assert measure_farthest(end, expected) <= TRAINING_TOLERANCE
        assert abs(losses - all_losses[50:]).max() <= TRAINING_TOLERANCE
    if source == to:
        assert measure_farthest(end, run_hundred_steps(to)[1]) == 0
        assert (losses == run_hundred_steps(to)[2][50:]).all()
        assert (
            run_hundred_steps(to)[2][-10:].mean() < 0.9 * run_hundred_steps(to)[2][:10].mean()
        )  # it learns


def test_a_run_that_has_not_begun_moves_too(framework, tmp_path, short):
    with precise((framework,), "float64"):
        trainer = make_trainer(framework, RECIPES["nesterov-cosine"])
        write_training(tmp_path / "a.safetensors", trainer.state())
        again = resume(read_training(tmp_path / "a.safetensors"), framework)
        assert (again.train(*digits(), 3) == trainer.train(*digits(), 3)).all()
        assert measure_farthest(again.state(), trainer.state()) == 0


def test_the_mode_is_left_alone(framework, short):
    adapter = Backend(framework, "cpu").adapter
    with precise((framework,), "float64"):
        trainer = make_trainer(framework, RECIPES["plain"])
        for training in (False, True):
            adapter.set_training(trainer.model, training)
            trainer.train(*digits(), 1)
            assert adapter.is_training(trainer.model) == (training and framework != "tf")


# The order of the data


def test_the_order_of_the_data():
    recipe = Recipe(SGD(0.1), batch_size=4, seed=5)
    epochs = [
        np.concatenate([batch(recipe, 14, 3 * epoch + position) for position in range(3)])
        for epoch in range(3)
    ]
    for order in epochs:
        assert len(set(order.tolist())) == 12  # of 14; an incomplete batch is not used
    assert len({tuple(order) for order in epochs}) == 3
    other = Recipe(SGD(0.1), batch_size=4, seed=6)
    assert (batch(other, 14, 0) != batch(recipe, 14, 0)).any()
    # Fixed numbers: a run that resumes on another machine or with a later NumPy must get the same
    # images.
    assert batch(recipe, 14, 0).tolist() == WRITTEN[0]
    assert batch(recipe, 14, 7).tolist() == WRITTEN[1]


WRITTEN = ([5, 7, 1, 8], [3, 7, 10, 4])


def test_data_of_another_length(framework):
    images, labels = digits()
    with precise((framework,), "float64"):
        trainer = make_trainer(framework, RECIPES["plain"])
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
        trainer = make_trainer("jax", RECIPES["plain"])
    with pytest.raises(ValueError, match="cannot train in float64: JAX computes in 32 bits"):
        trainer.train(*digits(), 1)


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
    """The names that `weights.files.training` needs from every framework."""
    module = part(framework, "training")
    assert implementation(framework).__name__ == module.__name__.split(".")[0]
    assert all(
        callable(getattr(module, name))
        for name in ("train_step", "moments", "restore", "steps_taken", "frozen")
    )

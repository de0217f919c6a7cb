"""How a batch is divided over devices: as data, in the oracle, in files of training states."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors import safe_open

from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.oracle import evaluation as reference
from resattn.oracle.moments import BatchParts, local_parts
from resattn.oracle.training import ReferenceTrainer
from resattn.tracing.parallel import DeviceStep, trace_step
from resattn.tracing.parallel_mistakes import ParallelProblem, norm_mistakes, sum_mistakes
from resattn.training.drift import drift
from shared_tests.training_cases import (
    NETWORK,
    RECIPES,
    digits,
    make_state,
    make_trainer,
    measure_farthest,
)
from weights import NetworkConfig
from weights.errors import ArgumentError
from weights.files.safetensors import METADATA
from weights.files.training import read_training, write_training
from weights.labelled import check_labelled
from weights.recipe import SGD, Recipe
from weights.shards import Shards

SE_AND_BAM = NetworkConfig(
    1, 4, (4, 6), (1, 1), strides=((2, 1), (1, 2)), stem_channels=4, attention="bam",
    attention_options={"reduction": 2},
)  # fmt: skip


@pytest.mark.parametrize(
    ("count", "examples", "own"),
    [(1, 5, [5]), (2, 8, [4, 4]), (4, 7, [2, 2, 2, 1]), (4, 5, [2, 2, 1, 0]), (3, 1, [1, 0, 0])],
)
def test_shards_hold_every_image_once(count, examples, own):
    division, batch = Shards(count).divide(examples), np.arange(10, 10 + examples)
    assert [division.own(shard) for shard in range(count)] == own
    parts = [division.part(batch, shard) for shard in range(count)]
    assert {part.shape for part in parts} == {(division.size,)}
    np.testing.assert_array_equal(np.concatenate(parts), division.pad(batch))
    np.testing.assert_array_equal(division.pad(batch)[:examples], batch)
    assert set(division.pad(batch)[examples:]) <= {10}
    np.testing.assert_array_equal(np.flatnonzero(division.weights), np.arange(examples))


def test_a_batch_that_divides_is_not_copied():
    batch = np.arange(8)
    assert Shards(4).divide(8).pad(batch) is batch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "count: expected a positive integer, got 0"),
        ((2, "both"), "statistics: expected one of global, local, got 'both'"),
    ],
)
def test_shards_that_cannot_be(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        Shards(*arguments)


def test_a_variance_of_one_value_is_refused():
    Shards(4).divide(5).check_counts(1)
    Shards(4, "local").divide(5).check_counts(2)
    with pytest.raises(ArgumentError, match="got batch x height x width = 1"):
        Shards(4, "local").divide(5).check_counts(1)
    with pytest.raises(ArgumentError, match="got batch x height x width = 1"):
        Shards(4).divide(1).check_counts(1)


# The oracle


@pytest.fixture(scope="module")
def problem():
    arrays, x = random_arrays(SE_AND_BAM, "float64"), random_input(SE_AND_BAM, (9, 8), 8, "float64")
    return arrays, x, random_cotangent((8, 4), "float64")


def run(problem, parts=None, images=slice(None)):
    arrays, x, slopes = problem
    return reference.run(SE_AND_BAM, arrays, x[images], slopes[images], training=True, parts=parts)


def test_local_statistics_are_those_of_each_part_alone(problem):
    arrays, decay = problem[0], SE_AND_BAM.bn_decay
    division = Shards(3, "local").divide(8)
    whole = run(problem, local_parts(division))
    bounds = [(0, 3), (3, 6), (6, 8)]
    alone = [run(problem, images=slice(*each)) for each in bounds]
    np.testing.assert_allclose(whole.output, np.concatenate([a.output for a in alone]), atol=1e-12)
    for name, gradient in whole.gradients.items():
        summed = sum(each.gradients[name] for each in alone)
        np.testing.assert_allclose(gradient, summed, atol=1e-12 * np.abs(summed).max())
    for name, statistic in whole.statistics.items():
        each = [(one.statistics[name] - decay * arrays[name]) / (1 - decay) for one in alone]
        mean = sum((end - start) / 8 * new for (start, end), new in zip(bounds, each, strict=True))
        np.testing.assert_allclose(
            statistic, decay * arrays[name] + (1 - decay) * mean, rtol=1e-10, atol=1e-12
        )


def test_global_statistics_need_no_parts(problem):
    assert local_parts(Shards(3).divide(8)) is None


def together(weights, detached=False):
    return BatchParts(((0, 1, 2), (3, 4, 5), (6, 7)), False, weights, detached)


def test_averages_weighted_by_images_are_those_of_the_batch(problem):
    expected, found = run(problem), run(problem, together((3 / 8, 3 / 8, 2 / 8)))
    np.testing.assert_allclose(found.output, expected.output, atol=1e-12)
    for name, gradient in expected.gradients.items():
        scale = expected.scales.get(name, np.abs(gradient).max()) or 1
        np.testing.assert_allclose(found.gradients[name], gradient, atol=1e-11 * scale)
    for name, statistic in expected.statistics.items():
        np.testing.assert_allclose(found.statistics[name], statistic, rtol=1e-11, atol=1e-13)


def test_a_mean_of_means_is_another_computation(problem):
    expected, found = run(problem), run(problem, together((1 / 3, 1 / 3, 1 / 3)))
    assert np.abs(found.output - expected.output).max() > 1e-3


@pytest.mark.parametrize(
    "parts",
    [together((1 / 3, 1 / 3, 1 / 3)), local_parts(Shards(3, "local").divide(8))],
    ids=["mean of means", "local"],
)
def test_gradients_of_parts_equal_complex_steps(problem, parts):
    arrays, x, slopes = problem
    step, rng = 1e-30, np.random.default_rng(5)
    result = run(problem, parts)
    along = {name: rng.normal(size=each.shape) for name, each in result.gradients.items()}
    moved = arrays | {name: arrays[name] + 1j * step * each for name, each in along.items()}
    with np.errstate(invalid="ignore"):
        output = reference.run(SE_AND_BAM, moved, x, training=True, parts=parts).output
    expected = (output.imag / step * slopes).sum()
    terms = [(gradient * along[name]).sum() for name, gradient in result.gradients.items()]
    np.testing.assert_allclose(sum(terms), expected, rtol=0, atol=1e-12 * sum(map(abs, terms)))


def test_sums_without_gradient_change_the_gradients_alone(problem):
    weights = (3 / 8, 3 / 8, 2 / 8)
    expected, found = run(problem), run(problem, together(weights, detached=True))
    np.testing.assert_allclose(found.output, expected.output, atol=1e-12)
    apart = [
        np.abs(found.gradients[name] - gradient).max() / np.abs(gradient).max()
        for name, gradient in expected.gradients.items()
        if name not in expected.vanishing
    ]
    assert max(apart) > 1e-3


def test_the_reference_trains_with_local_statistics(problem):
    arrays, x, _ = problem
    labels = np.arange(8) % 4
    trainers = [
        ReferenceTrainer(SE_AND_BAM, arrays, RECIPES["momentum-step"], shards)
        for shards in (None, Shards(3), Shards(3, "local"))
    ]
    one, same, local = (each.train_step(x, labels) for each in trainers)
    assert one == same
    assert abs(local - one) > 1e-6


# Training states


def test_a_state_of_a_run_with_local_statistics_says_so(tmp_path):
    state = make_state()
    local = type(state)(**{**vars(state), "shards": Shards(4, "local")})
    write_training(tmp_path / "local.safetensors", local)
    found = read_training(tmp_path / "local.safetensors")
    assert found.shards == Shards(4, "local")
    assert measure_farthest(found, local) == 0


def test_a_state_with_global_statistics_does_not_depend_on_devices(tmp_path):
    """So older versions read it as well."""
    state = make_state()
    on_four = type(state)(**{**vars(state), "shards": Shards(4)})
    assert on_four.shards == Shards()
    write_training(tmp_path / "one.safetensors", state)
    write_training(tmp_path / "four.safetensors", on_four)
    assert (tmp_path / "one.safetensors").read_bytes() == (
        tmp_path / "four.safetensors"
    ).read_bytes()
    with safe_open(tmp_path / "four.safetensors", framework="numpy") as file:
        training = json.loads(file.metadata()[METADATA])["training"]
    assert training["version"] == 1
    assert "shards" not in training


@pytest.mark.parametrize(
    ("devices", "statistics", "message"),
    [
        ((), "global", "devices: expected at least one number, got none"),
        ((1, 2), "local", "devices: expected one number with local statistics"),
        (0, "global", "devices: expected a positive integer, got 0"),
        (2, "each", "statistics: expected one of global, local"),
    ],
)
def test_devices_of_a_drift_that_cannot_be(devices, statistics, message):
    images, labels = np.zeros((20, 1, 8, 8)), np.zeros(20, int)
    with pytest.raises(ArgumentError, match=message):
        drift(
            NETWORK,
            random_arrays(NETWORK, "float64"),
            RECIPES["plain"],
            images=images,
            labels=labels,
            devices=devices,
            statistics=statistics,
        )


# The trace of a step


SE = NetworkConfig(
    1, 10, (6,), (1,), strides=((2, 1),), stem_channels=4, attention_options={"reduction": 2}
)


def make_problem(statistics, examples):
    images = random_input(SE, (9, 8), examples, "float64")
    labels = np.random.default_rng(0).integers(0, 10, examples)
    shards, arrays = Shards(4, statistics), random_arrays(SE, "float64")
    return ParallelProblem(SE, arrays, 0.1, shards, images, labels)


def trace_of(problem, states):
    """states: of each device, images, gradients and statistics."""
    recipe = Recipe(SGD(0.1), label_smoothing=0.1, batch_size=len(problem.images))
    steps = [DeviceStep(*state) for state in states]
    return trace_step(
        SE, problem.arrays, recipe, problem.shards, problem.images, problem.labels, steps
    )


def states_of(problem, norm, mistake):
    """What the devices have after a mistake, from the oracle."""
    gradients, statistics = problem.gradients(norm, mistake), problem.statistics(norm)
    parts = (0.1, 0.2, 0.3, 0.4) if mistake.devices_differ else (1.0,) * 4
    division = problem.division
    return [
        (
            division.part(problem.images, shard),
            {name: part * slope for name, slope in gradients.items()},
            statistics[shard],
        )
        for shard, part in enumerate(parts)
    ]


@pytest.mark.parametrize("statistics", ["global", "local"])
@pytest.mark.parametrize("examples", [8, 5])
def test_every_mistake_is_told_from_the_others(statistics, examples):
    problem = make_problem(statistics, examples)
    wrong, count = [], 0
    for norm in norm_mistakes(problem):
        for mistake in sum_mistakes(problem, norm):
            found = trace_of(problem, states_of(problem, norm, mistake))
            expected = [each for each in (norm.words, mistake.words) if each]
            if [each.words for each in found.findings] != expected:
                wrong.append((expected, str(found)))
            count += 1
    assert wrong == []
    assert count >= 20


def test_other_images_are_named_and_explain_the_rest():
    problem = make_problem("global", 8)
    swapped = problem.with_order([[2, 3], [0, 1], [4, 5], [6, 7]])
    norm = norm_mistakes(swapped)[0]
    states = states_of(swapped, norm, sum_mistakes(swapped, norm)[0])
    order = (1, 0, 2, 3)
    images = [problem.division.part(problem.images, shard) for shard in order]
    found = trace_of(problem, [(x, *state[1:]) for x, state in zip(images, states, strict=True)])
    assert [each.words for each in found.findings] == [
        "device 0 computes on images 2, 3 of the batch; expected 0, 1",
        "device 1 computes on images 0, 1 of the batch; expected 2, 3",
    ]


def test_images_that_are_not_in_the_batch():
    problem = make_problem("global", 8)
    norm = norm_mistakes(problem)[0]
    states = states_of(problem, norm, sum_mistakes(problem, norm)[0])
    states[3] = (states[3][0] + 1, *states[3][1:])
    (found,) = trace_of(problem, states).findings
    assert found.words == "device 3 computes on 2 images that are not in the batch; expected 6, 7"


def test_what_no_known_mistake_computes():
    problem = make_problem("global", 8)
    norm = norm_mistakes(problem)[0]
    states = states_of(problem, norm, sum_mistakes(problem, norm)[0])
    for _, gradients, _ in states:
        gradients["classifier.bias"] = gradients["classifier.bias"] * 1.01
    (found,) = trace_of(problem, states).findings
    assert found.cause == ""
    assert str(found) == (
        "unexplained: no known mistake computes this (first classifier.bias: 1e-02)"
    )


def test_steps_of_another_number_of_devices():
    problem = make_problem("global", 8)
    with pytest.raises(ArgumentError, match="expected a step of each of 4 devices, got 0"):
        trace_of(problem, [])


def test_two_equal_images_are_no_mistake():
    problem = make_problem("global", 8)
    problem.images[5] = problem.images[0]
    norm = norm_mistakes(problem)[0]
    states = states_of(problem, norm, sum_mistakes(problem, norm)[0])
    assert trace_of(problem, states).ok


def test_steps_without_anything_to_compare():
    problem = make_problem("global", 8)
    with pytest.raises(ArgumentError, match="expected the gradients of device 0, got none"):
        trace_of(problem, [(None, {}, {})] * 4)
    norm = norm_mistakes(problem)[0]
    states = states_of(problem, norm, sum_mistakes(problem, norm)[0])
    prefixed = [
        (x, {f"module.{name}": slope for name, slope in slopes.items()}, held)
        for x, slopes, held in states
    ]
    with pytest.raises(ArgumentError, match=r"have no 'module\.classifier\.bias'"):
        trace_of(problem, prefixed)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 10]), r"from 0 to 9, one of 10 classes, got 10"),
        (np.array([0, -1]), r"from 0 to 9, one of 10 classes, got -1"),
        (np.array([0.0, 1.0]), "labels: expected integers, got float64"),
        (np.array([0, 1, 2]), r"expected one for each of the 2 images, got the shape \(3,\)"),
        (np.array([[0, 1]]), r"got the shape \(1, 2\)"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(ArgumentError, match=message):
        check_labelled(np.zeros((2, 1, 9, 8)), labels, SE)


def test_labels_of_any_integers():
    for kind in ("uint8", "int32", "int64"):
        found = check_labelled(np.zeros((2, 1, 9, 8)), np.array([0, 9], kind), SE)
        assert found.dtype == np.int64
    with pytest.raises(ArgumentError, match="expected at least one, got none"):
        check_labelled(np.zeros((0, 1, 9, 8)), np.zeros(0, int), SE)


def test_a_trainer_refuses_labels_before_any_step(framework):
    trainer = make_trainer(framework, RECIPES["plain"], dtype="float32")
    images = digits()[0].astype("float32")
    with pytest.raises(ArgumentError, match="one of 10 classes, got 99"):
        trainer.train(images, np.full(len(images), 99), 1)

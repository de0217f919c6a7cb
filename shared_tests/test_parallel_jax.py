"""Data-parallel training in Flax: on N devices as on one, and what is refused."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared_tests.parallel_jax import (
    BAM,
    CBAM,
    CHANCE,
    LOCAL,
    MOMENTUM,
    Results,
    make,
    make_batches,
    observe,
)
from weights import BlockConfig, NetworkConfig, register_attention
from weights.errors import ArgumentError, ModelError
from weights.live import adapter, part
from weights.shards import Shards

ROOT = Path(__file__).parent.parent
EXACT = 1e-12  # of the greatest magnitude in a tensor
GLOBAL = [f"momentum {count} {when}" for count in (1, 2, 4) for when in ("first", "last")]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Results:
    path = tmp_path_factory.mktemp("parallel") / "results.pkl"
    command = [sys.executable, "-W", "error", "-m", "shared_tests.parallel_jax", "training", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return Results(*pickle.loads(path.read_bytes()))


@pytest.fixture
def float64(jax):
    with adapter("jax").precise("float64"):
        yield


def farthest(actual, expected) -> tuple[float, str]:
    assert actual.keys() == expected.keys()
    return max(
        (float(abs(actual[name] - array).max() / abs(array).max()), name)
        for name, array in expected.items()
    )


@pytest.mark.parametrize("case", [*GLOBAL, "adamw 4 last"])
def test_several_devices_equal_one(jax, results, case):
    """Batches of 8, 7 and 5 images in turn, and with AdamW of 7."""
    distance, name = farthest(results.runs[case], results.expected[case])
    assert distance < EXACT, name


def test_local_statistics_are_those_of_each_shard(jax, results):
    distance, name = farthest(results.runs["local 4"], results.expected["local 4"])
    assert distance < EXACT, name


def test_local_and_global_statistics_are_told_apart(jax, results):
    assert farthest(results.runs["global 4"], results.expected["local 4"])[0] > 0.1


def test_chance_gives_numbers(jax, results):
    assert all(np.isfinite(array).all() for array in results.runs["chance"].values())


@pytest.mark.parametrize("cause", ["error", "interrupt"])
def test_a_run_that_fails_is_as_it_was_before(jax, results, cause):
    assert results.unharmed[cause]


def test_each_device_computes_its_part(jax, results):
    """Nothing but sums goes from device to device."""
    assert results.modules
    for collectives, maps in results.modules:
        assert {*collectives} == {"all-reduce"}
        assert "2,9,11" in maps
        assert not {"8,9,11", "7,9,11", "5,9,11"} & maps


def test_two_processes_with_two_devices_each(jax, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, "-W", "error", "-m", "shared_tests.parallel_jax", "processes"]
    paths = [tmp_path / f"{rank}.pkl" for rank in range(2)]
    running = [
        subprocess.Popen(
            [*command, path, address, str(rank)], stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        for rank, path in enumerate(paths)
    ]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    pairs = [pair for path in paths for pair in pickle.loads(path.read_bytes())]
    assert len(pairs) == 4
    for pair in pairs:
        distance, name = farthest(*pair)
        assert distance < EXACT, name


def on_each(shards, function, *arrays):
    """What a function gives on each device for its part of filled up arrays, (devices, ...)."""
    import jax

    parts = [np.reshape(array, (shards.count, -1, *array.shape[1:])) for array in arrays]
    return jax.vmap(function, axis_name=part("jax", "shards").MESH_AXIS)(*parts)


def moments_by_hand(x, groups):
    """Mean and variance of each group of images, and the averages over the groups."""
    means = np.array([x[chosen].mean((0, 1, 2)) for chosen in groups])
    biased = np.array([x[chosen].var((0, 1, 2)) for chosen in groups])
    unbiased = np.array([x[chosen].var((0, 1, 2), ddof=1) for chosen in groups])
    shares = np.array([len(chosen) for chosen in groups]) / sum(map(len, groups))
    return means, biased, shares @ means, shares @ unbiased


@pytest.mark.parametrize("statistics", ["global", "local"])
@pytest.mark.parametrize("shift", [0, 1e6], ids=["", "large means"])
def test_moments(float64, jax, statistics, shift):
    """5 images on 4 devices: two shards of two, one of one, an empty one."""
    division = Shards(4, statistics).divide(5)
    own = np.random.default_rng(0).normal(shift, 2, (5, 3, 4, 6))
    groups = [[0, 1], [2, 3], [4]] if division.shards.is_local else [[0, 1, 2, 3, 4]] * 3
    found = find_moments(division, own)
    rtol = 1e-9 if shift else 1e-14
    mean, variance, running_mean, running_variance = moments_by_hand(own, groups)
    np.testing.assert_allclose(found.mean[:3], mean, rtol=rtol)
    np.testing.assert_allclose(found.variance[:3], variance, rtol=rtol)
    for device in range(4):
        np.testing.assert_allclose(found.running_mean[device], running_mean, rtol=rtol)
        np.testing.assert_allclose(found.running_variance[device], running_variance, rtol=rtol)


def find_moments(division, own):
    batch_moments = part("jax", "shards").batch_moments
    return on_each(division.shards, lambda x: batch_moments(x, division), division.pad(own))


def test_a_shard_without_images_computes_nothing_infinite(float64, jax):
    """Not even after norms that magnify: it has the moments of the images that fill it up."""
    own = np.random.default_rng(0).normal(7, 2, (5, 3, 4, 6))
    found = find_moments(Shards(4, "local").divide(5), own)
    np.testing.assert_allclose(found.mean[3], own[0].mean((0, 1)), rtol=1e-14)
    np.testing.assert_allclose(found.variance[3], own[0].var((0, 1)), rtol=1e-14)


def test_the_losses_add_up_to_that_of_the_batch(float64, jax):
    training = part("jax", "training")
    division = Shards(4).divide(5)
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 1, (5, 3)), rng.integers(0, 3, 5)
    whole = training.cross_entropy(jax.numpy.asarray(logits), labels, 0.1)
    parts = on_each(
        division.shards,
        lambda *own: training.cross_entropy(*own, 0.1, division),
        division.pad(logits),
        division.pad(labels),
    )
    assert parts[3] == 0
    assert abs(float(whole - parts.sum())) < 1e-15


def test_the_division_is_forgotten(float64):
    shards = part("jax", "shards")
    model, _ = make(BAM, MOMENTUM)
    division = Shards(2).divide(3)
    norms = [model.stem.bn, model.stages.layers[0].layers[0].attention.channel_att.bn_1]
    with shards.divided(model, division):
        assert [norm.division for norm in norms] == [division, division]
    assert [norm.division for norm in norms] == [None, None]

    def fail():
        with shards.divided(model, division):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [norm.division for norm in norms] == [None, None]


def test_one_value_a_channel_is_refused(float64):
    """The last shard has one image, and bam has norms over maps of one position."""
    model, optimizer = make(BAM, LOCAL)
    with pytest.raises(ArgumentError, match=r"more than one value per channel"):
        part("jax", "shards").batch_moments(np.zeros((8, 1, 1, 2)), Shards(4, "local").divide(7))
    run = part("jax", "distributed").DataParallel(model, optimizer, LOCAL, Shards(1, "local"))
    with pytest.raises(ArgumentError, match=r"more than one value per channel"):
        run.train(make_batches([1]))


def test_labels_that_do_not_fit(float64):
    model, optimizer = make(CBAM, LOCAL)
    before = observe(model, optimizer, [])
    run = part("jax", "distributed").DataParallel(model, optimizer, LOCAL, Shards())
    images, labels = make_batches([4])[0]
    with pytest.raises(ArgumentError, match=r"each of the 4 images, got the shape \(3,\)"):
        run.train([(images, labels[:3])])
    after = observe(model, optimizer, [])
    assert all(np.array_equal(after[name], array) for name, array in before.items())


def test_more_devices_than_there_are(float64, jax):
    distributed = part("jax", "distributed")
    count = len(jax.devices("cpu"))  # JAX has begun
    distributed.provide_devices(count)
    message = rf"at most the {count} of kind 'cpu' that JAX has, got 99; call .*provide_devices"
    with pytest.raises(ArgumentError, match=message):
        distributed.provide_devices(99)
    with pytest.raises(ArgumentError, match=message), distributed.scope(Shards(99)):
        pass
    with distributed.scope(Shards(count)):
        model, optimizer = make(CBAM, LOCAL)
    with pytest.raises(ArgumentError, match=message):
        distributed.DataParallel(model, optimizer, LOCAL, Shards(99))
    with pytest.raises(ArgumentError, match=r"count: expected .* got 0"):
        distributed.provide_devices(0)


def test_a_device_that_does_not_exist(jax):
    with (
        pytest.raises(ArgumentError, match=r"the 0 of kind 'moon' that JAX has, got 1; use fewer"),
        part("jax", "distributed").scope(Shards(), "moon"),
    ):
        pass


def test_models_that_cannot_be_divided(jax):
    from flax import nnx

    from weights.attention import ATTENTION

    distributed = part("jax", "distributed")
    with pytest.raises(ModelError, match=r"expected a ResidualBlockWithAttention"):
        distributed.DataParallel(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), None, LOCAL, Shards())
    register_attention("halved", jax=lambda channels, **_: lambda x: x / 2)
    try:
        model = part("jax", "block").ResidualBlockWithAttention(
            4, 4, attention="halved", rngs=nnx.Rngs(0)
        )
        assert isinstance(model.config, BlockConfig)
        with pytest.raises(ArgumentError, match=r"attention: 'halved' is a kind of your own"):
            distributed.DataParallel(model, None, LOCAL, Shards(2))
    finally:
        del ATTENTION["halved"]


def test_chance_on_one_device(float64):
    """The same draws as without a division."""
    (images, labels), *_ = make_batches([4])
    model, optimizer = make(CHANCE, MOMENTUM)
    with part("jax", "distributed").DataParallel(model, optimizer, MOMENTUM, Shards()) as run:
        losses = run.train([(images, labels)] * 2)
    model, optimizer = make(CHANCE, MOMENTUM)
    step = part("jax", "training").train_step
    alone = [step(model, optimizer, MOMENTUM, images, labels) for _ in range(2)]
    np.testing.assert_allclose(losses, alone, rtol=1e-13)


def test_networks_without_batch_norms_are_divided(float64, jax):
    config = NetworkConfig(3, 4, (6,), (1,), attention="none", norm="group", norm_groups=2)
    model, optimizer = make(config, LOCAL)
    batches = make_batches([4, 4])
    with part("jax", "distributed").DataParallel(model, optimizer, LOCAL, Shards()) as run:
        losses = run.train(batches)
    assert losses[0] != losses[1]
    assert part("jax", "training").steps_taken(optimizer) == 2

"""Data-parallel training in Keras, on TensorFlow and on JAX: on N devices as on one, and what is
refused.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from resattn.checking.backends import precise
from resattn.checking.draws import random_arrays
from shared_tests.parallel_keras import (
    CASES,
    NESTEROV,
    SE,
    Results,
    make,
    make_batches,
    observe,
)
from weights import BlockConfig, register_attention
from weights.errors import ArgumentError, ModelError
from weights.live import adapter, build, part
from weights.shards import Shards

ROOT = Path(__file__).parent.parent
EXACT = 1e-12  # of the greatest magnitude in a tensor
GLOBAL = [
    f"{name} {count} {when}"
    for name, (*_, counts) in CASES.items()
    for count in counts
    for when in ("first", "last")
]


@pytest.fixture(scope="module", params=["tensorflow", "jax"])
def results(request, tmp_path_factory) -> Results:
    """Of a process with this backend. Workers of pytest-xdist share it."""
    backend = request.param
    if find_spec("keras") is None or find_spec(backend) is None:
        pytest.skip(f"Keras or {backend} is not installed")
    if os.environ.get("KERAS_BACKEND", backend) != backend:
        pytest.skip("tests of another backend of Keras were asked for")
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    path = folder / f"parallel-keras-{backend}.pkl"
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            command = [sys.executable, "-W", "error", "-m", "shared_tests.parallel_keras"]
            environment = {**os.environ, "KERAS_BACKEND": backend}
            done = subprocess.run(
                [*command, "training", path],
                capture_output=True, text=True, cwd=ROOT, env=environment,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
    return Results(*pickle.loads(path.read_bytes()))


def farthest(actual, expected) -> tuple[float, str]:
    assert actual.keys() == expected.keys()
    return max(
        (float(abs(actual[name] - array).max() / abs(array).max()), name)
        for name, array in expected.items()
    )


@pytest.mark.parametrize("case", GLOBAL)
def test_several_devices_equal_one(keras, results, case):
    """Losses, parameters, statistics, moments and the output in evaluation, after the first and
    after 20 batches of 8, 7 and 5 images in turn, or of 7.
    """
    distance, name = farthest(results.runs[case], results.expected[case])
    assert distance < EXACT, name


@pytest.mark.parametrize("case", ["local 4 7", "local 4 5"])
def test_local_statistics_are_those_of_each_shard(keras, results, case):
    distance, name = farthest(results.runs[case], results.expected[case])
    assert distance < EXACT, name


def test_local_and_global_statistics_are_told_apart(keras, results):
    assert farthest(results.runs["local 4 7"], results.expected["global 7"])[0] > 0.01


def test_all_devices_hold_the_same_bits(keras, results):
    assert results.identical == dict.fromkeys(results.identical, True)
    assert len(results.identical) == sum(len(counts) for *_, counts in CASES.values())


def test_after_an_error_all_devices_are_as_before(keras, results):
    assert results.unharmed


@pytest.mark.parametrize("statistics", ["global", "local"])
def test_one_device_takes_the_same_steps(keras, statistics):
    """In this process, on any backend, without a scope."""
    module, training = part("tf", "distributed"), part("tf", "training")
    batches = make_batches((7, 5), 3)
    with precise(("tf",), "float64"):
        model, optimizer = make(SE, NESTEROV, Shards())
        losses = [training.train_step(model, optimizer, NESTEROV, *each) for each in batches]
        expected = observe(model, optimizer, losses)
        model = build(SE, random_arrays(SE, "float64"), "tf", "cpu")
        optimizer = training.optimizer(model, NESTEROV)
        shards = Shards(1, statistics)
        with module.DataParallel(model, optimizer, NESTEROV, shards) as parallel:
            losses = parallel.train(batches)
        distance, name = farthest(observe(model, optimizer, losses), expected)
    assert distance < EXACT, name


def test_labels_for_other_images_change_nothing(keras):
    (images, labels), *_ = make_batches((5,), 1)
    with precise(("tf",), "float64"):
        model, optimizer = make(SE, NESTEROV, Shards())
        parallel = part("tf", "distributed").DataParallel(model, optimizer, NESTEROV, Shards())
        before = observe(model, optimizer, [])
        message = r"labels: expected one for each of the 5 images, got the shape \(4,\)"
        with pytest.raises(ArgumentError, match=message):
            parallel.train([(images, labels), (images, labels[:4])])
        after = observe(model, optimizer, [])
    assert all(np.array_equal(after[name], array) for name, array in before.items())


# What is refused.


def refusal(text: str) -> str:
    """The pattern of a message; on PyTorch, where nothing runs on several devices, of that one."""
    torch = "Keras on PyTorch cannot train on several devices; set KERAS_BACKEND=tensorflow or jax"
    return re.escape(torch if adapter("tf").BACKEND == "torch" else text)


def test_more_devices_than_there_are(keras):
    build(SE, random_arrays(SE, "float32"), "tf", "cpu")  # the backend has begun
    module = part("tf", "distributed")
    message = "devices here, got 1000; call provide_devices(count) before anything else uses"
    for attempt in (lambda: module.provide_devices(1000), module.scope(Shards(1000)).__enter__):
        with pytest.raises(ArgumentError, match=refusal(message)):
            attempt()


def test_devices_of_another_kind(keras):
    with (
        pytest.raises(ArgumentError, match=r"device: expected one of cpu, cuda, got 'moon'"),
        part("tf", "distributed").scope(Shards(), "moon"),
    ):
        pass
    if "cuda" not in adapter("tf").devices():
        message = r"shards.count: expected at most 0, the number of cuda devices here, got 1$"
        with (
            pytest.raises(ArgumentError, match=message),
            part("tf", "distributed").scope(Shards(), "cuda"),
        ):
            pass


def test_no_devices(keras):
    with pytest.raises(ArgumentError, match=r"count: expected a positive integer, got 0"):
        part("tf", "distributed").provide_devices(0)


def test_a_model_that_was_not_made_in_a_scope(keras):
    model = build(SE, random_arrays(SE, "float32"), "tf", "cpu")
    optimizer = part("tf", "training").optimizer(model, NESTEROV)
    message = r"expected one on 2 devices, got one on 1; make it, .* within .*scope\(shards\)"
    with pytest.raises(ArgumentError, match=message):
        part("tf", "distributed").DataParallel(model, optimizer, NESTEROV, Shards(2))


def test_what_is_no_model(keras):
    with pytest.raises(ModelError, match=r"expected a ResidualBlockWithAttention"):
        part("tf", "distributed").DataParallel(object(), None, NESTEROV, Shards())


def test_attention_of_a_users_own(keras):
    class Halved(keras.layers.Layer):
        def call(self, x):
            return x / 2

    register_attention("halved", tf=lambda channels, **options: Halved(**options))
    config = BlockConfig(3, 4, attention="halved")
    model = build(config, random_arrays(config, "float32"), "tf", "cpu")
    optimizer = part("tf", "training").optimizer(model, NESTEROV)
    module = part("tf", "distributed")
    with pytest.raises(ArgumentError, match=r"attention: 'halved' is a kind of your own"):
        module.DataParallel(model, optimizer, NESTEROV, Shards(2))
    module.DataParallel(model, optimizer, NESTEROV, Shards()).close()

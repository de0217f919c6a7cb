"""Data-parallel training in PyTorch equals training on one device."""

from __future__ import annotations

import gc
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from shared_tests.parallel_torch import (
    COUNTS,
    MOMENTUM,
    NETWORK,
    RUNS,
    VARIANTS,
    farthest,
    find_free,
    make_batches,
    make_parallel,
    network,
    results,
    same,
    start,
    state_of,
    train_alone,
    train_locally,
)
from weights.attention import register_attention
from weights.errors import ArgumentError, ModelError, ProcessError
from weights.recipe import Adam, Recipe
from weights.shards import Shards

pytestmark = pytest.mark.usefixtures("torch", "one_thread")
NEAR = 1e-12


@pytest.fixture
def one_thread(torch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def expect(config, recipe, shards, batches):
    if shards.is_local:
        return train_locally(config, recipe, batches, shards)
    return train_alone(config, recipe, batches)


# In the processes of a group


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", RUNS)
def test_twenty_steps(name, count):
    config, recipe, statistics, sizes = RUNS[name]
    batches = make_batches(config, sizes)
    assert len(batches) == 20
    expected = expect(config, recipe, Shards(count, statistics), batches)
    free = find_free(config, recipe, batches[0])
    found = results("data")[0][count, name]
    distance, where = farthest(found, expected, free)
    assert distance < NEAR, where
    assert len(found) > 3 * len(free)


@pytest.mark.parametrize("statistics", ["global", "local"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_with_norms_in_the_attention(name, statistics):
    config, size = VARIANTS[name]
    batches = make_batches(config, (6,), size)
    expected = expect(config, MOMENTUM, Shards(4, statistics), batches)
    found = results("data")[0][4, f"{name}-{statistics}"]
    assert any(each.startswith("gradient attention") for each in found)
    distance, where = farthest(found, expected, find_free(config, MOMENTUM, batches[0]))
    assert distance < NEAR, where


def test_local_statistics_are_others():
    """So that the test above does not compare a thing with itself."""
    config, recipe, _, sizes = RUNS["triplet"]
    found = results("data")[0][4, "triplet"]
    assert farthest(found, train_alone(config, recipe, make_batches(config, sizes)))[0] > 1e-3


def test_every_process_has_the_same_in_the_end():
    first, *others = results("data")
    compared = 0
    for found in others:
        for key in found:
            if isinstance(found[key], dict):
                assert same(found[key], first[key])
                compared += 1
    assert compared == 2 * (len(RUNS) + 2 * len(VARIANTS))  # of the third and the fourth


def test_lower_precision(torch):
    """In float32 and bfloat16, losses are near those on one device."""
    for count in COUNTS:
        losses = results("data")[0][count, "float32"]
        for number, compute in enumerate((None, "bfloat16")):
            one = make_parallel(RUNS["triplet"][0], 1, dtype="float32", compute=compute)
            batches = [(x.astype("float32"), y) for x, y in make_batches(NETWORK, (8, 7))]
            own = losses[2 * number : 2 * number + 2]
            np.testing.assert_allclose(own, one.train(batches), rtol=1e-2 if compute else 1e-5)


def test_what_a_group_refuses():
    size, few, unchanged, differ = results("data")[0][4, "refused"]
    assert size.startswith("shards: expected the number of processes in the group, 4, got 5; start")
    assert "torchrun --nproc-per-node 5" in size
    assert few.startswith("batch norm in training: expected more than one value per channel")
    assert unchanged == "unchanged: True"
    assert differ.startswith(
        "the model: expected the same in all processes, got another in process 1"
    )


def test_a_process_of_the_group_that_is_killed():
    """Process 1 was killed in the second step of the second call."""
    message, unchanged, steps = results("data")[0]["lost"]
    assert message.startswith("process 0 of 2 lost the connection to another one, which has ended")
    assert unchanged
    assert steps == 1
    assert results("data")[1] == {}


# With processes that train starts


def test_workers(torch):
    """Their losses and states, also after changes between two calls, after the script is
    interrupted, after a worker is killed and after an error of ours.
    """
    from pytorch_impl.training import steps_taken

    one, two = make_parallel(count=1), make_parallel(count=2)
    batches = make_batches(NETWORK, (8, 7, 5, 8))

    def both():
        losses = [each.train(batches) for each in (one, two)]
        states = [state_of(each.model, each.optimizer) for each in (one, two)]
        for state in states:  # workers keep their gradients
            for name in [each for each in state if each.startswith("gradient")]:
                del state[name]
        np.testing.assert_allclose(*losses, rtol=NEAR)
        free = find_free(NETWORK, MOMENTUM, batches[0])
        assert farthest(*states, free)[0] < NEAR
        assert steps_taken(one.optimizer) == steps_taken(two.optimizer)

    both()
    for each in (one, two):
        each.optimizer.param_groups[0]["weight_decay"] = 0.3
        each.model.classifier.weight.requires_grad_(False)
        with torch.no_grad():
            each.model.stem.conv.weight *= 0.9
    both()
    assert two.train([]) == []
    processes = list(two._workers._processes)
    check_failure(two, batches, interrupt, KeyboardInterrupt, r"^$")
    check_failure(
        two,
        batches,
        kill_worker,
        ProcessError,
        r"^worker 1 of 2 was ended by the signal"
        r" SIGKILL; model and optimizer are as they were, the next call of train starts",
    )
    both()
    wrong = [(images[:, :1], labels) for images, labels in batches]
    processes += two._workers._processes
    check_failure(two, wrong, None, ArgumentError, r"^input: expected \(batch, 2, height, width\)")
    assert None not in [process.poll() for process in processes]


def interrupt(_):
    raise KeyboardInterrupt


def kill_worker(workers):
    os.kill(workers._processes[1].pid, signal.SIGKILL)


def check_failure(run, batches, act, kind, message):
    """After the second batch something happens."""
    before = state_of(run.model, run.optimizer)

    def given():
        yield from batches[:2]
        if act:
            act(run._workers)
        yield from batches[2:]

    with pytest.raises(kind, match=message):
        run.train(given())
    assert run._workers is None
    assert same(state_of(run.model, run.optimizer), before)


def test_an_error_in_a_worker_and_the_end_of_the_object(torch):
    """Mixed precision: the workers compute as the model does."""
    options = {"dtype": "float32", "compute": "bfloat16"}
    run = make_parallel(**options)
    images, labels = make_batches(NETWORK, (8,))[0]
    images = images.astype("float32")
    losses = run.train([(images, labels)])
    one = make_parallel(count=1, **options).train([(images, labels)])
    wide = make_parallel(count=1, dtype="float32").train([(images, labels)])
    assert losses == pytest.approx(one, rel=1e-2)
    assert abs(losses[0] - wide[0]) > 1e-5
    processes = list(run._workers._processes)
    assert [process.poll() for process in processes] == [None, None]
    with pytest.raises(ProcessError, match=r"^worker [01] of 2 raised \w+: .*; model and"):
        run.train([(images.astype("float64"), labels)])
    assert None not in [process.poll() for process in processes]
    run.train([(images, labels)])
    processes = list(run._workers._processes)
    del run
    gc.collect()
    assert [process.poll() for process in processes] == [-signal.SIGKILL] * 2


SCRIPT = """
from shared_tests.parallel_torch import NETWORK, make_batches, make_parallel
run = make_parallel()
print(run.train(make_batches(NETWORK, (4,))))
print(*(process.pid for process in run._workers._processes))
"""


def test_a_script_without_a_main_guard():
    """The workers import nothing of it, print nothing, and end with it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    losses, processes = done.stdout.splitlines()
    assert math.isfinite(float(losses.strip("[]")))
    for process in processes.split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(process), 0)


# One device


def test_one_device_is_the_step_itself():
    batches = make_batches(NETWORK, (8, 3))
    with make_parallel(count=1) as run:
        losses = run.train(batches)
    expected = train_alone(NETWORK, MOMENTUM, batches)
    assert farthest(state_of(run.model, run.optimizer, losses), expected)[0] == 0


def test_one_device_after_an_error():
    run = make_parallel(count=1)
    before = state_of(run.model, run.optimizer)
    good = make_batches(NETWORK, (8,), (2, 1))
    with pytest.raises(ValueError, match="more than one value per channel"):
        run.train([*good, *make_batches(NETWORK, (1,), (2, 1))])
    assert same(state_of(run.model, run.optimizer), before)


# What is refused


def test_more_devices_than_there_are(torch, monkeypatch):
    from pytorch_impl.distributed import provide_devices, scope

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    message = r"shards: expected at most as many as there are CUDA devices here, 3, got 4; use"
    with pytest.raises(ArgumentError, match=message), scope(Shards(4), "cuda"):
        raise AssertionError
    with scope(Shards(3), "cuda"), scope(Shards(99)):
        provide_devices(99)
    with pytest.raises(ArgumentError, match=r"count: expected a positive integer, got 0"):
        provide_devices(0)
    message = r"device: expected one of cpu, cuda, got 'meta'"
    with pytest.raises(ArgumentError, match=message), scope(Shards(2), "meta"):
        raise AssertionError


def test_models_and_optimizers_that_are_refused(torch):
    from pytorch_impl import training
    from pytorch_impl.distributed import DataParallel

    model, optimizer = start(NETWORK, MOMENTUM)
    other = training.optimizer(start(NETWORK, MOMENTUM)[0], MOMENTUM)
    adam = training.optimizer(model, Recipe(Adam()))
    for wrong in (other, adam, torch.optim.SGD(model.parameters())):
        with pytest.raises(ArgumentError, match=r"^optimizer: expected that of pytorch_impl"):
            DataParallel(model, wrong, MOMENTUM, Shards(2))
    with pytest.raises(ModelError, match=r"expected a ResidualBlockWithAttention or"):
        DataParallel(torch.nn.Linear(2, 2), optimizer, MOMENTUM, Shards(2))
    model.requires_grad_(False)
    run = DataParallel(model, optimizer, MOMENTUM, Shards(2))
    with pytest.raises(ArgumentError, match=r"expected a parameter that is trainable, got only"):
        run.train(make_batches(NETWORK, (8,)))
    model.requires_grad_(True)
    model.stem.bn.eps = 0.1
    with pytest.raises(ModelError, match=r"the model was changed after it was made"):
        run.train(make_batches(NETWORK, (8,)))
    assert run._workers is None


def test_attention_kinds_of_your_own(torch):
    """Their norms may see only a shard. On one device they are trained."""

    class Half(torch.nn.Module):
        def __init__(self, channels, dtype=None, device=None):
            super().__init__()

        def forward(self, x):
            return x / 2

    register_attention("half", torch=Half)
    with pytest.raises(ArgumentError, match=r"^attention: expected kinds of ours for training"):
        make_parallel(network("half"))
    assert len(make_parallel(network("half"), 1).train(make_batches(NETWORK, (8,)))) == 1

"""PyTorch models whose parameters are divided over processes equal whole ones."""

from __future__ import annotations

import math

import numpy as np
import pytest

from resattn.checking.draws import random_arrays
from shared_tests.parallel_torch import (
    COUNTS,
    MOMENTUM,
    NETWORK,
    SHARDED,
    SHARDED_SIZE,
    farthest,
    find_free,
    make_batches,
    results,
    train_alone,
)
from weights import schema
from weights.errors import ArgumentError
from weights.live import build

pytestmark = pytest.mark.usefixtures("torch")
NEAR = 1e-12
CASES = pytest.mark.parametrize("name", SHARDED)
PROCESSES = pytest.mark.parametrize("count", COUNTS)


@CASES
@PROCESSES
def test_what_was_loaded_comes_back(name, count):
    first, *others = results("sharding")[:count]
    arrays, loaded = random_arrays(SHARDED[name], "float64"), first[count, name]["loaded"]
    assert loaded.keys() == arrays.keys()
    assert all(np.array_equal(loaded[each], array) for each, array in arrays.items())
    assert [found[count, name]["loaded"] for found in others] == [{}] * (count - 1)


@CASES
@PROCESSES
def test_each_process_holds_a_part(name, count):
    def rows(length, rank):
        """As torch.chunk divides: so many of the first rows each, and what is left."""
        each = -(-length // count)
        return len(range(length)[rank * each : (rank + 1) * each])

    shapes = [each.shape for each in schema(SHARDED[name]) if each.trainable]
    for rank in range(count):
        expected = sum(rows(shape[0], rank) * math.prod(shape[1:]) for shape in shapes)
        assert results("sharding")[rank][count, name]["held"] == expected
    assert expected < 0.5 * sum(map(math.prod, shapes))


@CASES
@PROCESSES
def test_the_same_output(torch, name, count):
    config = SHARDED[name]
    model = build(config, random_arrays(config, "float64"), "torch")
    x = torch.tensor(make_batches(config, (8,), SHARDED_SIZE)[0][0])
    found = results("sharding")[count - 1][count, name]
    with torch.no_grad():
        expected = {"output": model(x)}
        if "features" in found:
            expected["features"] = model.features(x)[-1]
    for key, value in expected.items():
        assert abs(found[key] - value.numpy()).max() < NEAR * abs(value).max()
    assert len(expected) == (2 if name == "network" else 1)


@CASES
@PROCESSES
def test_three_steps(name, count):
    config, found = SHARDED[name], results("sharding")[0][count, name]
    batches = make_batches(config, (8, 7, 5), SHARDED_SIZE)
    expected = train_alone(config, MOMENTUM, batches)
    kept = {key: expected[key] for key in (*found["trained"], "loss")}
    actual = {**found["trained"], "loss": found["loss"]}
    distance, where = farthest(actual, kept, find_free(config, MOMENTUM, batches[0]))
    assert distance < NEAR, where


@PROCESSES
def test_what_is_refused(count):
    size, dtype, missing = results("sharding")[0][count, "refused"]
    assert size.startswith(f"shards: expected the number of processes in the group, {count}, got")
    assert "stem.bn.weight: expected float32, got float64" in dtype
    assert "stem.bn.bias: missing" in missing


def test_without_a_group(torch):
    from pytorch_impl.sharding import build_sharded

    arrays = random_arrays(NETWORK, "float64")
    message = r"^build_sharded: expected a process group, .* torchrun --nproc-per-node 2$"
    with pytest.raises(ArgumentError, match=message):
        build_sharded(NETWORK, arrays, 2)
    with pytest.raises(ArgumentError, match=r"^shards: expected a positive integer, got 0"):
        build_sharded(NETWORK, arrays, 0)
    with pytest.raises(ArgumentError, match=r"^device: expected one of cpu, cuda, got 'moon'"):
        build_sharded(NETWORK, arrays, 2, "moon")

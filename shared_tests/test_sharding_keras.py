"""Keras models whose parameters are divided over devices compute what others do. On JAX alone."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from resattn.checking.backends import precise
from resattn.checking.draws import random_arrays
from shared_tests.parallel_keras import BAM, Divided
from weights import BlockConfig, write
from weights.errors import ArgumentError, WeightsError
from weights.live import adapter, build, part

ROOT = Path(__file__).parent.parent
EXACT = 1e-12  # of the greatest magnitude in a tensor
COUNTS = (2, 4)
SMALL = BlockConfig(3, 4, 3, 2)
LARGE = BlockConfig(1200, 1500, 3)  # 146 MB, of which one array has 81


@pytest.fixture(scope="module")
def on_jax() -> dict[str, str]:
    """The environment of a process with Keras on JAX."""
    if find_spec("keras") is None or find_spec("jax") is None:
        pytest.skip("Keras or JAX is not installed")
    if os.environ.get("KERAS_BACKEND", "jax") != "jax":
        pytest.skip("tests of another backend of Keras were asked for")
    return {**os.environ, "KERAS_BACKEND": "jax"}


@pytest.fixture(scope="module")
def results(on_jax, tmp_path_factory) -> dict[int, Divided]:
    path = tmp_path_factory.mktemp("sharding") / "results.pkl"
    command = [sys.executable, "-W", "error", "-m", "shared_tests.parallel_keras", "sharding", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=on_jax)
    assert done.returncode == 0, done.stderr
    found = pickle.loads(path.read_bytes())
    return {count: Divided(*each) for count, each in found.items()}


def farthest(actual, expected) -> tuple[float, str]:
    assert actual.keys() == expected.keys()
    return max(
        (float(abs(actual[name] - array).max() / abs(array).max()), name)
        for name, array in expected.items()
    )


def without_free(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state without the biases of bam before its batch norms: their gradients are rounding noise
    around zero.
    """
    free = ("channel_att.fc_0.bias", "spatial_att.conv_reduce.bias", "spatial_att.conv_di_")
    return {
        name: array
        for name, array in state.items()
        if not (any(each in name for each in free) and name.endswith("bias"))
    }


@pytest.mark.parametrize("count", COUNTS)
def test_outputs(keras, results, count):
    distance, name = farthest(results[count].outputs, results[0].outputs)
    assert distance < EXACT, name


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("step", [0, 1])
def test_training(keras, results, count, step):
    """Losses, parameters, statistics, moments and outputs after it."""
    found, expected = (without_free(results[each].states[step]) for each in (count, 0))
    distance, name = farthest(found, expected)
    assert distance < EXACT, name


@pytest.mark.parametrize("count", COUNTS)
def test_the_parts(keras, results, count):
    """Outputs are divided; else inputs; else each device has the whole."""
    parts = results[count].parts
    assert parts["stem.conv.weight"] == ((3, 3, 3, 4), (3, 3, 3, 4 // count))
    assert parts["stages.0.0.conv1.weight"] == ((3, 3, 4, 8), (3, 3, 4, 8 // count))
    assert parts["stages.0.0.bn2.running_mean"] == ((8,), (8 // count,))
    assert parts["classifier.weight"] == ((8, 4), (8, 4 // count))
    last = "stages.0.0.attention.spatial_att.conv_final"
    assert parts[f"{last}.weight"] == ((1, 1, 4, 1), (1, 1, 4 // count, 1))
    assert parts[f"{last}.bias"] == ((1,), (1,))
    assert (results[count].replicas, results[0].replicas) == (0, 1)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("action", ["a pass in training mode", "training", "loading"])
def test_they_stay_divided(keras, results, count, action):
    """Parameters, statistics and moments are where they were."""
    assert results[count].stayed[action]


@pytest.mark.parametrize("count", COUNTS)
def test_the_same_bits_come_back(keras, results, count):
    gathered, expected = results[count].gathered, random_arrays(BAM, "float64")
    assert gathered.keys() == expected.keys()
    assert all(np.array_equal(gathered[name], array) for name, array in expected.items())


PEAK = """
import sys
from tf_impl.distributed import provide_devices
provide_devices(4)
from resattn.benchmarks.converter import measure_memory
from resattn.checking.draws import random_arrays
from weights import BlockConfig, build_from
from weights.live import LiveModel, build
small = BlockConfig(4, 4)
build(small, random_arrays(small), "tf", shards=4)
held = []
peak = measure_memory(lambda: held.append(build_from(sys.argv[1], "tf", shards=4)))
leaves = LiveModel.of(held[0]).leaves.values()
shards = [shard for leaf in leaves for shard in leaf.value.addressable_shards]
parts = [sum(each.data.nbytes for each in shards if each.device.id == n) for n in range(4)]
print(peak // 2**20, *(each // 2**20 for each in parts))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what is anonymous")
def test_the_memory_of_loading(keras, on_jax, tmp_path):
    """All devices of the CPU have one memory: the model is in it once, and no array twice."""
    write(tmp_path / "a.safetensors", LARGE, random_arrays(LARGE))
    command = [sys.executable, "-c", PEAK, tmp_path / "a.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=on_jax)
    assert done.returncode == 0, done.stderr
    peak, *parts = map(int, done.stdout.split())
    assert sum(parts) in range(136, 146)  # MiB
    assert max(parts) - min(parts) <= 1
    assert peak < sum(parts) + 20


def test_other_backends(keras):
    if adapter("tf").BACKEND == "jax":
        pytest.skip("Keras runs on JAX")
    message = r"shards: Keras on (tensorflow|torch) cannot divide parameters .* KERAS_BACKEND=jax"
    with pytest.raises(ArgumentError, match=message):
        part("tf", "sharding").build_sharded(SMALL, random_arrays(SMALL), 1)


@pytest.fixture
def here(keras):
    if adapter("tf").BACKEND != "jax":
        pytest.skip("Keras runs on another backend than JAX")
    with precise(("tf",), "float32"):
        yield


def test_on_one_device(here):
    arrays = random_arrays(SMALL)
    found = part("tf", "sharding").gather(build(SMALL, arrays, "tf", shards=1))
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_faults_are_reported_together(here):
    arrays = random_arrays(SMALL)
    arrays["more"] = arrays.pop("bn1.weight")
    with pytest.raises(WeightsError) as caught:
        build(SMALL, arrays, "tf", shards=1)
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["bn1.weight", "more"]


def test_more_devices_than_there_are(here):
    with pytest.raises(ArgumentError, match=r"expected at most \d+, .* got 1000"):
        build(SMALL, random_arrays(SMALL), "tf", shards=1000)

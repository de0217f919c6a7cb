"""Flax models whose parameters are divided over devices compute what others do."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resattn.checking.draws import random_arrays
from shared_tests.parallel_jax import DIVIDED, Sharded
from weights import BlockConfig, build_from, write
from weights.errors import ArgumentError, WeightsError
from weights.live import adapter, build, part
from weights.parameters import Parameter
from weights.sharding import sharded_axis

ROOT = Path(__file__).parent.parent
EXACT = 1e-12  # of the greatest magnitude in a tensor
COUNTS = (2, 4)
LARGE = BlockConfig(1200, 1500, 3)  # 146 MB, of which one array has 81


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[int, Sharded]:
    path = tmp_path_factory.mktemp("sharding") / "results.pkl"
    command = [sys.executable, "-W", "error", "-m", "shared_tests.parallel_jax", "sharding", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = pickle.loads(path.read_bytes())
    return {count: Sharded(*each) for count, each in found.items()}


def farthest(actual, expected) -> tuple[float, str]:
    assert actual.keys() == expected.keys()
    return max(
        (float(abs(actual[name] - array).max() / abs(array).max()), name)
        for name, array in expected.items()
    )


@pytest.mark.parametrize("count", COUNTS)
def test_outputs(jax, results, count):
    distance, name = farthest(results[count].outputs, results[0].outputs)
    assert distance < EXACT, name


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("step", [0, 1], ids=["first", "last"])
def test_training(jax, results, count, step):
    """Losses, parameters, statistics and moments."""
    distance, name = farthest(results[count].states[step], results[0].states[step])
    assert distance < EXACT, name


@pytest.mark.parametrize("count", COUNTS)
def test_the_parts(jax, results, count):
    """Outputs are divided; else inputs; else each device has the whole."""
    parts = results[count].parts
    assert parts["stem.conv.weight"] == ((3, 3, 3, 4), (3, 3, 3, 4 // count))
    assert parts["stages.0.0.conv1.weight"] == ((3, 3, 4, 8), (3, 3, 4, 8 // count))
    assert parts["stages.0.0.bn2.running_mean"] == ((8,), (8 // count,))
    assert parts["classifier.weight"] == ((8, 4), (8, 4 // count))
    last = "stages.0.0.attention.spatial_att.conv_final"
    assert parts[f"{last}.weight"] == ((1, 1, 4, 1), (1, 1, 4 // count, 1))
    assert parts[f"{last}.bias"] == ((1,), (1,))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("action", ["a pass in training mode", "training", "loading"])
def test_they_stay_divided(jax, results, count, action):
    """Parameters, statistics, moments and random state are where they were."""
    assert results[count].stayed[action]


@pytest.mark.parametrize("count", COUNTS)
def test_the_same_bits_come_back(jax, results, count):
    expected = random_arrays(DIVIDED, "float64")
    assert results[count].gathered.keys() == expected.keys()
    assert all(np.array_equal(results[count].gathered[name], expected[name]) for name in expected)
    assert results[count].same_bytes


PEAK = """
import sys
from jax_impl.distributed import provide_devices
provide_devices(4)
from resattn.benchmarks.converter import measure_memory
from resattn.checking.draws import random_arrays
from weights import BlockConfig, build_from
from weights.live import LiveModel, build
small = BlockConfig(4, 4)
build(small, random_arrays(small), "jax", shards=4)
held = []
peak = measure_memory(lambda: held.append(build_from(sys.argv[1], "jax", shards=4)))
leaves = LiveModel.of(held[0]).leaves.values()
shards = [shard for leaf in leaves for shard in leaf[...].addressable_shards]
parts = [sum(each.data.nbytes for each in shards if each.device.id == n) for n in range(4)]
print(peak // 2**20, *(each // 2**20 for each in parts))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what is anonymous")
def test_the_memory_of_loading(jax, tmp_path):
    """All devices of the CPU have one memory: the model is in it once, and no array twice."""
    write(tmp_path / "a.safetensors", LARGE, random_arrays(LARGE))
    command = [sys.executable, "-c", PEAK, tmp_path / "a.safetensors"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    peak, *parts = map(int, done.stdout.split())
    assert sum(parts) in range(136, 146)  # MiB
    assert max(parts) - min(parts) <= 1
    assert peak < sum(parts) + 20


@pytest.mark.parametrize(
    ("role", "shape", "shards", "axis"),
    [
        ("convolution kernel", (8, 64, 3, 3), 4, "out"),
        ("convolution kernel", (6, 64, 3, 3), 4, "in"),
        ("convolution kernel", (6, 3, 4, 8), 4, "col"),
        ("convolution kernel", (6, 3, 4, 4), 4, "row"),
        ("convolution kernel", (6, 3, 5, 5), 4, None),
        ("depthwise kernel", (8, 1, 3, 3), 2, "out"),
        ("linear kernel", (10, 64), 4, "in"),
        ("linear kernel", (10, 64), 1, "out"),
        ("norm mean", (12,), 4, "channel"),
        ("norm mean", (10,), 4, None),
        ("row offsets", (7, 16), 2, "feature"),
    ],
)
def test_which_axis_is_divided(role, shape, shards, axis):
    assert sharded_axis(Parameter("layer", role, shape), shards) == axis


@pytest.fixture
def float32(jax):
    with adapter("jax").precise("float32"):
        yield


SMALL = BlockConfig(3, 4, 3, 2)


def test_on_one_device(float32, tmp_path):
    arrays = random_arrays(SMALL)
    write(tmp_path / "a.npz", SMALL, arrays)
    model = build_from(tmp_path / "a.npz", "jax", shards=1, device="cpu")
    found = part("jax", "sharding").gather(model)
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    assert not adapter("jax").is_training(model)


def test_faults_are_reported_together(float32):
    arrays = random_arrays(SMALL)
    arrays["more"] = arrays.pop("bn1.weight")
    arrays["conv1.weight"] = arrays["conv1.weight"][:2]
    with pytest.raises(WeightsError) as caught:
        build(SMALL, arrays, "jax", shards=1)
    assert [fault.split(":")[0] for fault in caught.value.faults] == [
        "bn1.weight",
        "conv1.weight",
        "more",
    ]


def test_another_dtype_is_refused(float32):
    arrays = random_arrays(SMALL)
    arrays["bn1.weight"] = arrays["bn1.weight"].astype("float64")
    with pytest.raises(WeightsError, match=r"cannot load float64 arrays: JAX computes in 32 bits"):
        build(SMALL, arrays, "jax", shards=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": 99}, r"devices: expected at most the \d+ of kind 'cpu' that JAX has, got 99"),
        ({"shards": 0}, r"shards: expected .* got 0"),
        ({"shards": 1, "device": "moon"}, r"the 0 of kind 'moon' that JAX has, got 1"),
        ({"shards": 1, "compute": "bfloat16"}, r"compute: mixed precision is only for models that"),
    ],
)
def test_what_is_refused(float32, options, message):
    with pytest.raises(ArgumentError, match=message):
        build(SMALL, random_arrays(SMALL), "jax", **options)

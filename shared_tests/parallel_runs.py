"""What the tests of several devices compute in processes of their own, because the number of
devices is fixed when a framework starts.

`python -m shared_tests.parallel_runs plants FRAMEWORK` plants mistakes in the engine of a
framework, lets `resattn.tracing.parallel` look at a step, and prints what it says as JSON. In
PyTorch it is one of the processes of a group. `explained FRAMEWORK` is a drift with one of them.
`moves FOLDER` moves a run between frameworks and
numbers of devices.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from resattn.checking.backends import Backend, precise
from resattn.checking.draws import random_arrays, random_input
from resattn.tracing.parallel import trace_step
from resattn.training.drift import drift
from resattn.training.observation import observe_step
from resattn.training.trainer import Trainer, resume
from weights import NetworkConfig
from weights.files.training import read_training, write_training
from weights.frameworks import FRAMEWORKS
from weights.live import build, part
from weights.recipe import SGD, Cosine, Recipe
from weights.shards import Division, Shards

DEVICES = 4
CONFIG = NetworkConfig(
    1, 5, (6,), (1,), strides=((2, 1),), stem_channels=4, attention="se",
    attention_options={"reduction": 2},
)  # fmt: skip
RECIPE = Recipe(SGD(0.05, 0.9, True, 1e-3), Cosine(20), 0.1, batch_size=7, seed=2)


@contextmanager
def nothing(package: str) -> Iterator[None]:
    yield


@contextmanager
def wrong_statistics(package: str) -> Iterator[None]:
    """Norms of one device's part where those of the batch are asked for, and the other way."""
    module = import_module(f"{package}.normalization")
    real = module.batch_moments

    def other(x: Any, division: Division) -> Any:
        kind = "global" if division.shards.is_local else "local"
        return real(x, Division(Shards(division.shards.count, kind), division.examples))

    with patch.object(module, "batch_moments", other):
        yield


@contextmanager
def other_data(package: str) -> Iterator[None]:
    """Device 2 gets the part of device 1."""
    part, pad = Division.part, Division.pad

    def wrong_part(self: Division, array: np.ndarray, shard: int) -> np.ndarray:
        return part(self, array, 1 if shard == 2 else shard)

    def wrong_pad(self: Division, array: np.ndarray) -> np.ndarray:
        padded = pad(self, array).copy()
        size = self.size
        padded[2 * size : 3 * size] = padded[size : 2 * size]
        return padded

    with patch.object(Division, "part", wrong_part), patch.object(Division, "pad", wrong_pad):
        yield


@contextmanager
def mean_of_means(package: str) -> Iterator[None]:
    """Each device's moments count as much, however many images it has."""
    shards, norms = (import_module(f"{package}.{name}") for name in ("shards", "normalization"))
    moments, weigh = norms.batch_moments, getattr(shards, "example_weights")  # noqa: B009

    def equally(like: Any, division: Division) -> Any:
        weights = weigh(like, division)
        return weights / weights.sum().clip(1) * (division.examples / _filled(division))

    def wrong(x: Any, division: Division) -> Any:
        with patch.object(shards, "example_weights", equally):
            return moments(x, division)

    with patch.object(norms, "batch_moments", _equal_in_keras if package == "tf_impl" else wrong):
        yield


def _filled(division: Division) -> int:
    return sum(division.own(shard) > 0 for shard in range(division.shards.count))


def _equal_in_keras(x: Any, division: Division) -> Any:
    """The same. TensorFlow traces all devices at once, so that nothing may be patched within."""
    from keras import ops

    from tf_impl import shards
    from tf_impl.bridge.replicas import sum_over_replicas

    weights = shards._by_shard(division)
    weights = weights / weights.sum(axis=1, keepdims=True).clip(1) / _filled(division)

    def mean_of(values: Any) -> Any:
        return sum_over_replicas(ops.sum(shards._sums_of_shards(values, weights), axis=0))

    mean = mean_of(x)
    variance = mean_of(ops.square(x - mean))
    n = division.examples * x.shape[1] * x.shape[2]
    flat = [ops.stop_gradient(ops.reshape(each, (-1,))) for each in (mean, variance)]
    return shards.BatchMoments(mean, variance, flat[0], flat[1] * n / (n - 1))


@contextmanager
def forgotten_sum(package: str) -> Iterator[None]:
    """Each device keeps the gradients of its own part."""
    if package == "pytorch_impl":
        import torch

        def keep(_, bucket):  # type: ignore[no-untyped-def]  # PyTorch compares annotations
            kept: Any = torch.futures.Future()
            kept.set_result(bucket.buffer())
            return kept

        with patch("pytorch_impl.bridge.ranks._add_gradients", keep):
            yield
    elif package == "jax_impl":
        import jax

        add_up = jax.lax.psum

        def without_slopes(value: Any, axis: str) -> Any:
            pair = isinstance(value, tuple) and not hasattr(value[1], "shape")
            return (add_up(value[0], axis), value[1]) if pair else add_up(value, axis)

        with patch.object(jax.lax, "psum", without_slopes):
            yield
    elif part("tf", "bridge.native").BACKEND == "jax":
        with patch("tf_impl.distributed.sum_slopes", lambda slopes: slopes):
            yield
    else:
        import keras

        kept = lambda self, pairs: pairs  # noqa: E731
        with patch.object(keras.optimizers.Optimizer, "_all_reduce_sum_gradients", kept):
            yield


# By name: what is planted, the statistics asked for, images of the batch.
PLANTS: dict[str, tuple[Callable[[str], Any], str, int]] = {
    "nothing, global": (nothing, "global", 7),
    "nothing, local": (nothing, "local", 7),
    "local for global": (wrong_statistics, "global", 8),
    "global for local": (wrong_statistics, "local", 8),
    "other data": (other_data, "global", 8),
    "mean of means": (mean_of_means, "global", 7),
    "forgotten sum": (forgotten_sum, "global", 8),
    "forgotten sum, local": (forgotten_sum, "local", 8),
}


def run_plants(framework: str) -> dict[str, Any]:
    """What the trace finds of each plant."""
    if framework == "torch":
        import torch

        torch.set_num_threads(1)
    part(framework, "distributed").provide_devices(DEVICES)
    backend, found = Backend(framework, "cpu"), {}
    arrays = random_arrays(CONFIG, "float64")
    rng = np.random.default_rng(3)
    for name, (plant, statistics, examples) in PLANTS.items():
        shards = Shards(DEVICES, statistics)
        images = random_input(CONFIG, (9, 8), examples, "float64")
        labels = rng.integers(0, CONFIG.classes, examples)
        problem: tuple[Any, ...] = (CONFIG, arrays, RECIPE, shards, images, labels)
        if "jax" in sys.modules:  # it keeps what it has compiled, with the last mistake
            sys.modules["jax"].clear_caches()
        with plant(FRAMEWORKS[framework].package):
            observed = observe_step(backend, *problem)
        found[name] = trace_step(*problem, observed).to_dict()["findings"]
    return found


def run_moves(folder: Path) -> dict[str, float]:
    """20 steps on one device, and 4 times 5 steps, each in another framework on another number of
    devices, from file to file: the greatest relative difference, by the framework of the first.
    """
    for framework in FRAMEWORKS:
        part(framework, "distributed").provide_devices(DEVICES)
    images = random_input(CONFIG, (9, 8), 30, "float64")
    labels = np.random.default_rng(4).integers(0, CONFIG.classes, 30)
    arrays = random_arrays(CONFIG, "float64")
    found = {}
    for framework in FRAMEWORKS:
        with precise((framework,), "float64"):
            trainer = Trainer(build(CONFIG, arrays, framework), RECIPE, 30)
            trainer.train(images, labels, 20)
            expected = trainer.state()
            state = Trainer(build(CONFIG, arrays, framework), RECIPE, 30).state()
        others = [each for each in FRAMEWORKS if each != framework]
        for name, devices in ((others[0], 4), (others[1], 2), (framework, 2), (others[0], 1)):
            with precise((name,), "float64"), resume(state, name, devices=devices) as trainer:
                trainer.train(images, labels, 5)
                write_training(folder / "run.safetensors", trainer.state())
            state = read_training(folder / "run.safetensors")
        pairs = [(state.arrays[name], array) for name, array in expected.arrays.items()]
        pairs += [
            (state.moments[moment][name], array)
            for moment, held in expected.moments.items()
            for name, array in held.items()
        ]
        found[framework] = max(
            float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs
        )
    return found


def run_explained(framework: str) -> dict[str, Any]:
    """A drift with a planted mistake, as JSON has it."""
    part(framework, "distributed").provide_devices(DEVICES)
    images = random_input(CONFIG, (9, 8), 20, "float64")
    labels = np.random.default_rng(4).integers(0, CONFIG.classes, 20)
    with wrong_statistics(FRAMEWORKS[framework].package):
        found = drift(
            CONFIG, random_arrays(CONFIG, "float64"), RECIPE, (framework,), steps=2,
            images=images, labels=labels, devices=DEVICES,
        )  # fmt: skip
    return {**found.to_dict(), "text": str(found)}


RUNS: dict[str, Callable[[str], Any]] = {
    "plants": run_plants,
    "explained": run_explained,
    "moves": lambda folder: run_moves(Path(folder)),
}


def main() -> None:
    command, argument = sys.argv[1:]
    found = RUNS[command](argument)
    print("RESULT", json.dumps(found))


if __name__ == "__main__":
    main()

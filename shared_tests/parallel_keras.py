"""Runs of Keras on 1, 2 and 4 devices of the CPU, in a process of its own:

    KERAS_BACKEND=jax python -m shared_tests.parallel_keras training FILE
    KERAS_BACKEND=jax python -m shared_tests.parallel_keras sharding FILE

Writes a pickle of `Results`, and of `Divided` by the number of devices.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from resattn.checking.backends import precise
from resattn.checking.draws import random_arrays
from weights import BlockConfig, NetworkConfig, build_from, write
from weights.live import LiveModel, adapter, build, part
from weights.recipe import SGD, AdamW, Cosine, Recipe
from weights.shards import Shards

DEVICES = 4
STEPS = 20
# Odd sizes, stride 2, and batch norms in the attention of one of them.
SE = BlockConfig(3, 4, 3, 2, attention="se", attention_options={"reduction": 2}, conv_bias=False)
TRIPLET = NetworkConfig(
    3, 4, (4,), (1,), strides=((2, 1),), stem_channels=4, attention="triplet", conv_bias=False
)
NESTEROV = Recipe(SGD(0.02, 0.9, True, 1e-3), Cosine(50), label_smoothing=0.1)
# Some parameters have no axis that the devices divide, and some only that of the input channels.
BAM = NetworkConfig(
    3, 4, (8,), (1,), strides=((2, 1),), stem_channels=4, conv_bias=False, attention="bam",
    attention_options={"reduction": 2},
)  # fmt: skip
ADAMW = Recipe(AdamW(1e-3, weight_decay=0.1), label_smoothing=0.1)
# The update is the gradient.
PLAIN = Recipe(SGD(1.0))
# Of 5 images on 4 devices, one device has none.
CASES = {
    "se nesterov": (SE, NESTEROV, (8, 7, 5), (1, 2, 4)),
    "triplet adamw": (TRIPLET, ADAMW, (7,), (4,)),
}

State = dict[str, np.ndarray]
Batch = tuple[np.ndarray, np.ndarray]


class Results(NamedTuple):
    """runs, expected: states by case. identical: whether all devices hold the same bits.
    unharmed: whether an error left model and optimizer as they were.
    """

    runs: dict[str, State]
    expected: dict[str, State]
    identical: dict[str, bool]
    unharmed: bool


class Divided(NamedTuple):
    """gathered: the arrays of a new model. outputs: in evaluation, and of a pass in training mode.
    states: after each step of training. parts: shapes of parameters and of what the last device has
    of them. stayed: by action, whether all variables are divided as before. replicas: what
    `count_replicas` says.
    """

    gathered: State
    outputs: State
    states: list[State]
    parts: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    stayed: dict[str, bool]
    replicas: int


def make_batches(sizes: tuple[int, ...], steps: int = STEPS) -> list[Batch]:
    """Batches of these sizes in turn."""
    rng = np.random.default_rng(5)
    counts = [sizes[step % len(sizes)] for step in range(steps)]
    return [(rng.normal(0.5, 1.5, (n, 3, 9, 7)), rng.integers(0, 4, n)) for n in counts]


def make(config: Any, recipe: Recipe, shards: Shards) -> tuple[Any, Any]:
    """A model and its optimizer, on the devices of `shards`."""
    with part("tf", "distributed").scope(shards):
        model = build(config, random_arrays(config, "float64"), "tf", "cpu")
    return model, part("tf", "training").optimizer(model, recipe)


def observe(model: Any, optimizer: Any, losses: list[float]) -> State:
    """Losses, parameters, running statistics, moments, the number of updates, and the output in
    evaluation.
    """
    live = LiveModel.of(model)
    steps = part("tf", "training").steps_taken(optimizer)
    found = {"losses": np.array(losses), "steps": np.array([steps]), **live.export()}
    found["output"] = live.forward(make_batches((2,), 1)[0][0])
    for moment, arrays in live.moments(optimizer).items():
        found |= {f"{moment} of {name}": array for name, array in arrays.items()}
    return found


def run_on_one(config: Any, recipe: Recipe, batches: list[Batch]) -> tuple[State, State]:
    """The states after the first batch and after the last, without a division."""
    training = part("tf", "training")
    model, optimizer = make(config, recipe, Shards())
    losses = []
    for batch in batches:
        losses.append(training.train_step(model, optimizer, recipe, *batch))
        if len(losses) == 1:
            first = observe(model, optimizer, losses)
    return first, observe(model, optimizer, losses)


def run_on_several(
    config: Any, recipe: Recipe, batches: list[Batch], shards: Shards
) -> tuple[State, State, bool]:
    """The same on several devices, and whether they hold the same at the end."""
    model, optimizer = make(config, recipe, shards)
    with part("tf", "distributed").DataParallel(model, optimizer, recipe, shards) as parallel:
        losses = parallel.train(batches[:1])
        first = observe(model, optimizer, losses)
        losses += parallel.train(iter(batches[1:]))
    last = observe(model, optimizer, losses)
    return first, last, is_identical(model, optimizer, shards.count)


def is_identical(model: Any, optimizer: Any, count: int) -> bool:
    """Whether every variable is on that many devices, with the same bits on each."""
    copies = []
    for variable in (*model.variables, *optimizer.variables):
        value = variable.value
        if adapter("tf").BACKEND == "jax":
            copies.append([np.asarray(shard.data) for shard in value.addressable_shards])
        else:
            copies.append([copy.numpy() for copy in getattr(value, "values", [value])])
    return all(
        len(held) == count and all(np.array_equal(held[0], copy) for copy in held)
        for held in copies
    )


def run_by_definition(config: Any, batches: list[Batch], shards: Shards) -> Iterator[State]:
    """Local statistics without any engine, by PLAIN: a step on each shard's own images alone, and
    then the averages of losses, parameters and statistics, weighted by numbers of images. The
    average of the parameters is the step with the sum of the gradients.
    """
    training = part("tf", "training")
    arrays = random_arrays(config, "float64")
    for images, labels in batches:
        division = shards.divide(len(images))
        parts = []
        for shard in range(shards.count):
            own = division.own(shard)
            if not own:
                continue
            chosen = [division.part(each, shard)[:own] for each in (images, labels)]
            model = build(config, arrays, "tf", "cpu")
            optimizer = training.optimizer(model, PLAIN)
            loss = training.train_step(model, optimizer, PLAIN, *chosen)
            state = {"losses": np.array([loss]), **LiveModel.of(model).export()}
            parts.append((own / len(images), state))
        averages = {
            name: sum(weight * state[name] for weight, state in parts) for name in parts[0][1]
        }
        yield averages
        arrays = {name: averages[name] for name in arrays}


def run_local(config: Any, batches: list[Batch], shards: Shards) -> Iterator[State]:
    """The states after each batch, with an optimizer of PLAIN."""
    model, optimizer = make(config, PLAIN, shards)
    with part("tf", "distributed").DataParallel(model, optimizer, PLAIN, shards) as parallel:
        for batch in batches:
            losses = parallel.train([batch])
            yield {"losses": np.array(losses), **LiveModel.of(model).export()}


def is_unharmed_by_an_error() -> bool:
    """Whether a run whose data end with an error leaves everything as it was."""
    shards = Shards(2)
    model, optimizer = make(SE, NESTEROV, shards)
    good = make_batches((5,), 2)

    def fail() -> Iterator[Batch]:
        yield from good
        raise RuntimeError("no more data")

    with part("tf", "distributed").DataParallel(model, optimizer, NESTEROV, shards) as parallel:
        parallel.train(good)
        before = observe(model, optimizer, [])
        try:
            parallel.train(fail())
        except RuntimeError:
            after = observe(model, optimizer, [])
            return is_identical(model, optimizer, 2) and all(
                np.array_equal(after[name], array) for name, array in before.items()
            )
    return False


def run_all() -> Results:
    runs: dict[str, State] = {}
    expected: dict[str, State] = {}
    identical = {}
    for name, (config, recipe, sizes, counts) in CASES.items():
        batches = make_batches(sizes)
        first, last = run_on_one(config, recipe, batches)
        for count in counts:
            case = f"{name} {count}"
            expected |= {f"{case} first": first, f"{case} last": last}
            result = run_on_several(config, recipe, batches, Shards(count))
            runs[f"{case} first"], runs[f"{case} last"], identical[case] = result
    local, sizes = Shards(DEVICES, "local"), (7, 5)
    batches = make_batches(sizes, 2)
    cases = [f"local {DEVICES} {size}" for size in sizes]
    expected |= dict(zip(cases, run_by_definition(SE, batches, local), strict=True))
    runs |= dict(zip(cases, run_local(SE, batches, local), strict=True))
    (expected["global 7"],) = run_by_definition(SE, batches[:1], Shards())
    return Results(runs, expected, identical, is_unharmed_by_an_error())


def use_divided(path: Path, count: int) -> Divided:
    """A model from a file, with parameters divided over so many devices. 0: as usual."""
    training = part("tf", "training")
    model = build_from(path, "tf", device="cpu", shards=count or None)
    live, optimizer = LiveModel.of(model), training.optimizer(model, NESTEROV)
    gathered, before = part("tf", "sharding").gather(model), find_places(model, optimizer)
    parts = {name: (leaf.value.shape, leaf.value.addressable_shards[-1].data.shape)
             for name, leaf in live.leaves.items()}  # fmt: skip
    batches = make_batches((7,), 2)
    images = batches[0][0]
    outputs = {"evaluation": live.forward(images), "training": live.forward(images, training=True)}
    stayed = {"a pass in training mode": find_places(model, optimizer) == before}
    losses: list[float] = []
    states = []
    for batch in batches:
        losses.append(training.train_step(model, optimizer, NESTEROV, *batch))
        states.append(observe(model, optimizer, losses))
    stayed["training"] = find_places(model, optimizer) == before
    live.load(gathered)
    live.restore(optimizer, 1, live.moments(optimizer))
    stayed["loading"] = find_places(model, optimizer) == before
    replicas = part("tf", "bridge.replicas").count_replicas(model)
    return Divided(gathered, outputs, states, parts, stayed, replicas)


def find_places(model: Any, optimizer: Any) -> list[Any]:
    """Which part of each variable each device has."""
    return [
        [(shard.device.id, shard.index) for shard in leaf.value.addressable_shards]
        for leaf in (*model.weights, *optimizer.variables)
    ]


def compare_divided(folder: Path) -> dict[int, Divided]:
    path = folder / "arrays.safetensors"
    write(path, BAM, random_arrays(BAM, "float64"))
    return {count: use_divided(path, count) for count in (0, 2, 4)}


def main() -> None:
    _, task, path = sys.argv
    part("tf", "distributed").provide_devices(DEVICES)
    if adapter("tf").BACKEND == "tensorflow":  # to compile steps on one device takes longer
        part("tf", "training").compile_update = lambda update, variables: update
    with precise(("tf",), "float64"):
        if task == "training":
            made: Any = tuple(run_all())
        else:
            made = {n: tuple(case) for n, case in compare_divided(Path(path).parent).items()}
    Path(path).write_bytes(pickle.dumps(made))


if __name__ == "__main__":
    main()

"""Runs of Flax on 1, 2 and 4 devices of the CPU, in a process of their own, which has 4 devices:

    python -m shared_tests.parallel_jax training FILE
    python -m shared_tests.parallel_jax sharding FILE
    python -m shared_tests.parallel_jax processes FILE ADDRESS RANK

Writes a pickle of `Results`, of `Sharded` by the number of devices, and of a state and the expected
one of one of two processes with two devices each.
"""

from __future__ import annotations

import pickle
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from weights import SGD, AdamW, NetworkConfig, Recipe, build_from, save, write
from weights.live import LiveModel, build, part
from weights.shards import Shards

# A stem and a block each, with batch norms in the attention, too, a pool and groups.
BAM = NetworkConfig(
    3, 4, (6,), (1,), strides=((2, 1),), stem_channels=4, conv_bias=False,
    attention="bam", attention_options={"reduction": 2},
)  # fmt: skip
# Local statistics of a shard with one image: bam has norms over maps of one position.
CBAM = replace(BAM, attention="cbam")
TRIPLET = NetworkConfig(
    3, 4, (6,), (1,), strides=((2, 1),), stem_channels=4, stem_pool=True, conv_bias=False,
    form="bottleneck", hidden_widths=(6,), groups=2, attention="triplet",
)  # fmt: skip
CHANCE = NetworkConfig(3, 4, (6,), (1,), attention="none", dropout=0.5, drop_path=0.5)
# Some parameters have no axis that the devices divide, and some only that of the input channels.
DIVIDED = replace(BAM, widths=(8,), dropout=0.5)
MOMENTUM = Recipe(SGD(0.01, 0.9, True, 1e-3), batch_size=8)
ADAMW = Recipe(AdamW(1e-3, weight_decay=0.1), label_smoothing=0.1, batch_size=7)
LOCAL = Recipe(SGD(0.01, 0.9), batch_size=7)
SIZE = (9, 11)
STEPS = 20
MIXED = [8, 7, 5]  # on 4 devices, the last one of 5 has no image

State = dict[str, np.ndarray]
Batches = list[tuple[np.ndarray, np.ndarray]]


class Results(NamedTuple):
    """runs, expected: states by case, and those of one device. modules: what XLA made of steps on
    4 devices with 8 images, how often it has each collective operation, and its maps' shapes.
    """

    runs: dict[str, State]
    expected: dict[str, State]
    unharmed: dict[str, bool]
    modules: list[tuple[Counter[str], set[str]]]


def make_batches(sizes: list[int]) -> Batches:
    rng = np.random.default_rng(5)
    return [(rng.normal(0.5, 1.5, (size, 3, *SIZE)), rng.integers(0, 4, size)) for size in sizes]


def make(config: NetworkConfig, recipe: Recipe) -> tuple[Any, Any]:
    from resattn.checking.draws import random_arrays

    model = build(config, random_arrays(config, "float64"), "jax")
    return model, part("jax", "training").optimizer(model, recipe)


def observe(model: Any, optimizer: Any, losses: list[float]) -> State:
    """Losses, parameters, running statistics and moments."""
    live = LiveModel.of(model)
    found = {"losses": np.array(losses), **live.export()}
    for moment, arrays in live.moments(optimizer).items():
        found |= {f"{moment} of {name}": array for name, array in arrays.items()}
    return found


def train_on_one(config: NetworkConfig, recipe: Recipe, batches: Batches) -> list[State]:
    """The states after the first step and after the last one."""
    training = part("jax", "training")
    model, optimizer = make(config, recipe)
    losses, states = [], []
    for batch in batches:
        losses.append(training.train_step(model, optimizer, recipe, *batch))
        if len(losses) in (1, len(batches)):
            states.append(observe(model, optimizer, losses))
    return states


def train_on_many(
    config: NetworkConfig, recipe: Recipe, batches: Batches, shards: Shards
) -> list[State]:
    model, optimizer = make(config, recipe)
    with open_run(model, optimizer, recipe, shards) as run:
        losses = run.train(batches[:1])
        first = observe(model, optimizer, losses)
        losses += run.train(iter(batches[1:]))
        last = observe(model, optimizer, losses)
    closed = observe(model, optimizer, losses)
    assert all(np.array_equal(closed[name], array) for name, array in last.items())
    return [first, last]


@contextmanager
def open_run(model: Any, optimizer: Any, recipe: Recipe, shards: Shards) -> Iterator[Any]:
    """A run on several devices of a model that is on one, and is again afterwards."""
    with part("jax", "distributed").DataParallel(model, optimizer, recipe, shards) as run:
        yield run
    devices = {len(leaf[...].devices()) for leaf in LiveModel.of(model).leaves.values()}
    assert devices == {1}


def define_local(config: NetworkConfig, batches: Batches, count: int) -> State:
    """The definition of local statistics: each shard of real images goes through the module for one
    device. Losses and gradients add up; running statistics are averaged. SGD with momentum by hand.
    """
    arrays = LiveModel.of(make(config, LOCAL)[0]).export()
    rule = LOCAL.optimizer
    losses, buffers = [], {}
    for images, labels in batches:
        size = -(-len(images) // count)
        loss, slopes, statistics = 0.0, Counter(), Counter()
        for start in range(0, len(images), size):
            chosen = slice(start, start + size)
            x, share = images[chosen], len(images[chosen]) / len(images)
            logits = LiveModel.of(build(config, arrays, "jax")).forward(x, training=True)
            odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            true = np.eye(4)[labels[chosen]]
            loss -= (true * np.log(odds)).sum() / len(images)
            live = LiveModel.of(build(config, arrays, "jax"))
            _, own = live.gradients(x, (odds - true) / len(images), training=True)
            for name, slope in own.items():
                slopes[name] = slopes[name] + slope if name != "input" else 0
            for name, array in live.statistics().items():
                statistics[name] = statistics[name] + share * array
        losses.append(loss)
        buffers = {
            name: slopes[name] + (rule.momentum * buffers[name] if buffers else 0)
            for name in slopes
            if name != "input"
        }
        moved = {name: arrays[name] - rule.learning_rate * buffers[name] for name in buffers}
        arrays = {name: (moved | statistics)[name] for name in arrays}
    moments = {f"momentum_buffer of {name}": array for name, array in buffers.items()}
    return {"losses": np.array(losses), **arrays, **moments}


def fail_midway(planted: BaseException) -> bool:
    """Whether a run is as it was after its batches ended with an error."""
    model, optimizer = make(BAM, MOMENTUM)
    batches = make_batches([8, 8])

    def failing() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield from batches
        raise planted

    with open_run(model, optimizer, MOMENTUM, Shards(4)) as run:
        unharmed = []
        for _ in range(2):
            before = observe(model, optimizer, [])
            try:
                run.train(failing())
            except type(planted):
                after = observe(model, optimizer, [])
                unharmed.append(all(np.array_equal(after[name], before[name]) for name in before))
                unharmed.append(part("jax", "training").steps_taken(optimizer) == len(unharmed) - 1)
            run.train(batches[:1])
    return len(unharmed) == 4 and all([unharmed[0], unharmed[2]])


def read_modules() -> list[tuple[Counter[str], set[str]]]:
    """What XLA compiled for steps on 4 devices."""
    import jax

    found = []
    for executable in jax.devices()[0].client.live_executables():
        module = executable.hlo_modules()[0]
        text = module.to_string()
        if "train" in module.name and "num_partitions=4" in text:
            names = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"
            collectives = Counter(re.findall(rf" ({names})(?:-start)?\(", text))
            maps = set(re.findall(rf"f64\[(\d+,{SIZE[0]},{SIZE[1]}),\d+\]", text))
            found.append((collectives, maps))
    return found


def compute() -> Results:
    runs, expected = {}, {}
    mixed = make_batches((MIXED * STEPS)[:STEPS])
    firsts = train_on_one(BAM, MOMENTUM, mixed)
    for count in (1, 2, 4):
        for when, state, one in zip(
            ("first", "last"), train_on_many(BAM, MOMENTUM, mixed, Shards(count)), firsts,
            strict=True,
        ):  # fmt: skip
            runs[f"momentum {count} {when}"], expected[f"momentum {count} {when}"] = state, one
    sevens = make_batches([7] * STEPS)
    runs["adamw 4 last"] = train_on_many(TRIPLET, ADAMW, sevens, Shards(4))[-1]
    expected["adamw 4 last"] = train_on_one(TRIPLET, ADAMW, sevens)[-1]
    modules = read_modules()
    few = make_batches([7, 5])
    runs["local 4"] = train_on_many(CBAM, LOCAL, few, Shards(4, "local"))[-1]
    expected["local 4"] = define_local(CBAM, few, 4)
    runs["global 4"] = train_on_many(CBAM, LOCAL, few, Shards(4))[-1]
    chance = make_batches([7, 7])
    runs["chance"] = train_on_many(CHANCE, MOMENTUM, chance, Shards(4))[-1]
    unharmed = {"error": fail_midway(ValueError()), "interrupt": fail_midway(KeyboardInterrupt())}
    return Results(runs, expected, unharmed, modules)


class Sharded(NamedTuple):
    """What a model of a file computes that is divided over devices.

    outputs: in evaluation and training mode, by the module and by the adapter. parts: the shape of
    each parameter and of a device's part of it. stayed: whether parameters and moments are divided
    as before after each of several actions. same_bytes: whether `save` writes the file again.
    """

    outputs: State
    states: list[State]
    gathered: State
    parts: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    stayed: dict[str, bool]
    same_bytes: bool


def compute_sharded(folder: Path) -> dict[int, Sharded]:
    """By the number of devices; 0 is the model as usual."""
    from resattn.checking.draws import random_arrays

    write(folder / "a.safetensors", DIVIDED, random_arrays(DIVIDED, "float64"))
    return {count: use_sharded(folder, count) for count in (0, 2, 4)}


def use_sharded(folder: Path, count: int) -> Sharded:
    training = part("jax", "training")
    model = build_from(folder / "a.safetensors", "jax", shards=count or None)
    save(folder / "b.safetensors", model)
    live, optimizer = LiveModel.of(model), training.optimizer(model, MOMENTUM)
    before, parts = find_places(model, optimizer), find_parts(live)
    gathered = part("jax", "sharding").gather(model)
    batches = make_batches([7] * 3)
    x = batches[0][0]
    outputs = {
        "adapter": live.forward(x),
        "module": np.asarray(model(np.moveaxis(x, 1, -1))),
        "training": live.forward(x, training=True),
    }
    stayed = {"a pass in training mode": find_places(model, optimizer) == before}
    losses, states = [], []
    for batch in batches:
        losses.append(training.train_step(model, optimizer, MOMENTUM, *batch))
        states.append(observe(model, optimizer, losses))
    stayed["training"] = find_places(model, optimizer) == before
    live.load(gathered)
    live.restore(optimizer, 1, live.moments(optimizer))
    stayed["loading"] = find_places(model, optimizer) == before
    same_bytes = len({(folder / f"{name}.safetensors").read_bytes() for name in "ab"}) == 1
    return Sharded(outputs, [states[0], states[-1]], gathered, parts, stayed, same_bytes)


def find_places(model: Any, optimizer: Any) -> list[Any]:
    import jax
    from flax import nnx

    return [array.sharding for array in jax.tree.leaves(nnx.state((model, optimizer)))]


def find_parts(live: LiveModel) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    arrays = {name: leaf[...] for name, leaf in live.leaves.items()}
    return {
        name: (array.shape, array.addressable_shards[-1].data.shape)
        for name, array in arrays.items()
    }


def compute_in_two(address: str, rank: int) -> tuple[State, State]:
    import jax

    jax.distributed.initialize(address, 2, rank)
    batches = make_batches([7, 7])
    state = train_on_many(CBAM, MOMENTUM, batches, Shards(4))[-1]
    return state, train_on_one(CBAM, MOMENTUM, batches)[-1]


def main(what: str, target: Path, *others: str) -> None:
    part("jax", "distributed").provide_devices(2 if what == "processes" else 4)
    made: Any
    with part("jax", "bridge.adapter").precise("float64"):
        if what == "training":
            made = tuple(compute())
        elif what == "sharding":
            made = {n: tuple(case) for n, case in compute_sharded(target.parent).items()}
        else:
            made = compute_in_two(others[0], int(others[1]))
    target.write_bytes(pickle.dumps(made))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])

"""What processes of a group compute for the tests of data parallelism and sharding in PyTorch.

`python -m shared_tests.parallel_torch PART FOLDER`, where PART is "data" or "sharding", with the
variables that torchrun sets. Each process writes its results into the folder.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from resattn.checking.draws import random_arrays
from resattn.oracle.training import ReferenceTrainer
from shared_tests.cases import ATTENTION_VARIANTS
from weights import BlockConfig, NetworkConfig, schema
from weights.live import LiveModel, build
from weights.recipe import SGD, AdamW, Recipe
from weights.shards import Shards

COUNTS = (4, 2)  # in this order, in the same processes
MOMENTUM = Recipe(SGD(0.01, 0.9, nesterov=True, weight_decay=1e-3), label_smoothing=0.1)
ADAMW = Recipe(AdamW(1e-3, weight_decay=0.1))
SIZES = (8, 7, 2, 5) * 5  # of batches: on four devices, 5 images leave one without any


def network(attention: str = "none", **changes: Any) -> NetworkConfig:
    """Two stages, odd sizes, strides of 2, channels that all differ."""
    given: dict[str, Any] = {"strides": ((1, 1), (2, 1)), "stem_channels": 4, **changes}
    return NetworkConfig(2, 5, (6, 7), (1, 1), attention=attention, **given)


NETWORK = network("se", attention_options={"reduction": 2})

# By name: config, recipe, statistics, sizes of the batches.
RUNS = {
    "se": (NETWORK, MOMENTUM, "global", SIZES),
    "bam": (network("bam", attention_options={"reduction": 2}), ADAMW, "global", SIZES),
    "triplet": (network("triplet"), MOMENTUM, "local", (8, 7, 5, 6) * 5),
}
# Of parameters on several devices; a width of 3 leaves a fourth one without rows.
SHARDED = {
    "network": network("bam", attention_options={"reduction": 2}, form="bottleneck"),
    "block": BlockConfig(5, 3, 3, 2, attention_options={"hidden_channels": 2}),
}
SHARDED_SIZE = (9, 7)
# One step with each attention that has batch norms. Of 6 images, the last of four shards has none.
VARIANTS = {
    config.attention: (config, size)
    for config, size in ATTENTION_VARIANTS
    if any("attention" in each.name and "running_mean" in each.name for each in schema(config))
}


def make_batches(config: Any, sizes: Any, size: Any = (9, 7)) -> list[Any]:
    rng = np.random.default_rng(7)
    channels, classes = config.in_channels, getattr(config, "classes", 0) or config.out_channels
    return [
        (rng.normal(0.3, 1.5, (n, channels, *size)), rng.integers(0, classes, n)) for n in sizes
    ]


def start(config: Any, recipe: Recipe, dtype: str = "float64", **options: Any) -> tuple[Any, Any]:
    """A model and its optimizer."""
    from pytorch_impl import training

    model = build(config, random_arrays(config, dtype), "torch", **options)
    return model, training.optimizer(model, recipe)


def make_parallel(
    config: Any = NETWORK, count: int = 2, recipe: Recipe = MOMENTUM, **options: Any
) -> Any:
    from pytorch_impl.distributed import DataParallel

    model, optimizer = start(config, recipe, **options)
    return DataParallel(model, optimizer, recipe, Shards(count))


def state_of(model: Any, optimizer: Any, losses: Any = ()) -> dict[str, Any]:
    """All that is compared, by quantity."""
    live = LiveModel.of(model)
    found = live.export() | ({"loss": np.array(losses)} if losses else {})
    for moment, arrays in live.moments(optimizer).items():
        found |= {f"{moment} {name}": array for name, array in arrays.items()}
    slopes = {name: leaf.grad for name, leaf in live.leaves.items() if live_slope(leaf)}
    return found | {f"gradient {name}": slope.numpy().copy() for name, slope in slopes.items()}


def live_slope(leaf: Any) -> bool:
    return getattr(leaf, "grad", None) is not None


def train_alone(config: Any, recipe: Recipe, batches: Any) -> dict[str, Any]:
    """The run on one device, by the step that was there before."""
    import torch

    from pytorch_impl import training

    model, optimizer = start(config, recipe)
    step = training.make_train_step(model, optimizer, recipe)
    losses = [float(step(torch.tensor(x), torch.tensor(y))) for x, y in batches]
    return state_of(model, optimizer, losses)


def train_locally(config: Any, recipe: Recipe, batches: Any, shards: Shards) -> dict[str, Any]:
    """What local statistics mean, by the plain modules: each shard's own images go through a copy
    of the model, gradients add up, statistics are averaged by the numbers of images.
    """
    import torch
    from torch.nn import functional

    from pytorch_impl import training

    model, optimizer = start(config, recipe)
    losses = []
    for images, labels in batches:
        division = shards.divide(len(images))
        total, slopes, statistics = 0.0, {}, {}
        for shard in range(shards.count):
            own = division.own(shard)
            if not own:
                continue
            x, y = (division.part(each, shard)[:own] for each in (images, labels))
            copy = build(config, LiveModel.of(model).export(), "torch").train()
            loss = functional.cross_entropy(
                training.logits(copy(torch.tensor(x))), torch.tensor(y), reduction="sum",
                label_smoothing=recipe.label_smoothing,
            ) / len(images)  # fmt: skip
            loss.backward()
            total += float(loss.detach())
            for name, parameter in copy.named_parameters():
                slopes[name] = slopes.get(name, 0) + parameter.grad
            for name, buffer in copy.named_buffers():
                statistics[name] = statistics.get(name, 0) + buffer * (own / len(images))
        for name, parameter in model.named_parameters():
            parameter.grad = slopes[name]
        for name, buffer in model.named_buffers():
            buffer.copy_(statistics[name])
        optimizer.step()
        losses.append(total)
    return state_of(model, optimizer, losses)


def find_free(config: Any, recipe: Recipe, batch: Any) -> frozenset[str]:
    """The tensors whose gradient is rounding noise, see `resattn.training.drift`."""
    trainer = ReferenceTrainer(config, random_arrays(config, "float64"), recipe)
    trainer.train_step(*batch)
    return trainer.free


def farthest(
    actual: dict[str, Any], expected: dict[str, Any], free: frozenset[str] = frozenset()
) -> tuple[float, str]:
    """The greatest difference, relative to the greatest magnitude in its tensor, and where."""
    assert actual.keys() == expected.keys()
    distances = [(0.0, "")]
    for name in expected.keys() - {name for name in expected if name.split()[-1] in free}:
        distance = float(abs(actual[name] - expected[name]).max())
        scale = float(abs(expected[name]).max())
        distances.append((distance / scale if scale else distance, name))
    return max(distances)


def same(actual: dict[str, Any], expected: dict[str, Any]) -> bool:
    """Whether two states have the same bits, apart from gradients."""
    names = {name for name in {**actual, **expected} if not name.startswith("gradient")}
    return all(np.array_equal(actual[name], expected[name]) for name in names)


# In the processes


def run_data(rank: int, folder: Path) -> dict[Any, Any]:
    from torch import distributed as dist

    found: dict[Any, Any] = {}
    for count in COUNTS:
        if rank < count:
            if count != COUNTS[0]:
                meet(rank, count, folder)
            for name, (config, recipe, statistics, sizes) in RUNS.items():
                batches = make_batches(config, sizes)
                found[count, name] = train_divided(
                    config, recipe, Shards(count, statistics), batches
                )
            for name, (config, size) in VARIANTS.items() if count == COUNTS[0] else ():
                for statistics in ("global", "local"):
                    batches = make_batches(config, (6,), size)
                    shards = Shards(count, statistics)
                    found[count, f"{name}-{statistics}"] = train_divided(
                        config, MOMENTUM, shards, batches
                    )
            found[count, "refused"] = refusals(count)
            found[count, "float32"] = lower(count)
        if count != COUNTS[-1]:
            dist.barrier()
            dist.destroy_process_group()
    if rank < 2:
        found["lost"] = lose_a_peer(rank)
    return found


def train_divided(config: Any, recipe: Recipe, shards: Shards, batches: Any) -> dict[str, Any]:
    from pytorch_impl.distributed import DataParallel

    model, optimizer = start(config, recipe)
    with DataParallel(model, optimizer, recipe, shards) as parallel:
        losses = parallel.train(batches[:3])
        losses += parallel.train(batches[3:])
    return state_of(model, optimizer, losses)


def lower(count: int) -> list[float]:
    """Losses in float32, and computed in bfloat16."""
    from pytorch_impl.distributed import DataParallel

    config, recipe = RUNS["triplet"][:2]
    batches = [(x.astype("float32"), y) for x, y in make_batches(config, (8, 7))]
    losses = []
    for compute in (None, "bfloat16"):
        model, optimizer = start(config, recipe, "float32", compute=compute)
        losses += DataParallel(model, optimizer, recipe, Shards(count)).train(batches)
    return losses


def refusals(count: int) -> list[str]:
    """The messages of a group of another size, of models that differ, and of too few values."""
    import torch
    from torch import distributed as dist

    from pytorch_impl.distributed import DataParallel
    from weights.errors import ArgumentError

    config, recipe = RUNS["se"][:2]
    model, optimizer = start(config, recipe)
    found = []
    shards = Shards(count, "local")
    try:
        DataParallel(model, optimizer, recipe, Shards(count + 1))
    except ArgumentError as error:
        found.append(str(error))
    parallel = DataParallel(model, optimizer, recipe, shards)
    before = state_of(model, optimizer)
    try:
        parallel.train(make_batches(config, (8, 1), (2, 1)))  # 1 x 1 in the second stage
    except ArgumentError as error:
        found.append(str(error))
    found.append(f"unchanged: {same(state_of(model, optimizer), before)}")
    if dist.get_rank() == 1:
        with torch.no_grad():
            model.stem.conv.weight[0] += 1
    try:
        parallel.train(make_batches(config, (8,)))
    except ArgumentError as error:
        found.append(str(error))
    return found


def lose_a_peer(rank: int) -> tuple[str, bool, int]:
    """Process 1 ends in the second step. The message in process 0, and whether all is as before."""
    from pytorch_impl.distributed import DataParallel
    from pytorch_impl.training import steps_taken
    from weights.errors import ProcessError

    config, recipe = RUNS["se"][:2]
    model, optimizer = start(config, recipe)
    parallel = DataParallel(model, optimizer, recipe, Shards(2))
    parallel.train(make_batches(config, (8,)))
    before = state_of(model, optimizer)

    def batches() -> Any:
        yield from make_batches(config, (8,))
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield from make_batches(config, (8,))

    try:
        parallel.train(batches())
    except ProcessError as error:
        return str(error), same(state_of(model, optimizer), before), steps_taken(optimizer)
    return "no error", True, 0


def run_sharding(rank: int, folder: Path) -> dict[Any, Any]:
    from torch import distributed as dist

    found: dict[Any, Any] = {}
    for count in COUNTS:
        if rank < count:
            meet(rank, count, folder)
            for name, config in SHARDED.items():
                found[count, name] = run_sharded(config, count, folder)
            found[count, "refused"] = sharding_refusals(count)
            dist.barrier()
            dist.destroy_process_group()
    return found


def run_sharded(config: Any, count: int, folder: Path) -> dict[str, Any]:
    """What was loaded comes back; a forward pass; training steps; what this process holds."""
    import torch
    from torch import distributed as dist

    from pytorch_impl import training
    from pytorch_impl.sharding import build_sharded, gather
    from pytorch_impl.shards import divided

    recipe, shards = MOMENTUM, Shards(count)
    batches = make_batches(config, (8, 7, 5), SHARDED_SIZE)
    model = build_sharded(config, random_arrays(config, "float64"), count)
    assert model.config == config
    assert not model.training
    held = sum(p.to_local().numel() for p in model.parameters())
    found: dict[str, Any] = {"loaded": gather(model), "held": held}
    with torch.no_grad():
        found["output"] = model(torch.tensor(batches[0][0])).numpy()
        if hasattr(model, "features"):
            found["features"] = model.features(torch.tensor(batches[0][0]))[-1].numpy()
    optimizer = training.optimizer(model, recipe)
    model.train()
    losses = []
    for images, labels in batches:
        division = shards.divide(len(images))
        x, y = (torch.tensor(division.part(each, dist.get_rank())) for each in (images, labels))
        with divided(model, division):
            output = training.logits(model(x))
            loss = training.cross_entropy(output, y, recipe.label_smoothing, division)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total = loss.detach()
        dist.all_reduce(total)
        losses.append(float(total))
    return found | {"trained": gather(model), "loss": np.array(losses)}


def sharding_refusals(count: int) -> list[str]:
    from pytorch_impl.sharding import build_sharded
    from weights.errors import ResattnError

    arrays = random_arrays(NETWORK, "float64")
    wrong = random_arrays(NETWORK) | {"stem.bn.weight": arrays["stem.bn.weight"]}
    short = {name: array for name, array in arrays.items() if name != "stem.bn.bias"}
    found = []
    for given in ((arrays, count + 1), (wrong, count), (short, count)):
        try:
            build_sharded(NETWORK, *given)
        except ResattnError as error:
            found.append(str(error))
    return found


def meet(rank: int, count: int, folder: Path) -> None:
    """Makes a group of the first `count` processes."""
    from torch import distributed as dist

    store = dist.FileStore(str(folder / f"group{count}"), count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)


def main() -> None:
    import warnings

    import torch

    warnings.simplefilter("error")
    torch.set_num_threads(1)
    part, folder = sys.argv[1], Path(sys.argv[2])
    rank = int(os.environ["RANK"])
    found = run_data(rank, folder) if part == "data" else run_sharding(rank, folder)
    with (folder / f"{rank}.pickle").open("wb") as file:
        pickle.dump(found, file)


# In the test


@cache
def results(part: str) -> list[dict[Any, Any]]:
    """What each process has found."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ, "WORLD_SIZE": str(COUNTS[0]), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }  # fmt: skip
        command = [sys.executable, "-m", "shared_tests.parallel_torch", part, folder]
        processes = [
            subprocess.Popen(command, env={**environment, "RANK": str(rank)},
                             stderr=subprocess.PIPE, text=True)
            for rank in range(COUNTS[0])
        ]  # fmt: skip
        said = [process.communicate(timeout=500)[1] for process in processes]
        found = []
        for rank, process in enumerate(processes):
            path = Path(folder, f"{rank}.pickle")
            assert path.exists() or process.returncode == -signal.SIGKILL, said[rank]
            found.append(pickle.loads(path.read_bytes()) if path.exists() else {})
        return found


if __name__ == "__main__":
    main()

"""The runs that `drift` compares: one in each framework on each number of devices, and the
oracle's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from typing import Self

import numpy as np

from resattn.checking.backends import Backend, precise
from resattn.checking.crosscheck import ORACLE
from resattn.oracle.training import ReferenceTrainer
from resattn.training.trainer import Trainer, scope_of
from weights import schema
from weights.checks import at_least
from weights.config import Config
from weights.errors import ArgumentError
from weights.language import mark
from weights.recipe import Recipe, batch
from weights.shards import Shards

JUDGED = (mark("parameters"), mark("statistics"), mark("moments"))
# free: parameters whose gradient is exactly zero, with their moments and the running means that
# they are part of; see `drift`.
DRIFT_QUANTITIES = (*JUDGED, mark("loss"), mark("free"))
Snapshot = dict[str, dict[str, np.ndarray]]  # by quantity and tensor


def divide(devices: int | Sequence[int], statistics: str) -> list[Shards]:
    """One for each number of devices. Raises ArgumentError."""
    counts = list(devices) if isinstance(devices, Sequence) else [devices]
    divisions = list(
        dict.fromkeys(Shards(at_least("devices", count, 1), statistics) for count in counts)
    )
    if not divisions:
        raise ArgumentError("devices: expected at least one number, got none")
    if statistics == "local" and len(divisions) > 1:
        raise ArgumentError(
            "devices: expected one number with local statistics, which depend on it, got "
            f"{', '.join(map(str, counts))}; compare one number of devices at a time"
        )
    return divisions


class Runs:
    """Training runs from the same weights on the same data, which advance together.

    losses: of each run, in the last step of each call of `advance`.
    """

    def __init__(
        self,
        used: Sequence[Backend],
        divisions: Sequence[Shards],
        config: Config,
        arrays: Mapping[str, np.ndarray],
        recipe: Recipe,
        data: tuple[np.ndarray, np.ndarray],
        dtype: str,
        *,
        oracle: bool,
    ):
        """data: all images and labels. oracle: whether it makes a run as well."""
        self.images, self.labels = data
        self.dtype, self.with_oracle = dtype, oracle
        self.reference = ReferenceTrainer(config, arrays, recipe, divisions[0])
        self.free = _find_free(self.reference, *data)
        self.trainers: dict[str, Trainer] = {}
        self.losses: dict[str, list[float]] = {}
        with ExitStack() as stack:
            for backend, shards in product(used, divisions):
                several = shards.count > 1
                name = f"{backend.framework} on {shards.count}" if several else backend.framework
                trainer = _make_trainer(
                    backend, shards, config, arrays, recipe, len(data[0]), dtype
                )
                self.trainers[name] = stack.enter_context(trainer)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def advance(self, steps: int) -> dict[str, Snapshot]:
        """Makes some steps in each run. What is compared after them, by the name of the run."""
        after = {name: self._advance(each, steps) for name, each in self.trainers.items()}
        after |= {ORACLE: self._advance_oracle(steps)} if self.with_oracle else {}
        for name, snapshot in after.items():
            self.losses.setdefault(name, []).append(float(snapshot["loss"]["loss"][0]))
        return after

    def _advance(self, trainer: Trainer, steps: int) -> Snapshot:
        with precise((trainer.live.name,), self.dtype):
            loss = trainer.train(self.images, self.labels, steps)[-1]
            state = trainer.state()
        return _take_snapshot(state.config, state.arrays, state.moments, loss, self.free)

    def _advance_oracle(self, steps: int) -> Snapshot:
        run = self.reference
        for _ in range(steps):
            chosen = batch(run.recipe, len(self.images), run.step)
            loss = run.train_step(self.images[chosen], self.labels[chosen])
        return _take_snapshot(run.config, run.arrays, run.moments, loss, self.free)


def _make_trainer(
    backend: Backend,
    shards: Shards,
    config: Config,
    arrays: Mapping[str, np.ndarray],
    recipe: Recipe,
    examples: int,
    dtype: str,
) -> Trainer:
    scope = scope_of(backend.framework, shards, backend.device)
    with precise((backend.framework,), dtype), scope:
        model = backend.build(config, arrays)
        return Trainer(model, recipe, examples, devices=shards.count, statistics=shards.statistics)


def _find_free(
    reference: ReferenceTrainer, images: np.ndarray, labels: np.ndarray
) -> frozenset[str]:
    """The tensors that `drift` does not judge, from one step of a copy of the trainer."""
    trial = ReferenceTrainer(reference.config, reference.arrays, reference.recipe, reference.shards)
    chosen = batch(reference.recipe, len(images), 0)
    trial.train_step(images[chosen], labels[chosen])
    return trial.free


def _take_snapshot(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    moments: Mapping[str, Mapping[str, np.ndarray]],
    loss: float,
    free: frozenset[str],
) -> Snapshot:
    """Everything that is compared."""
    found: Snapshot = {quantity: {} for quantity in DRIFT_QUANTITIES}
    found["loss"]["loss"] = np.array([loss])
    for p in schema(config):
        quantity = "free" if p.name in free else "parameters" if p.trainable else "statistics"
        found[quantity][p.name] = arrays[p.name]
    for moment, held in moments.items():
        for name, array in held.items():
            found["free" if name in free else "moments"][f"{moment}.{name}"] = array
    return found

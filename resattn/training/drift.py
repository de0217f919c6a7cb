"""The same training run in every framework, step by step: how far apart are they, and how does it
grow?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from resattn.checking.backends import backends, precise
from resattn.checking.crosscheck import ORACLE
from resattn.checking.tolerances import TRAINING
from resattn.oracle.training import ReferenceTrainer
from resattn.training.trainer import Trainer
from weights import difference, schema
from weights.compare import columns
from weights.config import Config
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS
from weights.recipe import Recipe, batch

# free: parameters whose gradient is exactly zero, with their moments and the running means they are
# part of; see `drift`.
QUANTITIES = ("parameters", "statistics", "moments", "loss", "free")
Snapshot = dict[str, dict[str, np.ndarray]]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Point:
    """The tensor of one quantity that two runs differ in most after one step. step: 1 is behind the
    first update.

    relative: the greatest difference over the greatest magnitude in the second run's tensor; for
    "free", not divided.
    """

    quantity: str
    step: int
    relative: float
    tensor: str
    pair: Pair


@dataclass(frozen=True)
class Trajectory:
    """The outcome: a point for each quantity, step and pair. `print(trajectory)` shows it;
    `to_dict` is for JSON.
    """

    title: str
    dtype: str
    points: tuple[Point, ...]
    environment: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps after which was compared."""
        return tuple(sorted({point.step for point in self.points}))

    def of(self, quantity: str, pair: Pair | None = None) -> list[Point]:
        """The points of a quantity, of one pair or of all."""
        return [
            each for each in self.points if each.quantity == quantity and pair in (None, each.pair)
        ]

    def curve(self, quantity: str = "parameters", pair: Pair | None = None) -> np.ndarray:
        """The greatest difference after each of `steps`."""
        greatest = dict.fromkeys(self.steps, 0.0)
        for point in self.of(quantity, pair):
            greatest[point.step] = max(greatest[point.step], point.relative)
        return np.array(list(greatest.values()))

    def worst(self, quantity: str = "parameters", pair: Pair | None = None) -> Point:
        """The point with the greatest difference. Raises ArgumentError when there is none."""
        points = self.of(quantity, pair)
        if not points:
            raise ArgumentError(f"the trajectory has no points of {quantity!r} between {pair}")
        return max(points, key=lambda point: point.relative)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        return tuple(dict.fromkeys(point.pair for point in self.points))

    @property
    def ok(self) -> bool:
        """Whether parameters, statistics and moments stayed within the limit that float64 has; True
        in float32.
        """
        judged = [
            each.relative
            for each in self.points
            if each.quantity in ("parameters", "statistics", "moments")
        ]
        return bool(judged) and (self.dtype != "float64" or max(judged) <= TRAINING)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the curves by quantity and pair, and the worst points."""
        present = [quantity for quantity in QUANTITIES if self.of(quantity)]
        curves = [
            {
                "quantity": quantity,
                "pair": list(pair),
                "curve": [_plain(value) for value in self.curve(quantity, pair)],
            }
            for quantity in present
            for pair in self.pairs
        ]
        worst = {quantity: {**vars(point), "relative": _plain(point.relative), "pair": list(point.pair)}
                 for quantity in present for point in [self.worst(quantity)]}  # fmt: skip
        return {
            "title": self.title, "dtype": self.dtype, "steps": list(self.steps), "ok": self.ok,
            "environment": list(self.environment), "worst": worst, "curves": curves,
        }  # fmt: skip

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, width: int = 64) -> list[str]:
        """The trajectory as text: a table of some steps, and the parameters' curve. width: columns
        of the curve.
        """
        shown = [step for step in self.steps if step in (1, 10, 100, 1000, self.steps[-1])]
        table = [
            ("quantity", *(f"step {step}" for step in shown), "worst tensor", "step", "between")
        ]
        for quantity in QUANTITIES:
            if self.of(quantity):
                curve, worst = self.curve(quantity), self.worst(quantity)
                cells = [f"{curve[self.steps.index(step)]:.1e}" for step in shown]
                table.append(
                    (quantity, *cells, worst.tensor, str(worst.step), " and ".join(worst.pair))
                )
        lines = [self.title, *(f"  {line}" for line in self.environment), "", *columns(table)]
        if self.of("free"):
            lines += [
                "  free: biases without influence on the loss, whose gradient is rounding noise; "
                "absolute, not judged"
            ]
        lines += [
            "",
            "  greatest relative difference of a parameter after each step",
            *_plot(self.curve(), self.steps, width),
        ]
        if self.dtype == "float64":
            lines += [
                "",
                f"  {'within' if self.ok else 'OVER'} the limit {TRAINING:.0e} for parameters, "
                "statistics, moments",
            ]
        return lines


def _plain(value: float) -> float | str:
    return float(value) if np.isfinite(value) else str(value)  # JSON has no infinity


def _plot(curve: np.ndarray, steps: tuple[int, ...], width: int) -> Iterator[str]:
    """A curve in characters, on a logarithmic scale: one row for each power of ten, the greatest in
    each column.
    """
    width = min(width, len(curve))
    columns = [part.max() for part in np.array_split(curve, width)]
    # What is equal to the last bit stands on the lowest row, what is not finite on the highest.
    powers = [int(np.floor(np.log10(value))) if 0 < value < np.inf else None for value in columns]
    known = [power for power in powers if power is not None]
    if not known:
        yield "    all equal" if not any(columns) else "    none of them finite"
        return
    lowest, highest = min(known), max(known)
    rows = [
        (highest if value else lowest) if power is None else power
        for power, value in zip(powers, columns, strict=True)
    ]
    for power in range(highest, lowest - 1, -1):
        yield (
            f"    1e{power:+03d} |" + "".join("*" if row == power else " " for row in rows).rstrip()
        )
    yield "          +" + "-" * width
    first, last = str(steps[0]), str(steps[-1])
    yield f"           {first}" + last.rjust(width - len(first))


def drift(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    recipe: Recipe,
    frameworks: tuple[str, ...] = tuple(FRAMEWORKS),
    dtype: str = "float64",
    steps: int = 100,
    *,
    images: np.ndarray,
    labels: np.ndarray,
    device: str = "cpu",
    oracle: bool = True,
    every: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Trajectory:
    """Trains the same arrays on the same data by the same recipe in each framework, and compares on
    the way.

    Compared, between every two frameworks and, if `oracle`, with plain NumPy in float64:
    parameters, running statistics, the optimizer's moments and the loss. A bias in front of a batch
    norm has a gradient of exactly zero; frameworks return rounding noise there, and Adam divides
    noise by noise and makes steps as long as the rate of it. Such a bias changes no output in
    training, so it, its moments and the running mean that it is part of stand apart, as "free",
    unjudged.

    arrays: canonical. dtype: "float32" or "float64", to compute in. images: (examples, channels,
    height, width). labels: (examples,). every: how many steps lie between two comparisons.
    progress: called with the number of each step compared.
    Raises MissingFramework, WeightsError for arrays that do not fit, ValueError for data and
    devices.
    """
    used = backends(tuple(frameworks), (device,))
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    images = images.astype(dtype)
    reference = ReferenceTrainer(config, arrays, recipe)
    trainers: dict[str, Trainer] = {}
    for backend in used:
        with precise((backend.framework,), dtype):
            trainers[backend.framework] = Trainer(
                backend.build(config, arrays), recipe, len(images)
            )
    names = [*trainers, *([ORACLE] if oracle else [])]
    free = _free(reference, recipe, images, labels)
    points: list[Point] = []
    for step in range(every, steps + 1, every):
        after = {
            name: _advanced(trainer, images, labels, every, dtype, free)
            for name, trainer in trainers.items()
        }
        if oracle:
            after[ORACLE] = _advanced_oracle(reference, images, labels, every, free)
        for pair in combinations(names, 2):
            points += _points(step, pair, after[pair[0]], after[pair[1]])
        if progress:
            progress(step)
    words = f"{type(recipe.optimizer).__name__}, {type(recipe.schedule).__name__}"
    return Trajectory(
        title=f"{steps} steps of {words}, batches of {recipe.batch_size}, {config.describe()}, in {dtype}",
        dtype=dtype,
        points=tuple(points),
        environment=tuple(f"{backend.name}: {backend.adapter.versions()}" for backend in used),
    )


def _free(
    reference: ReferenceTrainer, recipe: Recipe, images: np.ndarray, labels: np.ndarray
) -> frozenset[str]:
    """What `drift` does not judge, from one step of a trainer that is thrown away."""
    trial = ReferenceTrainer(reference.config, reference.arrays, recipe)
    chosen = batch(recipe, len(images), 0)
    trial.train_step(images[chosen], labels[chosen])
    return trial.free


def _advanced(
    trainer: Trainer,
    images: np.ndarray,
    labels: np.ndarray,
    steps: int,
    dtype: str,
    free: frozenset[str],
) -> Snapshot:
    with precise((trainer.live.name,), dtype):
        loss = trainer.train(images, labels, steps)[-1]
        state = trainer.state()
    return _snapshot(state.config, state.arrays, state.moments, loss, free)


def _advanced_oracle(
    reference: ReferenceTrainer,
    images: np.ndarray,
    labels: np.ndarray,
    steps: int,
    free: frozenset[str],
) -> Snapshot:
    for _ in range(steps):
        chosen = batch(reference.recipe, len(images), reference.step)
        loss = reference.train_step(images[chosen], labels[chosen])
    return _snapshot(reference.config, reference.arrays, reference.moments, loss, free)


def _snapshot(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    moments: Mapping[str, Mapping[str, np.ndarray]],
    loss: float,
    free: frozenset[str],
) -> Snapshot:
    """Everything that is compared, by quantity and tensor."""
    found: Snapshot = {quantity: {} for quantity in QUANTITIES}
    found["loss"]["loss"] = np.array([loss])
    for p in schema(config):
        quantity = "free" if p.name in free else "parameters" if p.trainable else "statistics"
        found[quantity][p.name] = arrays[p.name]
    for moment, held in moments.items():
        for name, array in held.items():
            found["free" if name in free else "moments"][f"{moment}.{name}"] = array
    return found


def _points(step: int, pair: Pair, actual: Snapshot, expected: Snapshot) -> list[Point]:
    points = []
    for quantity, tensors in expected.items():
        scale = 1.0 if quantity == "free" else None
        rows = [
            (difference(actual[quantity][name], array, tolerance=0, scale=scale).relative, name)
            for name, array in tensors.items()
        ]
        if rows:
            relative, name = max(rows)
            points.append(Point(quantity, step, relative, name, pair))
    return points

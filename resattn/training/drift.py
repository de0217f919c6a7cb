"""The same training run in every framework: how far the runs drift apart, step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from resattn.checking.backends import backends
from resattn.checking.tolerances import TRAINING_TOLERANCE
from resattn.tracing.parallel import StepTrace
from resattn.training.observation import explain_steps
from resattn.training.runs import DRIFT_QUANTITIES, JUDGED, Runs, Snapshot, divide
from weights import difference
from weights.compare import columns
from weights.config import Config, without_chance
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS
from weights.language import in_english, join_texts, mark, say
from weights.recipe import Recipe
from weights.shards import Shards

RunPair = tuple[str, str]


@dataclass(frozen=True)
class Point:
    """The tensor of a quantity in which two runs differ most after a step.

    step: 1 is after the first update. relative: the greatest difference over the greatest magnitude
    in the tensor of the second run; for "free", the difference itself.
    """

    quantity: str
    step: int
    relative: float
    tensor: str
    pair: RunPair


@dataclass(frozen=True)
class Trajectory:
    """The outcome: a point for each quantity, step and pair. `print(trajectory)` shows it.

    traces: of runs on several devices that are over the limit, the first step of each in which a
    device computes something else. on_several: whether there were such runs. losses: of each run,
    in each of `steps`.
    """

    title: str
    dtype: str
    points: tuple[Point, ...]
    environment: tuple[str, ...] = ()
    traces: tuple[StepTrace, ...] = ()
    on_several: bool = False
    losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps after which the runs were compared."""
        return tuple(sorted({point.step for point in self.points}))

    @property
    def pairs(self) -> tuple[RunPair, ...]:
        return tuple(dict.fromkeys(point.pair for point in self.points))

    def of(self, quantity: str, pair: RunPair | None = None) -> list[Point]:
        """The points of a quantity, of one pair or of all."""
        return [
            each for each in self.points if each.quantity == quantity and pair in (None, each.pair)
        ]

    def curve(self, quantity: str = "parameters", pair: RunPair | None = None) -> np.ndarray:
        """The greatest difference after each of `steps`."""
        greatest = dict.fromkeys(self.steps, 0.0)
        for point in self.of(quantity, pair):
            greatest[point.step] = max(greatest[point.step], point.relative)
        return np.array(list(greatest.values()))

    def worst(self, quantity: str = "parameters", pair: RunPair | None = None) -> Point:
        """The point with the greatest difference. Raises ArgumentError if there is none."""
        points = self.of(quantity, pair)
        if not points:
            raise ArgumentError(f"the trajectory has no points of {quantity!r} between {pair}")
        return max(points, key=lambda point: point.relative)

    @property
    def ok(self) -> bool:
        """Whether parameters, statistics and moments are within the limit for float64. In float32
        there is no limit.
        """
        judged = [each.relative for each in self.points if each.quantity in JUDGED]
        return bool(judged) and (self.dtype != "float64" or max(judged) <= TRAINING_TOLERANCE)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the curves by quantity and pair, and the worst points."""
        present = [quantity for quantity in DRIFT_QUANTITIES if self.of(quantity)]
        curves = [
            {
                "quantity": quantity,
                "pair": list(pair),
                "curve": [_to_plain(value) for value in self.curve(quantity, pair)],
            }
            for quantity in present
            for pair in self.pairs
        ]
        worst = {}
        for quantity in present:
            point = self.worst(quantity)
            plain = {"relative": _to_plain(point.relative), "pair": list(point.pair)}
            worst[quantity] = {**vars(point), **plain}
        return {
            "title": in_english(self.title),
            "dtype": self.dtype,
            "steps": list(self.steps),
            "ok": self.ok,
            "environment": list(self.environment),
            "traces": [trace.to_dict() for trace in self.traces],
            "worst": worst,
            "curves": curves,
            "losses": {
                name: [_to_plain(loss) for loss in losses] for name, losses in self.losses.items()
            },
        }

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        verdict = "ok" if self.ok else "over the limit"
        return f"<Trajectory: {verdict}; {self.title}>"

    def lines(self, width: int = 64) -> list[str]:
        """The trajectory as text: a table of some steps, and the curve of the parameters.

        width: the columns of the curve.
        """
        return [line for line, _ in self.styled_lines(width)]

    def styled_lines(self, width: int = 64) -> list[tuple[str, str]]:
        """The same, each line with its kind, "bad", "good" or ""."""
        lines = [(line, "") for line in self._list_figures(width)]
        if self.dtype == "float64":
            lines += [("", ""), self._conclude()]
        for trace in self.traces:
            lines += [("", ""), *((line, "") for line in trace.lines())]
        if not self.ok and self.on_several and not self.traces:
            words = say("  in the first step, every device computes what it should")
            lines += [("", ""), (words, "")]
        return lines

    def _conclude(self) -> tuple[str, str]:
        if self.ok:
            words = say(
                "  within the limit {limit:.0e} for parameters, statistics, moments",
                limit=TRAINING_TOLERANCE,
            )
            return words, "good"
        words = say(
            "  OVER the limit {limit:.0e} for parameters, statistics, moments",
            limit=TRAINING_TOLERANCE,
        )
        return words, "bad"

    def _list_figures(self, width: int) -> list[str]:
        lines = [self.title, *(f"  {line}" for line in self.environment), "", *self._table()]
        if self.of("free"):
            lines += [
                say(
                    "  free: biases without influence on the loss, whose gradient is "
                    "rounding noise; absolute, not judged"
                )
            ]
        return [
            *lines,
            "",
            say("  greatest relative difference of a parameter after each step"),
            *_plot(self.curve(), self.steps, width),
        ]

    def _table(self) -> list[str]:
        shown = [step for step in self.steps if step in (1, 10, 100, 1000, self.steps[-1])]
        heads = (
            say("quantity"),
            *(say("step {step}", step=step) for step in shown),
            *(say("worst tensor"), say("step"), say("between")),
        )
        table = [heads]
        for quantity in DRIFT_QUANTITIES:
            if self.of(quantity):
                curve, worst = self.curve(quantity), self.worst(quantity)
                cells = [f"{curve[self.steps.index(step)]:.1e}" for step in shown]
                pair = join_texts(worst.pair, say(" and "))
                table.append((say(quantity), *cells, worst.tensor, str(worst.step), pair))
        return list(columns(table))


def _to_plain(value: float) -> float | str:
    return float(value) if np.isfinite(value) else str(value)  # JSON has no infinity


def _plot(curve: np.ndarray, steps: tuple[int, ...], width: int) -> Iterator[str]:
    """A curve in characters on a logarithmic scale: one row for each power of ten, and in each
    column the greatest value.
    """
    width = min(width, len(curve))
    greatest = [part.max() for part in np.array_split(curve, width)]
    # Values that are 0 are on the lowest row, values that are not finite on the highest.
    powers = [int(np.floor(np.log10(value))) if 0 < value < np.inf else None for value in greatest]
    known = [power for power in powers if power is not None]
    if not known:
        yield say("    all equal") if not any(greatest) else say("    none of them finite")
        return
    lowest, highest = min(known), max(known)
    rows = [
        (highest if value else lowest) if power is None else power
        for power, value in zip(powers, greatest, strict=True)
    ]
    for power in range(highest, lowest - 1, -1):
        stars = "".join("*" if row == power else " " for row in rows)
        yield f"    1e{power:+03d} |{stars.rstrip()}"
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
    devices: int | Sequence[int] = 1,
    statistics: str = "global",
    oracle: bool = True,
    every: int = 1,
    progress: Callable[[int], None] = lambda step: None,
) -> Trajectory:
    """Trains the same arrays on the same data by the same recipe in each framework, and compares
    the runs.

    It compares the parameters, the running statistics, the optimizer's moments and the loss of
    every two runs. If `oracle`, one run is in plain NumPy in float64.

    The gradient of a bias before a batch norm is exactly zero, but frameworks compute rounding
    noise. Adam divides that noise by its own magnitude and so makes steps of the size of the
    learning rate. Such a bias changes no output in training. So the bias, its moments and the
    running mean that it is part of have a quantity of their own, "free", which is not judged.

    Stochastic depth and dropout are left out: their random numbers differ between frameworks.

    arrays: canonical. dtype: "float32" or "float64", to compute in. images: (examples, channels,
    height, width). labels: (examples,). every: the number of steps between two comparisons.
    device: "cpu" or "cuda". devices: on how many of them each framework computes, each batch in
    parts; with several numbers each framework makes a run on each. statistics: of the batch norms,
    as in `Trainer`; local ones depend on the number of devices, so that is then one number.
    progress: called with the number of each compared step.
    Raises MissingFramework, WeightsError for arrays that do not fit, ArgumentError for data and
    devices.
    """
    config = without_chance(config)
    divisions = divide(devices, statistics)
    used = backends(tuple(frameworks), (device,))
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    data = (images.astype(dtype), labels)
    points: list[Point] = []
    with Runs(used, divisions, config, arrays, recipe, data, dtype, oracle=oracle) as runs:
        for step in range(every, steps + 1, every):
            points += _compare_pairs(step, runs.advance(every))
            progress(step)
    found = Trajectory(
        title=_title(steps, _describe(recipe, divisions), config, dtype),
        dtype=dtype,
        points=tuple(points),
        environment=tuple(f"{backend.name}: {backend.adapter.versions()}" for backend in used),
        losses={name: tuple(held) for name, held in runs.losses.items()},
    )
    if found.ok or dtype != "float64":
        return found
    traces = tuple(explain_steps(used, divisions, config, arrays, recipe, data))
    return replace(found, traces=traces, on_several=divisions != [Shards()])


def _title(steps: int, recipe: str, config: Config, dtype: str) -> str:
    words = mark("{count} steps of {recipe}, {config}, in {dtype}")
    return say(words, count=steps, recipe=recipe, config=config.describe(), dtype=dtype)


def _describe(recipe: Recipe, divisions: Sequence[Shards]) -> str:
    optimizer, schedule = type(recipe.optimizer).__name__, type(recipe.schedule).__name__
    counts = [str(each.count) for each in divisions]
    said = say(
        "{optimizer}, {schedule}, batches of {batch}",
        optimizer=optimizer,
        schedule=schedule,
        batch=recipe.batch_size,
    )
    if counts == ["1"]:
        return said
    if divisions[0].statistics == "local":
        return say(
            "{recipe} on {counts} devices, local statistics",
            recipe=said,
            counts=join_texts(counts, say(" and ")),
        )
    return say(
        "{recipe} on {counts} devices, global statistics",
        recipe=said,
        counts=join_texts(counts, say(" and ")),
    )


def _compare_pairs(step: int, after: Mapping[str, Snapshot]) -> list[Point]:
    return [
        point
        for one, other in combinations(after, 2)
        for point in _compare(step, (one, other), after[one], after[other])
    ]


def _compare(step: int, pair: RunPair, actual: Snapshot, expected: Snapshot) -> list[Point]:
    """A point for each quantity that has tensors."""
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

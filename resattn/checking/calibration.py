"""Does the verdict hold? Right models that must pass, and mistakes that must be found.

`python -m resattn.checking.calibration --count 1000` draws models of every attention kind and of
every preset, with trained weights, hard images and tiny variances, and checks each in float64 and
in float32 alone. Then it plants a mistake in it. It prints every false alarm and every missed
mistake, and ends with a table. The result is in docs/calibration.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from resattn.checking.backends import Quantities, backends
from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from resattn.checking.crosscheck import EXACT_FORMATS, LIMIT, ORACLE, compare_quantities
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.problem import Problem, pose
from resattn.checking.rounding import Exact, TensorKey, list_tensors
from resattn.oracle.evaluation import stages
from weights import BlockConfig, Difference, read
from weights.config import Config
from weights.convert import Arrays
from weights.errors import ArgumentError
from weights.graph import probe_size
from weights.presets import PRESETS, preset

DIGITS = Path(__file__).parent.parent.parent / "weights/pretrained/se-digits.safetensors"
MUST_BE_FOUND = 8  # times what rounding explains

# Images as people have them; x has mean 0.3 and variance 1.
IMAGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normal": lambda x: x,
    "0 to 255": lambda x: np.clip(np.rint(128 + 64 * x), 0, 255),
    "mean 1000": lambda x: x + 1000,
    "tiny": lambda x: 1e-3 * x,
    "one image": lambda x: x[:1],
}


@dataclass(frozen=True)
class Case:
    """A model and its images. family: what it is, for the table."""

    name: str
    family: str
    config: Config
    arrays: Arrays
    x: np.ndarray


@dataclass
class Tally:
    """What the cases showed, by family and format.

    low, below: planted mistakes whose effect is below `MUST_BE_FOUND`, and a line for each. times:
    of the right models.
    """

    models: Counter[tuple[str, str]] = field(default_factory=Counter)
    alarms: list[str] = field(default_factory=list)
    planted: Counter[tuple[str, str]] = field(default_factory=Counter)
    low: Counter[tuple[str, str]] = field(default_factory=Counter)
    below: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


def draw_case(number: int) -> Case:
    """The case of a number: kinds, presets and images take turns, the rest is drawn."""
    rng = np.random.default_rng([number, 7])
    images = list(IMAGES)[number % len(IMAGES)]
    if number % 50 == 25:
        family, (config, arrays) = "trained", read(DIGITS)
    elif number % 50 == 0:
        name = sorted(PRESETS)[number // 50 % len(PRESETS)]
        family, config = "preset", preset(name)
        arrays = random_arrays(config, "float32", number)
    else:
        family, config = "block", _draw_block(rng, number)
        arrays = random_arrays(config, "float32", number)
    if number % 7 == 3:
        arrays = _shrink_variances(arrays, rng)
    size = config.input_size or probe_size(config)
    drawn = random_input(config, size, 4 if family == "block" else 2, "float64", number)
    x = IMAGES[images](drawn)
    if not _can_train(config, arrays, x):
        x = drawn[:2]  # a batch norm of single values: one image is not enough
    name = f"{number}: {config.describe()}, images {images}"
    return Case(name, family, config, arrays, x.astype(np.float32))


def _can_train(config: Config, arrays: Arrays, x: np.ndarray) -> bool:
    try:
        stages(config, arrays, x, training=True)
    except ArgumentError:
        return False
    return True


def _draw_block(rng: np.random.Generator, number: int) -> BlockConfig:
    """A block of the kind whose turn it is; kernel, channels, stride and options are drawn."""
    kinds = list(KINDS_AND_OPTIONS)
    kind = kinds[number % len(kinds)]
    variants = KINDS_AND_OPTIONS[kind]
    options = variants[int(rng.integers(len(variants)))]
    while True:
        first, last = (int(each) for each in rng.choice([1, 2, 3, 4, 8, 24, 40, 96], 2))
        size = (int(rng.integers(6, 17)), int(rng.integers(6, 17)))
        try:
            found = attention_block(kind, options, (first, last), int(rng.integers(1, 4)), size)
        except ArgumentError:  # heads that do not divide the channels, say
            continue
        kernel = int(rng.choice([1, 3, 3, 5]))
        changed = {"kernel_size": kernel, "padding": None, "conv_bias": bool(rng.integers(2))}
        return BlockConfig.from_dict({**found.to_dict(), **changed})


def _shrink_variances(arrays: Mapping[str, np.ndarray], rng: np.random.Generator) -> Arrays:
    """Some channels of each running variance down to 1e-9, as dead channels have."""

    def shrink(name: str, array: np.ndarray) -> np.ndarray:
        if not name.endswith("running_var"):
            return array
        dead = rng.random(array.shape) < 0.2
        return np.where(dead, 10.0 ** rng.uniform(-9, -4, array.shape), array).astype(array.dtype)

    return {name: shrink(name, array) for name, array in arrays.items()}


def plant(case: Case, rng: np.random.Generator) -> tuple[str, Arrays]:
    """A mistake in one tensor: one number, a channel or all of it off by some part of it."""
    name = str(rng.choice(sorted(case.arrays)))
    array = case.arrays[name].astype(np.float64)
    part = float(10.0 ** rng.uniform(-10, 0))
    way = str(rng.choice(["number", "channel", "tensor"]))
    places: dict[str, Any] = {
        "number": np.unravel_index(int(rng.integers(array.size)), array.shape),
        "channel": int(rng.integers(len(array))),
        "tensor": slice(None),
    }
    array[places[way]] *= 1 + part
    return f"{name}, one {way} by {part:.0e}", {**case.arrays, name: array}


def check_case(case: Case, frameworks: tuple[str, ...], tally: Tally) -> None:
    """Checks the right model and one with a mistake in it, and counts what came out."""
    problem = pose(case.config, case.arrays, case.x)
    rng = np.random.default_rng([len(case.name), int(case.name.partition(":")[0]), 8])
    words, wrong = plant(case, rng)
    effect_of = replace(problem.exact, arrays=wrong)
    for dtype in EXACT_FORMATS:
        posed = replace(problem, dtype=dtype)
        key = (case.family, dtype)
        effect = _measure_effect(effect_of, posed)
        for backend in backends(frameworks, ("cpu",)):
            tally.models[key] += 1
            outcomes = [posed.measure(backend, arrays) for arrays in (case.arrays, wrong)]
            right, other = (_judge(posed, outcome, backend.name) for outcome in outcomes)
            tally.times += [row.times for row in right]
            tally.alarms += [f"{case.name}: {row}" for row in right if not row.ok]
            if effect < MUST_BE_FOUND:
                tally.low[key] += 1
                tally.below.append(f"{case.name}, {dtype}: {words}, {effect:.2g} times")
                continue
            tally.planted[key] += 1
            if all(row.ok for row in other):
                tally.missed.append(f"{case.name}, {dtype}: {words}, {effect:.1f} times")


def _judge(problem: Problem, outcome: Quantities, name: str) -> list[Difference]:
    """The rows of an outcome, without its weights: those would give a mistake away."""
    rows = compare_quantities(problem, outcome, problem.expected, (name, ORACLE))
    return [row for row in rows if row.quantity != "weights"]


def _measure_effect(wrong: Exact, problem: Problem) -> float:
    """The greatest effect of a mistake in the oracle, in units of what rounding explains."""
    expected: dict[TensorKey, np.ndarray] = dict(list_tensors(problem.expected))
    greatest = 0.0
    for key, array in list_tensors(wrong.quantities):
        explained = problem.rounding.explained.get(key, 0.0)
        if key[0] != "weights" and 0 < explained < np.inf:
            effect = float(np.sqrt(np.square(array - expected[key]).mean()))
            greatest = max(greatest, effect / explained)
    return greatest


def list_results(tally: Tally) -> list[str]:
    """The result as a table in Markdown."""
    lines = [
        "| models | format | right | planted | below |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {family} | {dtype} | {count} | {tally.planted[family, dtype]} | "
            f"{tally.low[family, dtype]} |"
            for (family, dtype), count in sorted(tally.models.items())
        ),
    ]
    found = np.array([each for each in tally.times if np.isfinite(each)] or [0.0])
    middle, high = np.quantile(found, [0.5, 0.999])
    return [
        *lines,
        "",
        f"{len(tally.alarms)} false alarms, {len(tally.missed)} missed mistakes. Of "
        f"{len(found):,} comparisons of right models half are below {middle:.2f} times what "
        f"rounding explains, 99.9 % below {high:.2f}, all below {found.max():.2f}; the limit is "
        f"{LIMIT}.",
    ]


def main() -> None:
    """Runs the cases, and prints what is wrong at once and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="number of models")
    parser.add_argument("--start", type=int, default=0, help="number of the first")
    parser.add_argument("--frameworks", default="torch", help="as in torch,jax")
    parser.add_argument("--below", action="store_true", help="list mistakes too small to be found")
    given = parser.parse_args()
    tally = Tally()
    for number in range(given.start, given.start + given.count):
        before = len(tally.alarms), len(tally.missed), len(tally.below)
        check_case(draw_case(number), tuple(given.frameworks.split(",")), tally)
        for line in tally.alarms[before[0] :]:
            print(f"FALSE ALARM {line}", flush=True)
        for line in tally.missed[before[1] :]:
            print(f"MISSED {line}", flush=True)
        for line in tally.below[before[2] :] if given.below else ():
            print(f"BELOW {line}", flush=True)
        if number % 50 == 49:
            print("\n".join([f"up to {number}", *list_results(tally)]), flush=True)
    print("\n".join(list_results(tally)))


if __name__ == "__main__":
    main()

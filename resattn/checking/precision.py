"""Lower precision: how far each framework is from the oracle in bfloat16 and float16.

Two regimes. "mixed": parameters, statistics and images in float32, computed in the format as the
framework itself does it (PyTorch's autocast, Flax' dtype and param_dtype, Keras' mixed policies).
"low": parameters, images and computation in the format, statistics in float32. The oracle, in
float64, gets what the framework gets, rounded where it is.

A difference is judged by what the rounding of the format explains, as everywhere
(`resattn.checking.rounding`): results are rounded to the format, sums are added in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from resattn.checking.backends import Backend, backends
from resattn.checking.crosscheck import (
    LIMIT,
    ORACLE,
    choose_inputs,
    compare_quantities,
    explain_rounding,
    find_undefined,
)
from resattn.checking.draws import random_arrays
from resattn.checking.problem import Problem, pose
from resattn.checking.progress import StepCounter
from weights import Difference, Report, schema
from weights.checks import one_of
from weights.compare import columns, format_factor
from weights.config import Config, without_chance
from weights.convert import LOW, check
from weights.frameworks import FRAMEWORKS
from weights.language import join_texts, say

REGIMES = ("mixed", "low")


def precision(
    config: Config,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    formats: tuple[str, ...] = LOW,
    regimes: tuple[str, ...] = REGIMES,
    frameworks: tuple[str, ...] = tuple(FRAMEWORKS),
    devices: tuple[str, ...] = ("cpu",),
    inputs: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Runs the weights in each framework, format and regime, and compares with the float64 oracle.

    The dtype of a row is "bfloat16" or "float16", with "mixed_" in front in mixed precision.
    `table(report)` shows the worst of each quantity.
    arrays: canonical; None for random ones. inputs: (batch, channels, height, width); None for
        random ones of `size` (height, width).
    Raises WeightsError for arrays that do not fit, ArgumentError for formats, regimes and devices,
    MissingFramework.
    """
    steps = 1 + len(formats) * len(regimes) * (1 + len(frameworks) * len(devices))
    tell = StepCounter(progress or (lambda line: None), steps)
    for form in formats:
        one_of("formats", form, LOW)
    for regime in regimes:
        one_of("regimes", regime, REGIMES)
    config = without_chance(config)
    tell(say("import {frameworks}", frameworks=", ".join(frameworks)))
    used = backends(frameworks, devices)
    arrays = random_arrays(config, "float32", seed) if arrays is None else arrays
    check(schema(config), arrays)
    x = choose_inputs(config, inputs, size, batch, "float32", seed)
    rows, notes, undefined = [], [], ""
    for form in formats:
        for regime in regimes:
            dtype = f"mixed_{form}" if regime == "mixed" else form
            tell(say("oracle, rounding to {dtype}", dtype=dtype))
            problem = pose(config, arrays, x, seed, dtype)
            undefined = undefined or find_undefined(problem)
            notes += [] if undefined else explain_rounding(problem)
            for backend in used:
                tell(f"{backend.name}, {dtype}")
                rows += measure_format(backend, problem)
    names = dict.fromkeys(row.dtype for row in rows if row.dtype)
    return Report(
        title=say(
            "{config} in {formats}, input {shape}",
            config=config.describe(),
            formats=join_texts(names, say(" and ")),
            shape=" x ".join(map(str, x.shape)),
        ),
        rows=tuple(rows),
        environment=tuple(f"{backend.name}: {backend.adapter.versions()}" for backend in used),
        notes=tuple(notes),
        undefined=undefined,
    )


def measure_format(backend: Backend, problem: Problem) -> list[Difference]:
    """The rows of a framework against the oracle, in the format of the problem."""
    rows = compare_quantities(
        problem, problem.measure(backend), problem.expected, (backend.name, ORACLE)
    )
    return [row for row in rows if row.quantity != "weights"]


def table(report: Report) -> list[str]:
    """The worst of each quantity, for each framework, in units of what rounding explains."""
    return list(columns([row for row, _ in _tabulate(report)]))


def styled_table(report: Report) -> list[tuple[str, str]]:
    """The same, each line with its kind, "bad" or ""."""
    rows = _tabulate(report)
    lines = columns([row for row, _ in rows])
    return [(line, style) for line, (_, style) in zip(lines, rows, strict=True)]


def _tabulate(report: Report) -> list[tuple[tuple[str, ...], str]]:
    names = list(dict.fromkeys(row.actual for row in report.rows))
    heads = (say("in units of what rounding explains"), *names, say("limit"), "")
    lines: list[tuple[tuple[str, ...], str]] = [(heads, "")]
    for dtype in report.dtypes:
        for quantity in dict.fromkeys(row.quantity for row in report.select(dtype=dtype)):
            worst = [report.worst(dtype=dtype, quantity=quantity, actual=name) for name in names]
            ok = all(row.ok for row in worst)
            units = (format_factor(row.times) for row in worst)
            verdict = say("ok") if ok else say("OVER")
            cells = (f"{dtype} {say(quantity)}", *units, f"{LIMIT}", verdict)
            lines.append((cells, "" if ok else "bad"))
    return lines

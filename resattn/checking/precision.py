"""Lower precision: how far each framework is from the oracle in bfloat16 and float16, in units of
the format's eps.

Two regimes. "mixed": parameters, statistics and input in float32, computed in the format as the
framework itself does it (PyTorch's autocast, Flax' dtype and param_dtype, Keras' mixed policies).
"low": parameters, input and computation in the format, statistics in float32. The oracle, in
float64, is given what the framework is given, rounded where it is.

Outputs and statistics are measured with ordinary weights. A gradient jumps where a relu changes
sides, and with a format's few digits some always do, rightly: so gradients are measured with
weights whose offsets keep every relu and maximum clear of its kink by `CLEARANCE`, nothing is left
out, and the bound need not allow for jumps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from resattn.checking.backends import Backend, Quantities, backends, precise
from resattn.checking.crosscheck import ORACLE
from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.checking.problem import oracle
from resattn.checking.tolerances import bound
from resattn.oracle import evaluation as reference
from resattn.oracle.node import rounded_to
from weights import Difference, Report, difference, export, schema
from weights.checks import at_least, one_of, pair_of
from weights.compare import columns
from weights.config import BlockConfig, Config
from weights.convert import LOW, check
from weights.frameworks import FRAMEWORKS
from weights.graph import output_shape, probe_size
from weights.live import LiveModel
from weights.parameters import Parameter

FORMATS = LOW
REGIMES = ("mixed", "low")
CLEARANCE = 4  # in eps of bfloat16: tensors on the way are off by one or two
MOVEMENT = 6  # in eps
CLEAR_DRAWS = 100  # for a block; a network gets a tenth: each takes as much longer


def eps(form: str) -> float:
    """The distance from 1 to the next number of a format: 2^-7 in bfloat16, 2^-10 in float16."""
    return float(ml_dtypes.finfo(form).eps)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Task:
    """What is computed: canonical arrays and an input in float32, and slopes of the output for
    gradients, or None.
    """

    config: Config
    arrays: Mapping[str, np.ndarray]
    x: np.ndarray
    cotangent: np.ndarray | None = None

    def rounded(self, form: str) -> Task:
        """The same with parameters and input in a format; the statistics stay as they are."""
        parameters = {parameter.name for parameter in schema(self.config) if parameter.trainable}
        arrays = {
            name: array.astype(form) if name in parameters else array
            for name, array in self.arrays.items()
        }
        return Task(self.config, arrays, self.x.astype(form), self.cotangent)


def precision(
    config: Config,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    formats: tuple[str, ...] = FORMATS,
    regimes: tuple[str, ...] = REGIMES,
    frameworks: tuple[str, ...] = tuple(FRAMEWORKS),
    devices: tuple[str, ...] = ("cpu",),
    inputs: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
    batch: int = 8,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Runs the weights in each framework, format and regime, and reports how far each is from the
    float64 oracle.

    A quantity is named "mixed bfloat16 eval output"; its tolerance is the bound of
    `resattn.checking.tolerances` times the format's eps, the same for all frameworks.
    `table(report)` shows it in units of eps.
    arrays: canonical; None for random ones, and then gradients are measured too, with weights drawn
        clear of kinks.
    inputs: (batch, channels, height, width); None for random ones of `size` (height, width).
    Raises WeightsError for arrays that do not fit, ArgumentError for formats, regimes and devices,
    MissingFramework.
    """
    tell = progress or (lambda line: None)
    for form in formats:
        one_of("formats", form, FORMATS)
    for regime in regimes:
        one_of("regimes", regime, REGIMES)
    used = backends(frameworks, devices)
    size = pair_of("size", probe_size(config) if size is None else size)
    tasks = [ordinary(config, arrays, inputs, size, at_least("batch", batch, 1), seed)]
    notes = []
    if arrays is not None:
        notes = ["gradients are measured with random weights alone: given ones may be near kinks"]
    else:
        tell("weights clear of kinks")
        posed = clear(config, seed)
        if posed is None:
            notes = ["gradients were not measured: in every draw rounding decides some of them"]
        else:
            tasks.append(posed)
    rows = []
    for task in tasks:
        for form in formats:
            for regime in regimes:
                tell(f"{regime} {form}")
                rows += measure_format(task, form, regime, used)
    shape = " x ".join(map(str, tasks[0].x.shape))
    return Report(
        title=f"{config.describe()} in {' and '.join(formats)}, input {shape}",
        rows=tuple(rows),
        environment=tuple(f"{backend.name}: {backend.adapter.versions()}" for backend in used),
        notes=tuple(notes),
    )


def table(report: Report) -> list[str]:
    """The worst of each quantity, for each framework, in units of the format's eps."""
    names = list(dict.fromkeys(row.actual for row in report.rows))
    lines: list[tuple[str, ...]] = [("in units of eps", *names, "bound", "")]
    for quantity in dict.fromkeys(row.quantity for row in report.rows):
        unit = eps(quantity.split()[1])
        worst = [report.worst(quantity=quantity, actual=name) for name in names]
        ok = "ok" if all(row.ok for row in worst) else "OVER"
        units = (f"{row.relative / unit:.2f}" for row in worst)
        lines.append((quantity, *units, f"{worst[0].tolerance / unit:.3g}", ok))
    return list(columns(lines))


def ordinary(
    config: Config,
    arrays: Mapping[str, np.ndarray] | None,
    inputs: np.ndarray | None,
    size: tuple[int, int],
    batch: int,
    seed: int = 0,
) -> Task:
    """Outputs and statistics of given or random weights and images."""
    arrays = random_arrays(config, "float32", seed) if arrays is None else arrays
    check(schema(config), arrays)
    x = random_input(config, size, batch, "float32", seed) if inputs is None else inputs
    return Task(
        config,
        {name: array.astype(np.float32) for name, array in arrays.items()},
        x.astype(np.float32),
    )


def clear(config: Config, seed: int = 0) -> Task | None:
    """Random weights, images and slopes in which rounding decides nothing; None if no draw is like
    that.

    No relu or maximum comes within `CLEARANCE` of its kink, and no gradient moves by more than
    `MOVEMENT` when the oracle rounds all it computes, as a sum that cancels would. Sizes take
    turns: in a small image fewer maxima are nearly tied.
    """
    for attempt in range(CLEAR_DRAWS if isinstance(config, BlockConfig) else CLEAR_DRAWS // 10):
        size, batch = ((probe_size(config), 4), (small_size(config), 2))[attempt % 2]
        task = _drawn(config, size, batch, seed + 1000 * attempt)
        margin = min(
            reference.run(config, task.arrays, task.x, training=training).margin
            for training in (False, True)
        )
        if margin >= CLEARANCE * eps("bfloat16") and all(
            movement(task, form) <= MOVEMENT for form in FORMATS
        ):
            return task
    return None


def movement(task: Task, form: str) -> float:
    """How far the gradients move, in eps and relative to each tensor, when the oracle rounds all it
    computes to a format.
    """
    expected, scales = expectation(task)
    with rounded_to(form):
        moved, _ = expectation(task)
    return max(
        difference(
            moved[quantity][tensor], array, tolerance=0, scale=scales[quantity, tensor]
        ).relative
        / eps(form)
        for quantity, tensors in expected.items()
        for tensor, array in tensors.items()
    )


def small_size(config: Config) -> tuple[int, int]:
    """Of images that end at three rows of two pixels; or the only size there is."""
    if config.input_size or not isinstance(config, BlockConfig):
        return probe_size(config)
    return 2 * config.stride[0] + 1, 2 * config.stride[1]


def _drawn(config: Config, size: tuple[int, int], batch: int, seed: int) -> Task:
    """Random arrays, but that what stands in front of a relu is far above 0 (in every third channel
    of `bn1`: far below), and that running statistics are near those of the images, so that this
    holds in evaluation too.
    """
    arrays, x = (
        random_arrays(config, "float32", seed),
        random_input(config, size, batch, "float32", seed),
    )
    names = {parameter.module for parameter in schema(config)}
    for parameter in schema(config):
        if height := _height(parameter, names):
            below = (np.arange(*parameter.shape) % 3 == 2) & (
                parameter.module.split(".")[-1] == "bn1"
            )
            arrays[parameter.name] += np.where(below, -height, height)
    rng = np.random.default_rng([seed, 4])
    arrays |= {
        name: (value * rng.uniform(0.9, 1.1, value.shape)).astype(np.float32)
        for name, value in _batch_statistics(config, arrays, x).items()
    }
    # Slopes with few digits are exact in either format.
    slopes = random_cotangent(output_shape(config, x.shape), "float32", seed).round(1) * 8 // 1 / 8
    return Task(config, arrays, x, slopes)


# In front of a relu, by the name of the layer: how far the offset of a norm is moved, or the bias
# of the first layer of a bottleneck; what comes out of a norm without it is hardly ever greater
# than 3.
_HEIGHTS = {
    "norm offset": {
        "bn1": 5,
        "bn_1": 4,
        "bn_reduce0": 4,
        "bn_di_0": 4,
        "bn_di_1": 4,
        "norm": 3,
        "1": 8,
    },
    "convolution bias": {"fc1": 2},
}


def _height(parameter: Parameter, modules: set[str]) -> float:
    *path, layer = parameter.module.split(".")
    if path == ["stem"] and parameter.role == "norm offset":
        return 8
    if (
        path[-1:] == ["attention"] and layer == "bn1"
    ):  # coordinate attention: in front of a hard swish, with kinks at 3 and -3
        return 0
    if (
        layer.startswith("norm") and layer[4:].isdigit()
    ):  # gather-excite: in front of the next step's relu
        return 4 if ".".join([*path, f"norm{int(layer[4:]) + 1}"]) in modules else 0
    return _HEIGHTS.get(parameter.role, {}).get(layer, 0)


def _batch_statistics(
    config: Config, arrays: Mapping[str, np.ndarray], x: np.ndarray
) -> dict[str, np.ndarray]:
    """The mean and variance of the batch in front of each batch norm: what decay leaves of 0, and
    of 1, tells both.
    """
    running = [parameter.name for parameter in schema(config) if not parameter.trainable]
    after = []
    for start in (0, 1):
        given = {**arrays, **{name: np.full_like(arrays[name], start) for name in running}}
        after.append(reference.run(config, given, x, training=True).statistics)
    return {name: after[0][name] / (1 - after[1][name] + after[0][name]) for name in running}


def measure_format(task: Task, form: str, regime: str, used: list[Backend]) -> list[Difference]:
    """A row for every tensor of every quantity that the task has, for each framework."""
    given = task if regime == "mixed" else task.rounded(form)
    expected, scales = expectation(given)
    rows = []
    for backend in used:
        with precise((backend.framework,), "float32"):
            actual = outcome(backend, given, form if regime == "mixed" else None)
        rows += [
            difference(
                actual[quantity][tensor],
                array,
                tolerance=bound(quantity, task.config) * eps(form),
                scale=scales[quantity, tensor],
                quantity=f"{regime} {form} {quantity}",
                tensor=tensor,
                names=(backend.name, ORACLE),
            )
            for quantity, tensors in expected.items()
            for tensor, array in tensors.items()
        ]
    return rows


def outcome(backend: Backend, given: Task, compute: str | None) -> Quantities:
    """What a framework makes of a task: gradients if it has slopes, else outputs and statistics."""
    model = backend.build(given.config, given.arrays, compute)
    if given.cotangent is not None:
        return {
            f"{mode} gradient": LiveModel.of(model).gradients(
                given.x, given.cotangent, training=mode == "train"
            )[1]
            for mode in ("eval", "train")
        }
    outputs = {
        mode: LiveModel.of(model).forward(given.x, training=mode == "train")
        for mode in ("eval", "train")
    }
    after = export(model)
    statistics = {
        parameter.name: after[parameter.name]
        for parameter in schema(given.config)
        if not parameter.trainable
    }
    return {
        **{f"{mode} output": {"output": output} for mode, output in outputs.items()},
        "train statistics": statistics,
    }


def expectation(given: Task) -> tuple[Quantities, dict[tuple[str, str], float]]:
    """What the oracle makes of the same, and what each tensor's difference is relative to."""
    wide = {name: array.astype(np.float64) for name, array in given.arrays.items()}
    slopes = given.cotangent
    if slopes is None:
        slopes = np.zeros(output_shape(given.config, given.x.shape))
    expected, scales, _ = oracle(given.config, wide, given.x.astype(np.float64), slopes)
    # A mean is as far off as the values are whose mean it is: relative to their deviation, where
    # that is greater.
    for parameter in schema(given.config):
        if parameter.role == "norm mean":
            variance = expected["train statistics"][f"{parameter.module}.running_var"]
            key = ("train statistics", parameter.name)
            scales[key] = max(scales[key], float(variance.max()) ** 0.5)
    kept = ("gradient",) if given.cotangent is not None else (" output", " statistics")
    return {
        quantity: tensors for quantity, tensors in expected.items() if quantity.endswith(kept)
    }, scales

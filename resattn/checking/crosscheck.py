"""The cross-check: the same weights in every framework, every quantity against the oracle and
against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from resattn.checking.backends import Backend, Quantities, backends, measure, precise
from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.checking.tolerances import QUANTITIES, tolerance
from resattn.oracle import evaluation as reference
from resattn.oracle.stand_in import framework_of_kind
from weights import Difference, Report, difference, schema
from weights.attention import ATTENTION
from weights.checks import at_least, pair_of
from weights.config import BlockConfig, Config, own_kinds
from weights.convert import check
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS
from weights.graph import output_shape, probe_size

ORACLE = "oracle"


def crosscheck(
    config: Config,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    frameworks: str | tuple[str, ...] = tuple(FRAMEWORKS),
    devices: str | tuple[str, ...] = ("cpu",),
    dtype: str | None = None,
    inputs: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
    batch: int = 8,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Loads the weights into the frameworks on the devices, runs them, and reports how far apart
    they are.

    Compared, each with the NumPy float64 oracle and with each other: the output in evaluation and
    in training, the running statistics after one training step, and the gradients of a random
    projection of the output, in both modes, with respect to the input and every parameter.

    arrays: canonical; None for random ones. dtype: "float32" or "float64", to compute in; None for
    that of the arrays, float32 at least.
    inputs: (batch, channels, height, width); None for random ones of `size` (height, width), drawn
    so that no relu comes near its kink and no tensor is ill-conditioned. progress: called with a
    line before each step.
    Raises WeightsError for arrays that do not fit, ArgumentError for bad inputs, devices and dtypes,
    MissingFramework.
    """
    tell = progress or (lambda line: None)
    frameworks, devices = _names("frameworks", frameworks), _names("devices", devices)
    tolerance(dtype or "float32", "eval output")  # refuses other dtypes
    if arrays is None:
        arrays = random_arrays(config, dtype or "float32", seed)
    check(schema(config), arrays)
    dtype = dtype or np.result_type(np.float32, *(array.dtype for array in arrays.values())).name
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    used = backends(frameworks, devices)

    tell("oracle")
    if inputs is None:
        size = probe_size(config) if size is None else size
        problem = draw(
            config, arrays, pair_of("size", size), at_least("batch", batch, 1), dtype, seed, tell
        )
    else:
        problem = pose(config, arrays, checked_inputs(inputs, config, dtype), seed)

    outcomes: dict[str, Quantities] = {}
    for backend in used:
        tell(backend.name)
        with precise((backend.framework,), dtype):
            outcomes[backend.name] = measure(
                backend.build(config, arrays), problem.x, problem.cotangent
            )
    pairs = [(name, ORACLE) for name in outcomes] + list(combinations(outcomes, 2))
    rows = [
        row
        for actual, against in pairs
        for row in compare(
            problem, outcomes[actual], outcomes.get(against, problem.expected), (actual, against)
        )
    ]
    shape = " x ".join(map(str, problem.x.shape))
    return Report(
        title=f"cross-check of {config.describe()} in {dtype}, input {shape}",
        rows=tuple(rows),
        environment=tuple(f"{backend.name}: {backend.adapter.versions()}" for backend in used),
        notes=(*_notes(config), *explain(problem, rows)),
    )


def _notes(config: Config) -> list[str]:
    """What the oracle is not."""
    return [
        f"attention {kind!r} has no graph of its own: its {FRAMEWORKS[framework_of_kind(kind)].label} "
        "module, in float64, stands in for it"
        for kind in own_kinds(config)
        if ATTENTION[kind].graph is None
    ]


@dataclass(frozen=True)
class Problem:
    """What is computed, and what the oracle says of it.

    margin: how near a relu comes to its kink or a maximum to a tie, relative to the tensor. There,
    rounding decides between two right gradients. movement: how far each tensor moves, relative to
    its scale, when weights and input move by half a unit in the last place: no computation in this
    dtype can be expected to do better.
    """

    config: Config
    arrays: Mapping[str, np.ndarray]
    x: np.ndarray
    cotangent: np.ndarray
    expected: Quantities
    scales: Mapping[tuple[str, str], float]
    margin: float
    movement: Mapping[tuple[str, str], float]

    @property
    def dtype(self) -> str:
        return self.x.dtype.name

    def ill_conditioned(self, quantity: str, tensor: str) -> bool:
        return self.movement.get((quantity, tensor), 0) > tolerance(self.dtype, quantity) / 10

    @property
    def risk(self) -> float:
        """How likely it is that rounding alone decides something: up to 1 is clear of kinks and
        well conditioned.
        """
        movements = (
            10 * moved / tolerance(self.dtype, quantity)
            for (quantity, _), moved in self.movement.items()
            if quantity != "weights"
        )
        return max(_clearance(self.dtype) / max(self.margin, 1e-300), *movements)


def _clearance(dtype: str) -> float:
    return 32 * float(np.finfo(dtype).eps)


def pose(config: Config, arrays: Mapping[str, np.ndarray], x: np.ndarray, seed: int = 0) -> Problem:
    """The problem for a given input."""
    dtype = x.dtype.name
    cotangent = random_cotangent(output_shape(config, x.shape), dtype, seed)
    expected, scales, margin = oracle(config, arrays, x, cotangent)
    nudge = np.random.default_rng([seed, 3])

    def nudged(array: np.ndarray) -> np.ndarray:
        return array * (1 + np.finfo(dtype).eps / 2 * nudge.choice([-1.0, 1.0], array.shape))

    wide = {name: nudged(array.astype(np.float64)) for name, array in arrays.items()}
    moved, _, _ = oracle(config, wide, nudged(x.astype(np.float64)), cotangent)
    movement = {
        (quantity, tensor): difference(
            moved[quantity][tensor], array, tolerance=0, scale=scales[quantity, tensor]
        ).relative
        for quantity, tensors in expected.items()
        for tensor, array in tensors.items()
    }
    return Problem(config, arrays, x, cotangent, expected, scales, margin, movement)


def draw(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    size: tuple[int, int],
    batch: int,
    dtype: str,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> Problem:
    """The first of ten problems with random inputs that is clear of kinks and well conditioned,
    else the nearest to it.
    """
    problems: list[Problem] = []
    inputs: list[tuple[float, int, np.ndarray]] = []
    for attempt in range(10):
        tell(f"oracle, draw {attempt + 1}")
        x = random_input(config, size, batch, dtype, seed + 1000 * attempt)
        # Forward alone first: it shows the kinks, and backward costs four times as much.
        margin = min(
            reference.run(config, arrays, x, training=training).margin for training in (False, True)
        )
        inputs.append((margin, -attempt, x))
        if margin >= _clearance(dtype):
            problems.append(pose(config, arrays, x, seed))
            if problems[-1].risk <= 1:
                break
    return (
        min(problems, key=lambda problem: problem.risk)
        if problems
        else pose(config, arrays, max(inputs)[2], seed)
    )


def explain(problem: Problem, rows: list[Difference]) -> list[str]:
    """What besides a mistake may have put gradients over their tolerance; nothing if none is
    over.
    """
    over = [row for row in rows if not row.ok]
    notes = []
    if not all(
        np.isfinite(array).all()
        for tensors in problem.expected.values()
        for array in tensors.values()
    ):
        return [
            "the oracle's own numbers are not all finite: there is NaN or infinity in the weights, "
            "or they overflow"
        ]
    if any("gradient" in row.quantity for row in over):
        notes += filter(None, [near_kink(problem.margin, problem.dtype)])
    for quantity, tensor in sorted({(row.quantity, row.tensor) for row in over}):
        if quantity != "weights" and problem.ill_conditioned(quantity, tensor):
            notes.append(
                f"{quantity} {tensor} is ill-conditioned: rounding weights and input to "
                f"{problem.dtype} alone moves it by {problem.movement[quantity, tensor]:.0e} of "
                "its magnitude; try another seed, or float64"
            )
    return notes


def near_kink(margin: float, dtype: str) -> str:
    """What to say of gradients that differ where a relu or maximum is that near to its kink;
    nothing if none is.
    """
    if margin >= _clearance(dtype):
        return ""
    return (
        f"a relu or maximum comes within {margin:.0e} of its kink, relative to its tensor: {dtype} "
        "rounding may put it on the other side, and gradients differ for that alone; try another "
        "seed, or float64"
    )


def oracle(
    config: Config, arrays: Mapping[str, np.ndarray], x: np.ndarray, cotangent: np.ndarray
) -> tuple[Quantities, dict[tuple[str, str], float], float]:
    """What the oracle says of everything that is compared, what each is relative to, and the margin
    to kinks.
    """
    inference = reference.run(config, arrays, x, cotangent, training=False)
    training = reference.run(config, arrays, x, cotangent, training=True)
    quantities = {
        "weights": dict(arrays),
        "eval output": {"output": inference.output},
        "eval gradient": {"input": inference.input_gradient, **inference.gradients},
        "train output": {"output": training.output},
        "train statistics": training.statistics,
        "train gradient": {"input": training.input_gradient, **training.gradients},
    }
    scales = {
        (quantity, tensor): float(np.abs(array).max())
        for quantity, tensors in quantities.items()
        for tensor, array in tensors.items()
    }
    # Gradients that cancel, or are exactly zero: a convolution's bias in front of a batch norm,
    # say.
    for mode, outcome in (("eval", inference), ("train", training)):
        scales.update(
            {(f"{mode} gradient", tensor): scale for tensor, scale in outcome.scales.items()}
        )
    return quantities, scales, min(inference.margin, training.margin)


def compare(
    problem: Problem, actual: Quantities, against: Quantities, names: tuple[str, str]
) -> list[Difference]:
    """One row for every tensor of every quantity."""
    axes = {parameter.name: parameter.axes for parameter in schema(problem.config)}
    axes["input"] = "batch channel row col"
    axes["output"] = axes["input"] if isinstance(problem.config, BlockConfig) else "batch class"
    return [
        difference(
            actual[quantity][tensor],
            against[quantity][tensor],
            tolerance=tolerance(problem.dtype, quantity),
            scale=problem.scales[quantity, tensor],
            quantity=quantity,
            tensor=tensor,
            names=names,
            axes=axes[tensor],
        )
        for quantity in QUANTITIES
        for tensor in problem.expected[quantity]
    ]


def check_model(backend: Backend, model: object, problem: Problem) -> Report:
    """A live model against the oracle, whatever the model holds and however it computes: for models
    that were changed.
    """
    with precise((backend.framework,), problem.dtype):
        outcome = measure(model, problem.x, problem.cotangent)
    rows = compare(problem, outcome, problem.expected, (backend.name, ORACLE))
    title = f"{backend.name} against the oracle, {problem.config.describe()} in {problem.dtype}"
    return Report(title, tuple(rows), notes=tuple(explain(problem, rows)))


def _names(what: str, names: str | tuple[str, ...]) -> tuple[str, ...]:
    """A tuple of names; one alone may come as a string."""
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names:
        raise ArgumentError(f"{what}: expected at least one, got none")
    return names


def checked_inputs(inputs: np.ndarray, config: Config | None, dtype: str) -> np.ndarray:
    """The images in the dtype to compute in; config: None if they may have any channels.

    Raises ArgumentError for what is not a batch of images.
    """
    if not isinstance(inputs, np.ndarray) or inputs.dtype.kind not in "fiu":
        found = (
            f"an array of {inputs.dtype.name}"
            if isinstance(inputs, np.ndarray)
            else type(inputs).__name__
        )
        raise ArgumentError(f"inputs: expected a NumPy array of real numbers, got {found}")
    channels = "channels" if config is None else config.in_channels
    if inputs.ndim != 4 or (config is not None and inputs.shape[1] != channels) or not inputs.size:
        raise ArgumentError(
            f"inputs: expected (batch, {channels}, height, width), got {inputs.shape}"
        )
    with np.errstate(over="ignore"):
        inputs = inputs.astype(dtype)
    if not np.isfinite(inputs).all():
        raise ArgumentError(
            f"inputs: expected finite numbers in {dtype}, got NaN or infinity among them"
        )
    return inputs

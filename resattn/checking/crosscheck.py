"""The cross-check: the same weights in every framework, every quantity against the oracle and
against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations

import numpy as np

from resattn.checking.backends import Backend, Quantities, backends, measure, precise
from resattn.checking.draws import random_arrays
from resattn.checking.problem import Problem, checked_inputs, draw_problem, near_kink, pose
from resattn.checking.tolerances import QUANTITIES, tolerance
from resattn.oracle.stand_in import framework_of_kind
from weights import Difference, Report, difference, schema
from weights.attention import ATTENTION
from weights.checks import at_least, pair_of
from weights.config import BlockConfig, Config, own_kinds
from weights.convert import check
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS
from weights.graph import probe_size

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
    """Loads the weights into the frameworks on the devices and reports how far apart they compute.

    Compared, each with the NumPy float64 oracle and with each other: the output in evaluation and
    in training, the running statistics after one training step, and the gradients of a random
    projection of the output, in both modes, with respect to the input and every parameter.

    arrays: canonical; None for random ones. dtype: "float32" or "float64", to compute in; None for
    that of the arrays, float32 at least.
    inputs: (batch, channels, height, width); None for random ones of `size` (height, width), drawn
    so that no relu comes near its kink and no tensor is ill-conditioned. progress: called with a
    line before each step.
    Raises WeightsError for arrays that do not fit, ArgumentError, MissingFramework.
    """
    tell = progress or (lambda line: None)
    frameworks, devices = _names("frameworks", frameworks), _names("devices", devices)
    arrays, dtype = _arrays(config, arrays, dtype, seed)
    used = backends(frameworks, devices)

    tell("oracle")
    if inputs is None:
        sizes = pair_of("size", probe_size(config) if size is None else size)
        batch = at_least("batch", batch, 1)
        problem = draw_problem(config, arrays, sizes, batch, dtype, seed, tell)
    else:
        problem = pose(config, arrays, checked_inputs(inputs, config, dtype), seed)

    outcomes: dict[str, Quantities] = {}
    for backend in used:
        tell(backend.name)
        with precise((backend.framework,), dtype):
            outcomes[backend.name] = measure(
                backend.build_live(config, arrays), problem.x, problem.cotangent
            )
    pairs = [(name, ORACLE) for name in outcomes] + list(combinations(outcomes, 2))
    against_all = {ORACLE: problem.expected, **outcomes}
    rows = [
        row
        for actual, against in pairs
        for row in compare(problem, outcomes[actual], against_all[against], (actual, against))
    ]
    shape = " x ".join(map(str, problem.x.shape))
    return Report(
        title=f"cross-check of {config.describe()} in {dtype}, input {shape}",
        rows=tuple(rows),
        environment=tuple(f"{backend.name}: {backend.adapter.versions()}" for backend in used),
        notes=(*_notes(config), *explain_disagreement(problem, rows)),
    )


def _arrays(
    config: Config, arrays: Mapping[str, np.ndarray] | None, dtype: str | None, seed: int
) -> tuple[dict[str, np.ndarray], str]:
    """The weights to check, in the dtype to compute in, and that dtype."""
    tolerance(dtype or "float32", "eval output")  # refuses other dtypes
    if arrays is None:
        arrays = random_arrays(config, dtype or "float32", seed)
    check(schema(config), arrays)
    dtype = dtype or np.result_type(np.float32, *(array.dtype for array in arrays.values())).name
    return {name: array.astype(dtype) for name, array in arrays.items()}, dtype


def _notes(config: Config) -> list[str]:
    """What the oracle is not."""
    unknown = [kind for kind in own_kinds(config) if ATTENTION[kind].graph is None]
    labels = {kind: FRAMEWORKS[framework_of_kind(kind)].label for kind in unknown}
    return [
        f"attention {kind!r} has no graph of its own: its {label} module, in float64, stands in "
        "for it"
        for kind, label in labels.items()
    ]


def compare(
    problem: Problem, actual: Quantities, against: Quantities, names: tuple[str, str]
) -> list[Difference]:
    """One row for every tensor of every quantity."""
    axes = {parameter.name: parameter.axes for parameter in problem.graph.parameters}
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
    return Report(title, tuple(rows), notes=tuple(explain_disagreement(problem, rows)))


def explain_disagreement(problem: Problem, rows: list[Difference]) -> list[str]:
    """What besides a mistake may have put gradients over their tolerance; nothing if none is
    over.
    """
    over = [row for row in rows if not row.ok]
    notes: list[str] = []
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


def _names(what: str, names: str | tuple[str, ...]) -> tuple[str, ...]:
    """A tuple of names; one alone may come as a string."""
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names:
        raise ArgumentError(f"{what}: expected at least one, got none")
    return names

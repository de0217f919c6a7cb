"""The cross-check: the same weights in every framework, every quantity against the oracle and
against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from resattn.checking.backends import Backend, Quantities, backends, measure, precise
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.problem import Problem, checked_inputs, pose
from resattn.checking.progress import StepCounter
from resattn.checking.rounding import MODE_NAMES, MODES, TensorKey, list_tensors
from resattn.checking.tolerances import QUANTITIES
from resattn.oracle.evaluation import Stage, stages
from resattn.oracle.stand_in import framework_of_kind
from weights import Difference, Report, difference, schema
from weights.attention import ATTENTION
from weights.checks import at_least, one_of, pair_of
from weights.config import BlockConfig, Config, NetworkConfig, own_kinds, without_chance
from weights.convert import check
from weights.distribution import Agreement, Distribution, agree, describe_errors
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS, framework_key
from weights.graph import probe_size
from weights.language import join_texts, mark, say

ORACLE = "oracle"
NUMPY = "numpy"
EXACT_FORMATS = ("float32", "float64")

# A difference may be so many times what rounding explains. Real frameworks are at 0.1 to 3 times,
# and mistakes from 8 times on must be found (docs/calibration.md).
LIMIT = 5
LIMIT_BY_PEERS = 2
UNDECIDED = 0.05  # of a tensor's magnitude: with more rounding than that it is not determined


def crosscheck(
    config: Config,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    frameworks: str | tuple[str, ...] = tuple(FRAMEWORKS),
    devices: str | tuple[str, ...] = ("cpu",),
    dtype: str | None = None,
    inputs: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
    batch: int | None = None,
    seed: int = 0,
    classify: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Loads the weights into the frameworks on the devices and reports how far apart they compute.

    Compared, each with the NumPy float64 oracle and with each other: the output in evaluation and
    in training, the running statistics after one training step, and the gradients of a random
    projection of the output, in both modes, with respect to the input and every parameter.

    Computed in float64, which decides whether the frameworks are the same function (weights are
    widened exactly), and then in the format of the weights, which shows how precise each is. What
    the rounding of the format explains (`resattn.checking.rounding`) judges a difference.

    arrays: canonical; None for random ones. dtype: "float32" or "float64", to compute in that
    alone.
    inputs: (batch, channels, height, width); None for random ones of `size` (height, width).
    batch: of random inputs, by default 8 for a block and 2 for a network. classify: compare the
    classes that are found, also for random inputs. progress: called with a line before each step.
    Raises WeightsError for arrays that do not fit, ArgumentError, MissingFramework.
    """
    frameworks, devices = _names("frameworks", frameworks), _names("devices", devices)
    given, config = config, without_chance(config)
    arrays, own = _arrays(config, arrays, dtype, seed)
    formats = (dtype,) if dtype is not None else tuple(dict.fromkeys(("float64", own)))
    steps = 2 + len(formats) * (len(frameworks) * len(devices) + 1)
    tell = StepCounter(progress or (lambda line: None), steps)
    tell(say("import {frameworks}", frameworks=", ".join(frameworks)))
    used = backends(frameworks, devices)
    problem = pose(config, arrays, choose_inputs(config, inputs, size, batch, own, seed), seed)
    tell("oracle")
    undefined, parts = find_undefined(problem), []
    for form in formats:
        posed = replace(problem, dtype=form)
        outcomes, lacking = _measure_all(used, posed, tell)
        tell(say("rounding to {format}", format=form))
        mine, decides = classify or inputs is not None, form == formats[0] or bool(lacking)
        part = _compare_in(posed, outcomes, decides=decides, classify=mine)
        words = mark("{name} has no {format}: {own} decides for it")
        part.notes += [say(words, name=name, format=form, own=own) for name in lacking]
        parts.append(part)
    return Report(
        title=_title(problem, formats),
        rows=tuple(row for part in parts for row in part.rows),
        environment=tuple(f"{backend.name}: {backend.adapter.versions()}" for backend in used),
        notes=(*_notes(given), *(note for part in parts for note in part.notes)),
        undefined=undefined,
        distributions=tuple(each for part in parts for each in part.distributions),
        agreements=tuple(each for part in parts for each in part.agreements),
    )


def _title(problem: Problem, formats: Sequence[str]) -> str:
    return say(
        "cross-check of {config} in {formats}, input {shape}",
        config=problem.config.describe(),
        formats=join_texts(formats, say(" and ")),
        shape=" x ".join(map(str, problem.x.shape)),
    )


@dataclass
class _Part:
    """The part of a report that is about one format."""

    rows: list[Difference]
    notes: list[str] = field(default_factory=list)
    distributions: list[Distribution] = field(default_factory=list)
    agreements: list[Agreement] = field(default_factory=list)


def _compare_in(
    problem: Problem, outcomes: Mapping[str, Quantities], *, decides: bool, classify: bool
) -> _Part:
    """classify: whether to say if classifiers agree."""
    part = _Part(compare_all(problem, outcomes, decides=decides))
    if find_undefined(problem):
        return part
    part.notes = explain_rounding(problem)
    part.distributions = distribute(problem, outcomes, part.rows)
    if classify and isinstance(problem.config, NetworkConfig):
        expected = problem.expected["eval output"]["output"]
        part.agreements = [
            agree(outcome["eval output"]["output"], expected, name, problem.dtype)
            for name, outcome in outcomes.items()
        ]
    return part


def _computes_in(backend: Backend, dtype: str) -> bool:
    """Whether a framework on a device can compute in a format."""
    with precise((backend.framework,), dtype):
        return dtype != "float64" or bool(backend.adapter.holds_float64())


def _measure_all(
    used: Sequence[Backend], problem: Problem, tell: Callable[[str], None]
) -> tuple[dict[str, Quantities], list[str]]:
    """What each backend computes in the format, and the names of those that do not have it."""
    outcomes, lacking = {}, []
    for backend in used:
        tell(f"{backend.name}, {problem.dtype}")
        if _computes_in(backend, problem.dtype):
            outcomes[backend.name] = problem.measure(backend)
        else:
            lacking.append(backend.name)
    return outcomes, lacking


def distribute(
    problem: Problem, outcomes: Mapping[str, Quantities], rows: list[Difference]
) -> list[Distribution]:
    """How the errors of each quantity are distributed, for each outcome against the oracle."""
    found = []
    for name, outcome in outcomes.items():
        for quantity in QUANTITIES[1:]:
            pairs = (
                (outcome[quantity][tensor], array, problem.scales[quantity, tensor])
                for tensor, array in problem.expected[quantity].items()
            )
            own = (name, ORACLE, quantity)
            times = max(
                (row.times for row in rows if (row.actual, row.expected, row.quantity) == own),
                default=0.0,
            )
            if problem.expected[quantity]:
                figures = describe_errors(pairs)
                found.append(Distribution(quantity, problem.dtype, name, ORACLE, *figures, times))
    return found


def choose_inputs(
    config: Config,
    inputs: np.ndarray | None,
    size: tuple[int, int] | None,
    batch: int | None,
    dtype: str,
    seed: int,
) -> np.ndarray:
    """The images to compute with, in a dtype: those given, or random ones.

    Raises ArgumentError for what is not a batch of images.
    """
    if inputs is not None:
        return checked_inputs(inputs, config, dtype)
    sides = pair_of("size", probe_size(config) if size is None else size)
    usual = 8 if isinstance(config, BlockConfig) else 2
    count = at_least("batch", usual if batch is None else batch, 1)
    return random_input(config, sides, count, dtype, seed)


def _arrays(
    config: Config, arrays: Mapping[str, np.ndarray] | None, dtype: str | None, seed: int
) -> tuple[dict[str, np.ndarray], str]:
    """The weights to check, in their own format and not lower than float32, and that format."""
    if dtype is not None:
        one_of("dtype", dtype, EXACT_FORMATS)
    if arrays is None:
        arrays = random_arrays(config, dtype or "float32", seed)
    check(schema(config), arrays)
    own = dtype or np.result_type(np.float32, *(array.dtype for array in arrays.values())).name
    return {name: array.astype(own) for name, array in arrays.items()}, own


def _notes(config: Config) -> list[str]:
    """What the oracle is not."""
    unknown = [kind for kind in own_kinds(config) if ATTENTION[kind].graph is None]
    labels = {kind: FRAMEWORKS[framework_of_kind(kind)].label for kind in unknown}
    chance = (
        [say("training is compared without drop_path and dropout, whose random numbers differ")]
        if without_chance(config) != config
        else []
    )
    return chance + [
        say(
            "attention {kind!r} has no graph of its own: its {label} module, in "
            "float64, stands in for it",
            kind=kind,
            label=label,
        )
        for kind, label in labels.items()
    ]


def compare_all(
    problem: Problem, outcomes: Mapping[str, Quantities], *, decides: bool
) -> list[Difference]:
    """Rows for every outcome against the oracle, and for every two outcomes against each other.

    decides: whether these rows decide. If not, an outcome may also be `LIMIT_BY_PEERS` times as far
    from the oracle as the nearest other one; NumPy is the other one of a single outcome.
    """
    peers: dict[str, dict[TensorKey, float]] = {}
    if not decides:
        distances = {name: _distances(problem, outcome) for name, outcome in outcomes.items()}
        if len(distances) == 1:
            distances[NUMPY] = _distances(problem, problem.exact.peer(problem.dtype))
        for name in outcomes:
            others = [each for other, each in distances.items() if other != name]
            peers[name] = {key: min(other[key] for other in others) for key in others[0]}
    rows = []
    for name, outcome in outcomes.items():
        nearest = peers.get(name, {})
        rows += compare_quantities(
            problem, outcome, problem.expected, (name, ORACLE), nearest=nearest
        )
    for one, other in combinations(outcomes, 2):
        nearest = {
            key: distance + peers[other][key] for key, distance in peers.get(one, {}).items()
        }
        names = (one, other)
        rows += compare_quantities(
            problem, outcomes[one], outcomes[other], names, sides=2, nearest=nearest
        )
    return rows


def _distances(problem: Problem, outcome: Quantities) -> dict[TensorKey, float]:
    """The root mean square difference from the oracle, absolute."""
    with np.errstate(invalid="ignore", over="ignore"):
        return {
            key: float(np.sqrt(np.square(outcome[key[0]][key[1]] - array).mean()))
            for key, array in list_tensors(problem.expected)
            if key[0] != "weights"
        }


def compare_quantities(
    problem: Problem,
    actual: Quantities,
    against: Quantities,
    names: tuple[str, str],
    *,
    sides: int = 1,
    nearest: Mapping[TensorKey, float] | None = None,
) -> list[Difference]:
    """One row for every tensor of every quantity. Weights must be equal to the last bit.

    sides: 2 if both have rounding errors. nearest: how far the nearest peer is from the oracle.
    """
    axes = {parameter.name: parameter.axes for parameter in problem.graph.parameters}
    axes["input"] = "batch channel row col"
    axes["output"] = axes["input"] if isinstance(problem.config, BlockConfig) else "batch class"

    def judged(quantity: str, tensor: str) -> dict[str, Any]:
        if quantity == "weights":
            return {"tolerance": 0.0}
        explained = problem.rounding.explained[quantity, tensor]
        by_peers = LIMIT_BY_PEERS * (nearest or {}).get((quantity, tensor), 0.0)
        times = by_peers / explained if explained else 0.0
        limit = max(sides * LIMIT, times) if np.isfinite(times) else sides * LIMIT
        return {"tolerance": limit, "explained": explained, "dtype": problem.dtype}

    return [
        difference(
            *_without_common_nan(actual[quantity][tensor], against[quantity][tensor], quantity),
            scale=problem.scales[quantity, tensor],
            quantity=quantity,
            tensor=tensor,
            names=names,
            axes=axes[tensor],
            **judged(quantity, tensor),
        )
        for quantity in (QUANTITIES if not find_undefined(problem) else QUANTITIES[:1])
        for tensor in problem.expected[quantity]
    ]


def judge_output(problem: Problem, output: np.ndarray, name: str) -> Difference:
    """The output of a function that computes a model in evaluation, such as that of `deploy`,
    against the oracle. name: of the function, for the report.
    """
    key = ("eval output", "output")
    return difference(
        output,
        problem.expected[key[0]][key[1]],
        scale=problem.scales[key],
        quantity=key[0],
        tensor=key[1],
        names=(name, ORACLE),
        tolerance=LIMIT,
        explained=problem.rounding.explained[key],
        dtype=problem.dtype,
    )


def _without_common_nan(
    one: np.ndarray, other: np.ndarray, quantity: str
) -> tuple[np.ndarray, np.ndarray]:
    """Two versions of a weight, with 0 where both are not finite: they agree there."""
    if quantity != "weights" or np.isfinite(one).all() or one.shape != other.shape:
        return one, other
    both = ~np.isfinite(one) & ~np.isfinite(other)
    return np.where(both, 0, one), np.where(both, 0, other)


def check_model(backend: Backend, model: object, problem: Problem) -> Report:
    """A live model against the oracle, whatever the model holds and however it computes: for models
    that were changed.
    """
    with precise((backend.framework,), problem.dtype):
        outcome = measure(model, problem.x, problem.cotangent)
    rows = compare_quantities(problem, outcome, problem.expected, (backend.name, ORACLE))
    title = say(
        "{name} against the oracle, {config} in {dtype}",
        name=backend.name,
        config=problem.config.describe(),
        dtype=problem.dtype,
    )
    notes = tuple(explain_rounding(problem))
    return Report(title, tuple(rows), notes=notes, undefined=find_undefined(problem))


def find_undefined(problem: Problem) -> str:
    """Where and why the oracle's numbers are not finite, in a sentence; "" if all are."""
    if problem.exact.is_finite:
        return ""
    for name, array in problem.exact.arrays.items():
        if not np.isfinite(array).all():
            place = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
            return say(
                "{name} holds {value} at {place}, so there is nothing to compare.",
                name=name,
                value=array[place],
                place=place,
            )
    with np.errstate(all="ignore"):
        for mode in MODES:
            made = stages(
                problem.graph, problem.exact.arrays, problem.exact.x, training=mode == "train"
            )
            for stage in made.stages.values():
                if not np.isfinite(stage.computed.value).all():
                    return _describe_undefined(stage, problem.exact.arrays, mode)
    return say("the gradients are not finite, so there is nothing to compare.")


def _describe_undefined(stage: Stage, arrays: Mapping[str, np.ndarray], mode: str) -> str:
    value = stage.computed.value
    channel = int(np.argwhere(~np.isfinite(value))[0][1])
    what = "NaN" if np.isnan(value).any() else say("infinity")
    found = say(
        "{stage} computes {what} in {mode}, first in channel {channel}",
        stage=stage.name,
        what=what,
        mode=say(MODE_NAMES[mode]),
        channel=channel,
    )
    variance = arrays.get(f"{stage.module}.running_var")
    if variance is not None and variance[channel] < 0:
        found = say(
            "{found}, where {stage}.running_var is negative ({number:.3g})",
            found=found,
            stage=stage.module,
            number=variance[channel],
        )
    return say("{found}; so there is nothing to compare.", found=found)


def explain_rounding(problem: Problem) -> list[str]:
    """What the format cannot decide, in sentences; nothing if it decides everything."""
    notes, dtype = [], problem.dtype
    for mode, count in problem.rounding.undecided.items():
        if count:
            values = say("1 value") if count == 1 else say("{count:,} values", count=count)
            notes.append(
                say(
                    "{dtype} cannot decide the side of {values} at the kink of a relu or "
                    "maximum in {mode}; gradients may jump there",
                    dtype=dtype,
                    values=values,
                    mode=say(MODE_NAMES[mode]),
                )
            )
    lost, overflown = [], []
    for (quantity, tensor), explained in problem.rounding.explained.items():
        scale = problem.scales[quantity, tensor]
        if not np.isfinite(explained):
            overflown.append(join_texts((say(quantity), tensor), " "))
        elif explained > UNDECIDED * scale > 0:
            lost.append(join_texts((say(quantity), tensor), " "))
    if overflown:
        notes.append(
            say(
                "{dtype} overflows in {tensors}: nothing is judged there",
                dtype=dtype,
                tensors=_list_some(overflown),
            )
        )
    if lost:
        notes.append(
            say(
                "{dtype} cannot determine {tensors}: rounding explains more than "
                "{share:.0%} of the magnitude",
                dtype=dtype,
                tensors=_list_some(lost),
                share=UNDECIDED,
            )
        )
    return notes


def _list_some(names: list[str], most: int = 3) -> str:
    shown = join_texts(names[:most], ", ")
    return (
        say("{names} and {count} more", names=shown, count=len(names) - most)
        if len(names) > most
        else shown
    )


def _names(what: str, names: str | tuple[str, ...]) -> tuple[str, ...]:
    """A tuple of names; one alone may come as a string."""
    names = (names,) if isinstance(names, str) else tuple(names)
    if not names:
        raise ArgumentError(say("{name}: expected at least one, got none", name=what))
    return tuple(map(framework_key, names)) if what == "frameworks" else names

"""The trace: the same input through several models, stage by stage, and which stage is the first to
differ, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resattn.checking.backends import backends, precise
from resattn.checking.draws import random_arrays, random_cotangent
from resattn.checking.problem import checked_inputs, draw, near_kink
from resattn.checking.tolerances import tolerance
from resattn.oracle import evaluation as reference
from resattn.oracle.node import backward
from resattn.tracing.findings import ORACLE, Finding, Trace, where
from resattn.tracing.judge import Judge, axes_of
from weights import Difference, difference, export, schema
from weights.checks import at_least, pair_of
from weights.config import BlockConfig, Config
from weights.convert import check
from weights.errors import ArgumentError
from weights.graph import IMAGE, probe_size
from weights.live import framework_of, owner, part
from weights.stages import Recording

MODES = ("eval", "train")
TOLERANCES = {
    "forward": "eval output",
    "backward": "eval gradient",
    "statistics": "train statistics",
}


@dataclass(frozen=True)
class Mapped:
    """A model of a user's own that computes what a block or a network of ours does, or holds
    something that does.

    model: any PyTorch module, Flax module or Keras layer. stages: for each stage that it has, the
    path of the module whose output it is: {"conv1": "layer1.0.conv1", "output": "layer1.0"}.
    Without "output" (of a network: "classifier") the model's own output is meant. Paths are
    attributes and indices; in a functional Keras model also layers' names.
    """

    model: Any
    stages: Mapping[str, str]


def trace(
    models: Mapping[str, Any],
    inputs: np.ndarray,
    *,
    config: Config | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    modes: Sequence[str] = MODES,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Trace:
    """Runs the same input through models, compares them stage by stage, and explains what differs.

    models: by the name that the report calls them, each one of ours (a block or a network of any of
    the three packages), a `Mapped` model of your own, or a `Recording` of outputs in evaluation.
    inputs: (batch, channels, height, width).
    config, arrays: what the models should be; by default what the first of ours is and holds.
    modes: "eval", "train". Models are left as they were. Raises ArgumentError for bad inputs and for
    stages that do not exist, WeightsError for arrays that do not fit the config.
    """
    if not models or not set(modes) <= set(MODES):
        raise ArgumentError(
            f"models, modes: expected at least one model and some of {', '.join(MODES)}, got "
            f"{list(modes)}"
        )
    config, arrays = _meant(models, config, arrays)
    check(schema(config), arrays)
    dtype = min((array.dtype for array in arrays.values()), key=lambda kind: kind.itemsize).name
    tolerance(dtype, "eval output")  # refuses other dtypes
    x = checked_inputs(inputs, None if _hold_blocks(models) else config, dtype)
    rows: list[Difference] = []
    findings: list[Finding] = []
    margin = float("inf")
    notes: set[str] = set()
    for mode in modes:
        recordings = _recorded(models, x, config, dtype, mode, seed, progress)
        known: dict[tuple[Any, ...], tuple[Recording, float]] = {}  # most models are given the same
        for model, recording in recordings.items():
            given = x if recording.received is None else recording.received
            if not np.isfinite(given).all():
                raise ArgumentError(
                    f"{model}: what its first stage is given is not finite everywhere"
                )
            key = (given.shape, given.tobytes())
            if key not in known:
                known[key] = _oracle(config, arrays, given, dtype, mode, seed)
            right, near = known[key]
            recording = _shaped(recording, right)
            _check_stages(
                model, recording, right, strict=isinstance(models[model], (Mapped, Recording))
            )
            compared = _compared(model, mode, dtype, recording, right, recordings)
            judge = Judge(
                model, mode, config, arrays, dtype, recording, x, given, right, compared, progress
            )
            found = list(judge.findings())
            if judge.has_prefix:
                notes.add(
                    f"{model} gives its first stage something else than the input; what it does in "
                    "front was not compared"
                )
            findings += found or _backward(model, mode, recording, right, compared)
            rows += compared
            margin = min(margin, near)
    notes |= {near_kink(margin, dtype)} if any(finding.backward for finding in findings) else set()
    notes |= set() if findings else {_grown(rows)}
    title = f"trace of {config.describe()} in {dtype}, input {' x '.join(map(str, x.shape))}"
    return Trace(
        title, tuple(rows), tuple(findings), notes=tuple(sorted(note for note in notes if note))
    )


def trace_frameworks(
    config: Config,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    frameworks: tuple[str, ...],
    devices: tuple[str, ...] = ("cpu",),
    dtype: str | None = None,
    inputs: np.ndarray | None = None,
    expected: Mapping[str, np.ndarray] | None = None,
    size: tuple[int, int] | None = None,
    batch: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Trace:
    """The trace of the same weights in several frameworks, as `resattn check --trace` shows it.

    expected: outputs from elsewhere for the same inputs in evaluation, by stage: "output" (of a
    network: "classifier") is the model's own. They are judged as one more model. The rest is as in
    `crosscheck`.
    """
    arrays = random_arrays(config, dtype or "float32", seed) if arrays is None else arrays
    check(schema(config), arrays)
    dtype = dtype or np.result_type(np.float32, *(array.dtype for array in arrays.values())).name
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    used = backends(frameworks, devices)
    if inputs is None:
        if expected is not None:
            raise ArgumentError(
                "expected: outputs are those of certain inputs; give these, too (--inputs)"
            )
        progress("draw inputs")
        sides = pair_of("size", probe_size(config) if size is None else size)
        inputs = draw(config, arrays, sides, at_least("batch", batch, 1), dtype, seed).x
    inputs = checked_inputs(inputs, config, dtype)
    with precise(frameworks, dtype):
        models: dict[str, Any] = {backend.name: backend.build(config, arrays) for backend in used}
        notes: list[str] = []
        if expected is not None:
            models["expected"], notes = _expected(config, arrays, inputs, expected)
        modes = MODES if expected is None else ("eval",)
        found = trace(
            models, inputs, config=config, arrays=arrays, modes=modes, seed=seed, progress=progress
        )
    environment = tuple(f"{backend.name}: {backend.adapter.versions()}" for backend in used)
    return Trace(found.title, found.rows, found.findings, environment, (*found.notes, *notes))


def last_stage(config: Config) -> str:
    """The stage that is the model's own output."""
    return "output" if isinstance(config, BlockConfig) else "classifier"


def _expected(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    expected: Mapping[str, np.ndarray],
) -> tuple[Recording, list[str]]:
    """Outputs from elsewhere as a recording, channels in front, and a note on each that had them
    behind.

    Raises ArgumentError for stages and shapes that the model does not have.
    """
    if not expected:
        raise ArgumentError("expected: expected the output or stages by name, got none")
    made = reference.stages(config, arrays, inputs, training=False).stages
    known = {name: stage for name, stage in made.items() if name != IMAGE}
    values, notes = {}, []
    for name, array in expected.items():
        if name not in known:
            raise ArgumentError(
                f"expected: there is no stage {name!r}; the stages are {', '.join(known)}"
            )
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise ArgumentError(
                f"expected: {name}: expected an array of real numbers, got "
                f"{getattr(array, 'dtype', type(array))}"
            )
        shape = known[name].computed.shape
        values[name] = array
        if array.shape != shape and array.ndim == 4 and np.moveaxis(array, -1, 1).shape == shape:
            values[name] = np.moveaxis(array, -1, 1)
            notes.append(
                f"expected {name} is {array.shape}, so its axes were taken as (batch row col "
                "channel)"
            )
        if values[name].shape != shape:
            raise ArgumentError(
                f"expected: {name}: expected {shape} ({axes_of(shape)}), got {array.shape}"
            )
    return Recording({name: values[name] for name in known if name in values}), notes


def _meant(
    models: Mapping[str, Any], config: Config | None, arrays: Mapping[str, np.ndarray] | None
) -> tuple[Config, Mapping[str, np.ndarray]]:
    """What the models should be: as given, or as the first of ours."""
    ours = [model for model in models.values() if not isinstance(model, (Mapped, Recording))]
    if ORACLE in models:
        raise ArgumentError(
            f"models: {ORACLE!r} is what the report calls NumPy; give the model another name"
        )
    for name, model in models.items():
        if isinstance(model, Mapped) and "input" in model.stages:
            raise ArgumentError(
                f"stages: {name}: the input is no stage; map conv1 (or stem.conv), which is given "
                "it"
            )
    for model in ours:
        framework_of(model)
    if not ours and (config is None or arrays is None):
        raise ArgumentError(
            "models: none of them is ours, so config and arrays must say what they should be"
        )
    return ours[0].config if config is None else config, export(
        ours[0]
    ) if arrays is None else arrays


def _hold_blocks(models: Mapping[str, Any]) -> bool:
    """Whether the inputs are for models that may only hold a block, and so can be anything."""
    return any(isinstance(model, Mapped) for model in models.values())


def _recorded(
    models: Mapping[str, Any],
    x: np.ndarray,
    config: Config,
    dtype: str,
    mode: str,
    seed: int,
    progress: Callable[[str], None],
) -> dict[str, Recording]:
    """A recording of each model. One that only holds a block gives the input for those that are
    one.
    """
    recordings: dict[str, Recording] = {}
    inner = x
    for name, model in sorted(models.items(), key=lambda item: not isinstance(item[1], Mapped)):
        progress(f"{mode}, run {name}")
        if isinstance(model, Recording):
            recordings |= {name: model} if mode == "eval" else {}
            continue
        live, stages, image = (
            (model.model, model.stages, x) if isinstance(model, Mapped) else (model, None, inner)
        )
        recordings[name] = part(owner(live), "bridge.recorder").trace(
            live,
            image,
            lambda shape: random_cotangent(shape, dtype, seed),
            training=mode == "train",
            last=last_stage(config),
            stages=stages,
        )
        if isinstance(model, Mapped):
            recordings[name] = replace(
                recordings[name], slopes=_without_input(recordings[name].slopes)
            )
            inner = x if recordings[name].received is None else recordings[name].received
    return {name: recordings[name] for name in models if name in recordings}


def _without_input(slopes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A model that holds a block may be given something else than the block."""
    return {name: slope for name, slope in slopes.items() if name != "input"}


def _oracle(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    x: np.ndarray,
    dtype: str,
    mode: str,
    seed: int,
) -> tuple[Recording, float]:
    """The oracle's own recording, and how near it came to a kink."""
    made = reference.stages(config, arrays, x, training=mode == "train")
    backward(made.output, random_cotangent(made.output.shape, dtype, seed).astype(np.float64))
    nodes = {name: stage.computed for name, stage in made.stages.items()}
    slopes = {name: node.slope for name, node in nodes.items() if node.slope is not None}
    values = {name: node.value for name, node in nodes.items()}
    return Recording(values, slopes, made.state.statistics), made.state.margin


def _shaped(recording: Recording, right: Recording) -> Recording:
    """The same arrays, in the oracle's shapes where only axes of size 1 are elsewhere."""

    def fitting(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: _alike(array, right.values.get(name)) for name, array in arrays.items()}

    return replace(recording, values=fitting(recording.values), slopes=fitting(recording.slopes))


def _alike(array: np.ndarray, right: np.ndarray | None) -> np.ndarray:
    if right is None or right.shape == array.shape:
        return array
    sides, others = ([side for side in each.shape if side > 1] for each in (array, right))
    return array.reshape(right.shape) if sides == others else array


def _check_stages(model: str, recording: Recording, right: Recording, strict: bool) -> None:
    """Raises ArgumentError for stages that the oracle has in another shape or, if strict, not at
    all.
    """
    for name, array in recording.values.items():
        if name not in right.values:
            if strict:
                raise ArgumentError(
                    f"stages: {model}: there is no stage {name!r}; the stages are "
                    f"{', '.join(right.values)}"
                )
        elif name != "input" and array.shape != right.values[name].shape:
            shape = right.values[name].shape
            raise ArgumentError(
                f"{model}: {name}: expected {shape} ({axes_of(shape)}), got {array.shape}: its "
                "stride, padding or channels are others, or it is not the stage of that name"
            )


def _compared(
    model: str,
    mode: str,
    dtype: str,
    recording: Recording,
    right: Recording,
    others: Mapping[str, Recording],
) -> list[Difference]:
    """One row for every stage, against the oracle or, where that has no such stage, against the
    first model that has.
    """
    rows = []
    for way, kind in (("forward", "values"), ("statistics", "statistics"), ("backward", "slopes")):
        if way == "statistics" and mode != "train":
            continue
        sources = {
            ORACLE: getattr(right, kind),
            **{name: getattr(other, kind) for name, other in others.items()},
        }
        for stage, array in getattr(recording, kind).items():
            fitting = [
                name
                for name, held in sources.items()
                if stage in held and held[stage].shape == array.shape
            ]
            if fitting[0] != model and array.size and (stage, way) != ("input", "forward"):
                rows.append(
                    difference(
                        array,
                        sources[fitting[0]][stage],
                        tolerance=tolerance(dtype, TOLERANCES[way]),
                        quantity=f"{mode} {way}",
                        tensor=stage,
                        names=(model, fitting[0]),
                        axes=axes_of(array.shape),
                    )
                )
    return rows


def _grown(rows: Sequence[Difference]) -> str:
    """What to say where stages are over their tolerance though every one computes what it
    should.
    """
    over = [row for row in rows if not row.ok]
    if not over:
        return ""
    worst = max(over, key=lambda row: row.excess)
    return (
        f"rounding grows on the way: {worst.quantity}, {worst.tensor} of {worst.actual} is "
        f"{worst.relative:.1e} away, over its tolerance {worst.tolerance:.0e}, though every stage "
        "is right for what it was given"
    )


def _backward(
    model: str, mode: str, recording: Recording, right: Recording, rows: list[Difference]
) -> list[Finding]:
    """The first stage, going back from the output, whose gradient differs, in a model that agrees
    forward.
    """
    agrees = None
    known = {row.tensor: row for row in rows if row.quantity.endswith("backward")}
    for stage in reversed([stage for stage in recording.slopes if stage in known]):
        row = known[stage]
        if not row.ok:
            part = (
                where(recording.slopes[stage], right.slopes[stage], row.tolerance)
                if row.expected == ORACLE
                else ""
            )
            return [Finding(model, mode, stage, agrees, row, part, backward=True)]
        agrees = (stage, row.relative)
    return []

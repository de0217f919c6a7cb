"""The trace: which stage of a model is the first to differ, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from resattn.checking.backends import backends, precise
from resattn.checking.crosscheck import ORACLE
from resattn.checking.draws import random_arrays, random_cotangent
from resattn.checking.problem import checked_inputs, draw_problem
from resattn.checking.progress import StepCounter
from resattn.checking.rounding import MODES
from resattn.checking.tolerances import tolerance
from resattn.oracle import evaluation as reference
from resattn.recognition.endings import last_stage, leave_out_activations
from resattn.tracing.comparison import Right, Target, compare_stages, record_oracle
from resattn.tracing.findings import Finding, Trace, locate
from resattn.tracing.judge import Judge, name_axes
from resattn.tracing.mapped import Mapped, map_unmapped
from resattn.tracing.received import leave_out_resized, take_received
from resattn.tracing.sampling import Recorded, list_recorded
from weights import Difference, export, schema
from weights.checks import at_least, pair_of
from weights.config import Config
from weights.convert import BFLOAT16, check
from weights.errors import ArgumentError
from weights.frameworks import framework_key
from weights.graph import IMAGE, probe_size
from weights.language import join_texts, mark, say
from weights.live import framework_of, owner, part
from weights.stages import Recording


@dataclass(frozen=True)
class _Outcome:
    """The outcome for one model in one mode. margin: how near a value came to a kink. notes: what
    could not be compared.
    """

    model: str
    rows: list[Difference]
    findings: list[Finding]
    margin: float
    has_prefix: bool
    notes: list[str]


def trace(
    models: Mapping[str, Any],
    inputs: np.ndarray,
    *,
    config: Config | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    modes: Sequence[str] = MODES,
    seed: int = 0,
    explain: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> Trace:
    """Runs the same input through models, compares them stage by stage, and explains what differs.

    models: by their names in the report, each one of ours (a block or a network of any of the three
    packages), a model of your own, which is recognised or given as `Mapped`, a `Recording` of
    outputs in evaluation, or what was `Recorded` in both modes.
    inputs: (batch, channels, height, width).
    config, arrays: what the models should be; by default those of the first of our models, or of
    the first that is recognised.
    modes: "eval", "train". explain: whether to search for causes. progress: called with a line
    before each step. Models are not changed.
    Raises ArgumentError for bad inputs and for stages that do not exist, ModelError for a model of
    your own that is none of our blocks or networks, WeightsError for arrays that do not fit the
    config.
    """
    if not models or not set(modes) <= set(MODES):
        words = mark("models, modes: expected at least one model and some of {modes}, got {given}")
        raise ArgumentError(say(words, modes=", ".join(MODES), given=list(modes)))
    models, config, arrays, taken = map_unmapped(models, inputs, config, arrays)
    config, arrays = _choose_target(models, config, arrays)
    check(schema(config), arrays)
    dtype = min((array.dtype for array in arrays.values()), key=lambda kind: kind.itemsize).name
    tolerance(dtype, "eval output")  # refuses other dtypes
    x = checked_inputs(inputs, None if _may_hold_blocks(models) else config, dtype)
    target = Target(config, arrays, dtype, seed)
    tell = StepCounter(progress, 2 * len(modes) * len(models))
    outcomes = [
        outcome for mode in modes for outcome in _trace_mode(models, x, target, mode, tell, explain)
    ]
    rows = [row for outcome in outcomes for row in outcome.rows]
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    notes = {*taken, *(note for outcome in outcomes for note in _list_notes(outcome))}
    if any(finding.backward for finding in findings):
        notes.add(_near_kink(min(outcome.margin for outcome in outcomes), dtype))
    if not findings:
        notes.add(_describe_rounding(rows))
    words, shape = (
        mark("trace of {config} in {dtype}, input {shape}"),
        " x ".join(map(str, x.shape)),
    )
    title = say(words, config=config.describe(), dtype=dtype, shape=shape)
    return Trace(
        title, tuple(rows), tuple(findings), notes=tuple(sorted(note for note in notes if note))
    )


def _list_notes(outcome: _Outcome) -> Iterator[str]:
    words = mark("{model} changes its input before its first stage; that part was not compared")
    if outcome.has_prefix:
        yield say(words, model=outcome.model)
    for note in outcome.notes:
        yield join_texts((outcome.model, note), ": ")


def _near_kink(margin: float, dtype: str) -> str:
    """What to say of gradients where a value comes that near to its kink; "" if it is clear."""
    if margin >= 32 * np.finfo(dtype).eps:
        return ""
    return say(
        "a relu or maximum comes within {margin:.0e} of its kink, relative to its "
        "tensor: {dtype} rounding may put it on the other side, and gradients differ for "
        "that alone",
        margin=margin,
        dtype=dtype,
    )


def _trace_mode(
    models: Mapping[str, Any],
    x: np.ndarray,
    target: Target,
    mode: str,
    tell: StepCounter,
    explain: bool,
) -> Iterator[_Outcome]:
    """The outcome of each model in one mode."""
    recordings = record_models(models, x, target, mode, tell)
    known: dict[tuple[Any, ...], Right] = {}  # most models have the same input
    for model in models:
        tell(say("{mode}, compare {model}", mode=say(mode), model=model))
        if model not in recordings:
            continue
        recording = recordings[model]
        given = x if recording.received is None else recording.received
        if not np.isfinite(given).all():
            raise ArgumentError(
                say("{model}: the input of its first stage is not finite everywhere", model=model)
            )
        key = (given.shape, given.tobytes())
        if key not in known:
            known[key] = record_oracle(target, given, mode)
        right, margin = known[key].recording, known[key].margin
        strict = isinstance(models[model], (Mapped, Recording))
        recording, notes = fit_recording(model, recording, right, target.config, strict)
        rows = compare_stages(model, mode, target.dtype, recording, known[key], recordings)
        judge = Judge(
            model=model,
            mode=mode,
            config=target.config,
            arrays=target.arrays,
            dtype=target.dtype,
            recording=recording,
            x=x,
            given=given,
            right=right,
            rows=rows,
            progress=tell.show,
            explain=explain,
        )
        findings = list(judge.findings())
        findings = findings or _find_backward(model, mode, recording, right, rows)
        yield _Outcome(model, rows, findings, margin, judge.has_prefix, notes)


def trace_frameworks(
    config: Config,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    frameworks: tuple[str, ...],
    devices: tuple[str, ...] = ("cpu",),
    dtype: str | None = None,
    inputs: np.ndarray | None = None,
    expected: Mapping[str, np.ndarray] | None = None,
    expected_name: str = "expected",
    others: Mapping[str, Any] | None = None,
    size: tuple[int, int] | None = None,
    batch: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> Trace:
    """The trace of the same weights in several frameworks, as `resattn check --trace` shows it.

    expected: outputs from elsewhere for the same inputs in evaluation, by stage. The output of the
    model is "output" (of a network: "classifier"). They are traced as one more model, which is
    called `expected_name` in the report.
    others: more models, as in `trace`; `inputs`, which are then needed, are theirs.
    The other arguments are those of `crosscheck`.
    """
    arrays = random_arrays(config, dtype or "float32", seed) if arrays is None else arrays
    check(schema(config), arrays)
    dtype = dtype or np.result_type(np.float32, *(array.dtype for array in arrays.values())).name
    arrays = {name: array.astype(dtype) for name, array in arrays.items()}
    frameworks = tuple(map(framework_key, frameworks))
    progress(say("import {frameworks}", frameworks=", ".join(frameworks)))
    used = backends(frameworks, devices)
    if inputs is None:
        if expected is not None:
            raise ArgumentError(
                say("expected: the outputs belong to certain inputs; give these, too (--inputs)")
            )
        progress(say("draw inputs"))
        sides = pair_of("size", probe_size(config) if size is None else size)
        inputs = draw_problem(config, arrays, sides, at_least("batch", batch, 1), dtype, seed).x
    x = checked_inputs(inputs, None if others else config, dtype)
    with precise(frameworks, dtype):
        models: dict[str, Any] = {backend.name: backend.build(config, arrays) for backend in used}
        models |= others or {}
        notes: list[str] = []
        if expected is not None:
            models[expected_name], notes = _record_expected(config, arrays, x, expected)
        modes = MODES if expected is None else ("eval",)
        found = trace(
            models, x, config=config, arrays=arrays, modes=modes, seed=seed, progress=progress
        )
    environment = tuple(f"{backend.name}: {backend.adapter.versions()}" for backend in used)
    return Trace(found.title, found.rows, found.findings, environment, (*found.notes, *notes))


def _record_expected(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    expected: Mapping[str, np.ndarray],
) -> tuple[Recording, list[str]]:
    """Outputs from elsewhere as a recording, channels first, and a note on each that was channels
    last.

    Raises ArgumentError for stages and shapes that the model does not have.
    """
    if not expected:
        raise ArgumentError(say("expected: expected the output or stages by name, got none"))
    made = reference.stages(config, arrays, inputs, training=False).stages
    known = {name: stage for name, stage in made.items() if name != IMAGE}
    values, notes = {}, []
    for name, array in expected.items():
        if name not in known:
            raise ArgumentError(
                say(
                    "expected: there is no stage {stage!r}; the stages are {stages}",
                    stage=name,
                    stages=", ".join(known),
                )
            )
        numbers = isinstance(array, np.ndarray) and (
            array.dtype.kind in "fiu" or array.dtype == BFLOAT16
        )
        if not numbers:
            raise ArgumentError(
                say(
                    "expected: {name}: expected an array of real numbers, got {found}",
                    name=name,
                    found=getattr(array, "dtype", type(array)),
                )
            )
        shape = known[name].computed.shape
        values[name] = array
        if array.shape != shape and array.ndim == 4 and np.moveaxis(array, -1, 1).shape == shape:
            values[name] = np.moveaxis(array, -1, 1)
            notes.append(
                say(
                    "expected {name} has the shape {shape}, so its axes were taken as "
                    "(batch row col channel)",
                    name=name,
                    shape=array.shape,
                )
            )
        if values[name].shape != shape:
            raise ArgumentError(
                say(
                    "expected: {name}: expected {shape} ({axes}), got {found}",
                    name=name,
                    shape=shape,
                    axes=name_axes(shape),
                    found=array.shape,
                )
            )
    return Recording({name: values[name] for name in known if name in values}), notes


def _choose_target(
    models: Mapping[str, Any], config: Config | None, arrays: Mapping[str, np.ndarray] | None
) -> tuple[Config, Mapping[str, np.ndarray]]:
    """The config and the arrays that the models should have: those given, or those of the first
    model of ours.
    """
    theirs = (Mapped, Recording, Recorded)
    ours = [model for model in models.values() if not isinstance(model, theirs)]
    if ORACLE in models:
        raise ArgumentError(
            say(
                "models: {oracle!r} is the name of NumPy in the report; give the model another "
                "name",
                oracle=ORACLE,
            )
        )
    for name, model in models.items():
        if isinstance(model, Mapped) and IMAGE in model.stages:
            raise ArgumentError(
                say(
                    "stages: {name}: the input is not a stage; map conv1 (or stem.conv) instead, "
                    "which takes it",
                    name=name,
                )
            )
    for model in ours:
        framework_of(model)
    if not ours and (config is None or arrays is None):
        raise ArgumentError(say("models: none of them is ours, so config and arrays are needed"))
    config = ours[0].config if config is None else config
    return config, export(ours[0]) if arrays is None else arrays


def _may_hold_blocks(models: Mapping[str, Any]) -> bool:
    """Whether the inputs may be for a model that only contains a block, and so have any shape."""
    return any(isinstance(model, (Mapped, Recorded)) for model in models.values())


def record_models(
    models: Mapping[str, Any],
    x: np.ndarray,
    target: Target,
    mode: str,
    tell: StepCounter,
) -> dict[str, Recording]:
    """A recording of each model. If a mapped model only contains a block, our models get the input
    of that block.
    """
    recordings: dict[str, Recording] = {}
    inner = x
    for name, model in sorted(models.items(), key=lambda item: not isinstance(item[1], Mapped)):
        tell(say("{mode}, run {name}", mode=say(mode), name=name))
        if isinstance(model, Recorded):
            recordings |= {name: model.modes[mode]} if mode in model.modes else {}
        elif isinstance(model, Recording):
            recordings |= {name: take_received(model, x, target.config)} if mode == "eval" else {}
        elif isinstance(model, Mapped):
            with leave_out_activations(model.model, model.bare):
                found = _record_model(model.model, x, target, mode, model.stages)
            found = take_received(found, x, target.config)
            # It may contain a block only, whose input is another than the model's.
            slopes = {stage: slope for stage, slope in found.slopes.items() if stage != IMAGE}
            recordings[name] = replace(found, slopes=slopes)
            inner = x if found.received is None else found.received
        else:
            recordings[name] = _record_model(model, inner, target, mode, None)
    return {name: recordings[name] for name in models if name in recordings}


def _record_model(
    live: Any, x: np.ndarray, target: Target, mode: str, stages: Mapping[str, str] | None
) -> Recording:
    recording: Recording = part(owner(live), "bridge.recorder").trace(
        live,
        x,
        lambda shape: random_cotangent(shape, target.dtype, target.seed),
        training=mode == "train",
        last=last_stage(target.config),
        stages=stages,
    )
    return recording


def fit_recording(
    model: str, recording: Recording, right: Recording, config: Config, strict: bool
) -> tuple[Recording, list[str]]:
    """A recording as the oracle's has its shapes, and its notes.

    strict: whether every stage must be one of the oracle's. Raises ArgumentError for a stage of
    another shape.
    """
    recording = _reshape_recording(recording, right)
    recording, notes = leave_out_resized(recording, right, config)
    _check_stages(model, recording, right, strict)
    return recording, notes


def _reshape_recording(recording: Recording, right: Recording) -> Recording:
    """The recording with the oracle's shapes, where only axes of size 1 are in other places."""

    def reshape(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            name: _reshape_like(array, right.values.get(name)) for name, array in arrays.items()
        }

    return replace(recording, values=reshape(recording.values), slopes=reshape(recording.slopes))


def _reshape_like(array: np.ndarray, right: np.ndarray | None) -> np.ndarray:
    if right is None or right.shape == array.shape:
        return array
    sides, others = ([side for side in each.shape if side > 1] for each in (array, right))
    return array.reshape(right.shape) if sides == others else array


def _check_stages(model: str, recording: Recording, right: Recording, strict: bool) -> None:
    """Raises ArgumentError for stages that the oracle has in another shape or, if strict, not at
    all.
    """
    for name, array in list_recorded(recording, "values").items():
        if name not in right.values:
            if strict:
                raise ArgumentError(
                    say(
                        "stages: {model}: there is no stage {name!r}; the stages are {stages}",
                        model=model,
                        name=name,
                        stages=", ".join(right.values),
                    )
                )
        elif name != IMAGE and array.shape != right.values[name].shape:
            shape = right.values[name].shape
            raise ArgumentError(
                say(
                    "{model}: {name}: expected {shape} ({axes}), got {found}: its stride, padding "
                    "or channels differ, or it is not the stage of that name",
                    model=model,
                    name=name,
                    shape=shape,
                    axes=name_axes(shape),
                    found=array.shape,
                )
            )


def _find_backward(
    model: str, mode: str, recording: Recording, right: Recording, rows: list[Difference]
) -> list[Finding]:
    """For a model that agrees forward: the first stage, going back from the output, whose gradient
    differs.
    """
    agrees = None
    known = {row.tensor: row for row in rows if row.quantity.endswith("backward")}
    for stage in reversed(
        [stage for stage in list_recorded(recording, "slopes") if stage in known]
    ):
        row = known[stage]
        if not row.ok:
            where = say("in its sample")
            if row.expected != ORACLE:
                where = ""
            elif stage in recording.slopes:
                where = locate(recording.slopes[stage], right.slopes[stage], row.tolerance)
            return [Finding(model, mode, stage, agrees, row, where, backward=True)]
        agrees = (stage, row.relative)
    return []


def _describe_rounding(rows: Sequence[Difference]) -> str:
    """A note if stages exceed their tolerance though none of them is wrong; else ""."""
    over = [row for row in rows if not row.ok]
    if not over:
        return ""
    worst = max(over, key=lambda row: row.excess)
    return say(
        "rounding errors accumulate: {quantity}, {tensor} of {model} differs by "
        "{apart:.1e}, more than its tolerance {tolerance:.0e}, but every stage is right "
        "for its inputs",
        quantity=say(worst.quantity),
        tensor=worst.tensor,
        model=worst.actual,
        apart=worst.relative,
        tolerance=worst.tolerance,
    )

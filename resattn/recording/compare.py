"""`compare`: what differs between recorded runs, where they part, and why. No framework needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from resattn.recording.comparison import (
    Comparison,
    EnvironmentDifference,
    PairwiseDifference,
    Parting,
)
from resattn.recording.file import read_run
from resattn.recording.run import LOSS, RECORDED_MODEL, RecordedTensor, Run, list_held
from resattn.tracing.findings import Finding, Trace
from resattn.tracing.judge import name_axes
from resattn.tracing.sampling import Recorded, compare_recorded
from resattn.tracing.trace import trace
from weights import Difference, schema
from weights.checks import list_names
from weights.convert import check
from weights.errors import ArgumentError
from weights.fingerprint import fingerprint, fingerprint_all

Source = Run | str | os.PathLike[str]


def compare(
    *runs: Source,
    names: Sequence[str] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Compares runs that were recorded anywhere, and explains what differs. Needs no framework.

    runs: two or more, as `record` made them, or their files. names: of them in the report, by
    default those of the files.
    arrays: the weights of the runs, canonical. To find the cause of a difference takes them, unless
    one of the runs was recorded whole. progress: called with a line before each step.
    Raises ArgumentError for fewer than two runs, and for other weights than those of the runs;
    what `read_run` raises.
    """
    if len(runs) < 2:
        raise ArgumentError(f"compare: expected two or more recordings, got {len(runs)}")
    read = [run if isinstance(run, Run) else read_run(run) for run in runs]
    named = dict(zip(_name_runs(runs, names), read, strict=True))
    known = _collect_weights(named, arrays)
    groups = _group(named)
    traces = [_trace_group(group, known, progress) for group in groups]
    return Comparison(
        names=tuple(named),
        config=read[0].config,
        title=_describe(named),
        apart=tuple(_list_apart(named)),
        environment=tuple(_list_environment(named)),
        trace=_join(traces, named),
        pairs=tuple(pair for group in groups for pair in _compare_pairs(group)),
        partings=tuple(each for name, run in named.items() for each in _find_parting(name, run)),
        losses={
            name: tuple(map(float, run.training.losses))
            for name, run in named.items()
            if run.training is not None
        },
    )


def _name_runs(runs: Sequence[Source], names: Sequence[str] | None) -> list[str]:
    if names is None:
        paths = [None if isinstance(run, Run) else Path(run) for run in runs]
        names = [f"run {n}" if path is None else path.stem for n, path in enumerate(paths, 1)]
        if len(set(names)) < len(names):
            names = [f"{name} {n}" for n, name in enumerate(names, 1)]
    if len(set(names)) < len(runs) or len(names) != len(runs):
        raise ArgumentError(
            f"names: expected one for each of the {len(runs)} runs, all different, got "
            f"{list_names(names)}"
        )
    return list(names)


def _describe(named: Mapping[str, Run]) -> str:
    first = next(iter(named.values()))
    shape = " x ".join(map(str, first.inputs.shape))
    return f"{first.config.describe()} in {first.dtype}, input {shape}"


# Weights


def _collect_weights(
    named: Mapping[str, Run], arrays: Mapping[str, np.ndarray] | None
) -> dict[str, Mapping[str, np.ndarray]]:
    """The weights that are known, by their hash.

    Raises ArgumentError for given ones that no run has.
    """
    known = {run.weights_hash: run.arrays for run in named.values() if run.arrays is not None}
    if arrays is None:
        return known
    for run in named.values():
        check(schema(run.config), arrays)
        cast = {name: array.astype(run.dtype) for name, array in arrays.items()}
        prints = {name: fingerprint(array) for name, array in cast.items()}
        if fingerprint_all(prints) == run.weights_hash:
            return known | {run.weights_hash: cast}
        other = [name for name in prints if prints[name] != run.prints[name]]
    raise ArgumentError(
        f"weights: expected those of {list_names(named)}, whose hash is {run.weights_hash}; in the "
        f"ones given {len(other)} of {len(prints)} differ: {list_names(other)}"
    )


# What differs around the runs


def _list_apart(named: Mapping[str, Run]) -> Iterator[str]:
    """What differs and makes the outputs differ, in sentences."""
    (first, one), *others = named.items()
    for name, run in others:
        yield from (f"{first} and {name}: {words}" for words in _compare_targets(one, run))


def _compare_targets(one: Run, other: Run) -> Iterator[str]:
    if one.config != other.config:
        fields = _differing_fields(one.config.to_dict(), other.config.to_dict())
        yield f"the configs differ: {fields}"
    if set(one.prints) == set(other.prints):
        changed = [name for name in one.prints if one.prints[name] != other.prints[name]]
        if changed and one.dtype == other.dtype:
            yield (
                f"the weights differ: {len(changed)} of {len(one.prints)} parameters, "
                f"{list_names(changed, quoted=False)}"
            )
    if one.dtype != other.dtype:
        yield f"the dtypes differ: {one.dtype} and {other.dtype}"
    if one.inputs.shape != other.inputs.shape:
        yield f"the inputs differ: {one.inputs.shape} and {other.inputs.shape}"
    elif one.dtype == other.dtype and one.inputs_hash != other.inputs_hash:
        apart = np.abs(one.inputs.astype(np.float64) - other.inputs).max()
        yield f"the inputs differ, by up to {apart:.2g}"
    if one.seed != other.seed:
        yield f"the seeds differ, and with them the gradients: {one.seed} and {other.seed}"
    recipes = [run.training.recipe for run in (one, other) if run.training is not None]
    if len(recipes) == 2 and recipes[0] != recipes[1]:
        fields = _differing_fields(recipes[0].to_dict(), recipes[1].to_dict())
        yield f"the recipes of training differ: {fields}"


def _differing_fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The fields that differ, each with both values."""
    found = []
    for name in dict.fromkeys((*one, *other)):
        values = one.get(name), other.get(name)
        if values[0] == values[1]:
            continue
        if all(isinstance(value, Mapping) for value in values):
            found.append(f"{name}: {_differing_fields(*values)}")  # type: ignore[arg-type]
        else:
            found.append(f"{name} {values[0]} and {values[1]}")
    return ", ".join(found)


def _list_environment(named: Mapping[str, Run]) -> Iterator[EnvironmentDifference]:
    runs = list(named.values())
    rows = {
        "weights": tuple(run.weights_hash[:16] for run in runs),
        "inputs": tuple(run.inputs_hash[:16] for run in runs),
        "origin of the inputs": tuple(run.drawn for run in runs),
        "dtype": tuple(run.dtype for run in runs),
    }
    for key in dict.fromkeys(key for run in runs for key in run.environment):
        rows[key] = tuple(run.environment.get(key, "not recorded") for run in runs)
    for what, values in rows.items():
        yield EnvironmentDifference(what, values)


def _group(named: Mapping[str, Run]) -> list[dict[str, Run]]:
    """The runs that should have computed the same, together."""
    groups: dict[tuple[Any, ...], dict[str, Run]] = {}
    for name, run in named.items():
        key = (run.config, run.weights_hash, run.inputs_hash, run.dtype, run.seed)
        groups.setdefault(key, {})[name] = run
    return list(groups.values())


# Stages


def _trace_group(
    group: Mapping[str, Run],
    known: Mapping[str, Mapping[str, np.ndarray]],
    progress: Callable[[str], None],
) -> Trace:
    """How far each run is from the oracle, and the causes of what differs, if the weights are
    known.
    """
    rows, findings, notes = [], [], []
    for name, run in group.items():
        rows += [replace(row, actual=name) for row in run.trace.rows]
        found = [replace(each, model=name) for each in run.trace.findings]
        arrays = known.get(run.weights_hash)
        if found and arrays is not None:
            found = _explain(name, run, arrays, found, progress)
        elif found:
            notes.append(
                f"{name}: to find the cause, give the file of the weights (those with the hash "
                f"{run.weights_hash}), or record with --full"
            )
        findings += found
        own = (note.removeprefix(f"{RECORDED_MODEL}: ") for note in run.trace.notes)
        notes += [f"{name}: {note}" for note in (*own, *run.notes)]
    return Trace("", tuple(rows), tuple(findings), notes=tuple(notes))


def _explain(
    name: str,
    run: Run,
    arrays: Mapping[str, np.ndarray],
    found: list[Finding],
    progress: Callable[[str], None],
) -> list[Finding]:
    """The findings with their causes. Where stages were judged whole when they were recorded, that
    decides which ones differ; a sample says why.
    """
    modes = list(dict.fromkeys(finding.mode for finding in found))
    again = trace(
        {name: Recorded({mode: run.modes[mode] for mode in modes})},
        run.inputs,
        config=run.config,
        arrays=arrays,
        modes=modes,
        seed=run.seed,
        progress=progress,
    )
    searched = {(each.mode, each.stage, each.backward): each for each in again.findings}
    return [_merge(each, searched.get((each.mode, each.stage, each.backward))) for each in found]


def _merge(recorded: Finding, searched: Finding | None) -> Finding:
    """A finding with the numbers of the whole stage, and the causes of its sample."""
    if searched is None:
        bound = "a stage before it is not explained, and only a sample of that was recorded"
        return replace(recorded, bound=bound)
    return replace(
        recorded, explanations=searched.explanations, bound=searched.bound, searched=True
    )


def _join(traces: Sequence[Trace], named: Mapping[str, Run]) -> Trace:
    return Trace(
        "",
        tuple(row for each in traces for row in each.rows),
        tuple(finding for each in traces for finding in each.findings),
        notes=tuple(note for each in traces for note in each.notes),
    )


def _compare_pairs(group: Mapping[str, Run]) -> Iterator[PairwiseDifference]:
    """Every two runs that should be equal, with each other."""
    for (first, one), (second, other) in combinations(group.items(), 2):
        held, theirs = list_held(one), list_held(other)
        rows = [
            _compare_stage(name, each, theirs[name], (first, second))
            for name, each in held.items()
            if name in theirs and theirs[name].shape == each.shape
        ]
        if not rows:
            continue
        equal = sum(one.hashes[name] == other.hashes.get(name) for name in held)
        yield PairwiseDifference(
            (first, second), equal, len(held), max(rows, key=lambda row: row.relative)
        )


def _compare_stage(
    name: str, one: RecordedTensor, other: RecordedTensor, names: tuple[str, str]
) -> Difference:
    """The difference of two runs, which nothing judges: each is judged by the oracle."""
    mode, way, stage = name.split(" ", 2)
    return compare_recorded(
        one,
        other,
        axes=name_axes(one.shape),
        tolerance=0.0,
        quantity=f"{mode} {way}",
        tensor=stage,
        names=names,
    )


# Training


def _find_parting(name: str, run: Run) -> Iterator[Parting]:
    """The first step after which training is farther from the oracle than rounding explains."""
    training = run.training
    if training is None:
        return
    for step in range(training.steps):
        at_step = {
            each: (training.apart[each][step], training.limits[each][step])
            for each in training.apart
        }
        over = {
            each: apart / limit
            for each, (apart, limit) in at_step.items()
            if not apart <= limit  # also what is not a number
        }
        if over:
            worst = max(over, key=lambda each: np.nan_to_num(over[each], nan=np.inf))
            apart, limit = at_step[worst]
            yield Parting(name, step + 1, "the loss" if worst == LOSS else worst, apart, limit)
            return

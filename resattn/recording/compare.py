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
from resattn.tracing.sampling import Recorded, are_equal, compare_recorded
from resattn.tracing.trace import trace
from weights import Difference, schema
from weights.checks import list_names
from weights.convert import check
from weights.errors import ArgumentError
from weights.fingerprint import fingerprint, fingerprint_all
from weights.language import say

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
    arrays: the weights of the runs, canonical. With them, or if one of the runs was recorded whole,
    every stage is judged again from the recorded values, and the cause of a difference is found.
    Without them, what the runs say of themselves must agree with each other.
    progress: called with a line before each step.
    Raises ArgumentError for fewer than two runs, and for other weights than those of the runs;
    what `read_run` raises.
    """
    if len(runs) < 2:
        raise ArgumentError(
            say("compare: expected two or more recordings, got {count}", count=len(runs))
        )
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
        doubts=tuple(_list_doubts(groups, known)),
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
            say(
                "names: expected one for each of the {count} runs, all different, got {names}",
                count=len(runs),
                names=list_names(names),
            )
        )
    return list(names)


def _describe(named: Mapping[str, Run]) -> str:
    first = next(iter(named.values()))
    shape = " x ".join(map(str, first.inputs.shape))
    return say(
        "{config} in {dtype}, input {shape}",
        config=first.config.describe(),
        dtype=first.dtype,
        shape=shape,
    )


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
        say(
            "weights: expected those of {names}, whose hash is {hash}; in the ones "
            "given {count} of {whole} differ: {others}",
            names=list_names(named),
            hash=run.weights_hash,
            count=len(other),
            whole=len(prints),
            others=list_names(other),
        )
    )


# What differs around the runs


def _list_apart(named: Mapping[str, Run]) -> Iterator[str]:
    """What differs and makes the outputs differ, in sentences."""
    (first, one), *others = named.items()
    for name, run in others:
        yield from (
            say("{first} and {second}: {words}", first=first, second=name, words=words)
            for words in _compare_targets(one, run)
        )


def _compare_targets(one: Run, other: Run) -> Iterator[str]:
    if one.config != other.config:
        fields = _differing_fields(one.config.to_dict(), other.config.to_dict())
        yield say("the configs differ: {fields}", fields=fields)
    if set(one.prints) == set(other.prints):
        changed = [name for name in one.prints if one.prints[name] != other.prints[name]]
        if changed and one.dtype == other.dtype:
            yield (
                say(
                    "the weights differ: {count} of {whole} parameters, {names}",
                    count=len(changed),
                    whole=len(one.prints),
                    names=list_names(changed, quoted=False),
                )
            )
    if one.dtype != other.dtype:
        yield say("the dtypes differ: {one} and {other}", one=one.dtype, other=other.dtype)
    if one.inputs.shape != other.inputs.shape:
        yield say(
            "the inputs differ: {one} and {other}", one=one.inputs.shape, other=other.inputs.shape
        )
    elif one.dtype == other.dtype and one.inputs_hash != other.inputs_hash:
        apart = np.abs(one.inputs.astype(np.float64) - other.inputs).max()
        yield say("the inputs differ, by up to {apart:.2g}", apart=apart)
    if one.seed != other.seed:
        yield say(
            "the seeds differ, and with them the gradients: {one} and {other}",
            one=one.seed,
            other=other.seed,
        )
    recipes = [run.training.recipe for run in (one, other) if run.training is not None]
    if len(recipes) == 2 and recipes[0] != recipes[1]:
        fields = _differing_fields(recipes[0].to_dict(), recipes[1].to_dict())
        yield say("the recipes of training differ: {fields}", fields=fields)


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
    """How far each run is from the oracle, and the stages that differ. If the weights are known,
    that is computed again, with the causes; otherwise it is what the runs say of themselves.
    """
    rows, findings, notes = [], [], []
    for name, run in group.items():
        own = [replace(row, actual=name) for row in run.trace.rows]
        found = [replace(each, model=name) for each in run.trace.findings]
        arrays = known.get(run.weights_hash)
        if arrays is not None:
            own, found = _trace_again(name, run, arrays, own, found, progress)
        elif found:
            notes.append(
                say("{name}: to find the cause, {advice}", name=name, advice=_ask_for_weights(run))
            )
        rows += own
        findings += found
        said = (note.removeprefix(f"{RECORDED_MODEL}: ") for note in run.trace.notes)
        notes += [f"{name}: {note}" for note in (*said, *run.notes)]
    return Trace("", tuple(rows), tuple(findings), notes=tuple(notes))


def _ask_for_weights(run: Run) -> str:
    return say(
        "give the file of the weights (those with the hash {hash}), or record with --full",
        hash=run.weights_hash,
    )


def _trace_again(
    name: str,
    run: Run,
    arrays: Mapping[str, np.ndarray],
    rows: list[Difference],
    found: list[Finding],
    progress: Callable[[str], None],
) -> tuple[list[Difference], list[Finding]]:
    """The rows and the findings from the recorded values, the findings with their causes.

    Where a run says which stages of a mode differ, that stays, since stages were judged whole when
    they were recorded; a sample says why. Where it says that none differs, the values decide. Of
    the differences of a stage, the recorded one and that of the sample, the greater one stays.
    """
    again = trace(
        {name: Recorded(run.modes)},
        run.inputs,
        config=run.config,
        arrays=arrays,
        modes=list(run.modes),
        seed=run.seed,
        progress=progress,
    )
    recorded = {(row.quantity, row.tensor): row for row in rows}
    judged = [_choose_row(recorded.get((row.quantity, row.tensor)), row) for row in again.rows]
    searched = {(each.mode, each.stage, each.backward): each for each in again.findings}
    findings = []
    for mode in run.modes:
        said = [each for each in found if each.mode == mode]
        findings += [
            _merge(each, searched.get((each.mode, each.stage, each.backward))) for each in said
        ] or [each for each in again.findings if each.mode == mode]
    return judged, findings


def _choose_row(recorded: Difference | None, computed: Difference) -> Difference:
    if recorded is None or not recorded.relative >= computed.relative:
        return computed
    return replace(recorded, tolerance=computed.tolerance)


def _merge(recorded: Finding, searched: Finding | None) -> Finding:
    """A finding with the numbers of the whole stage, and the causes of its sample."""
    if searched is None:
        bound = say("a stage before it is not explained, and only a sample of that was recorded")
        return replace(recorded, bound=bound)
    return replace(
        recorded, explanations=searched.explanations, bound=searched.bound, searched=True
    )


def _list_doubts(
    groups: Sequence[Mapping[str, Run]], known: Mapping[str, Mapping[str, np.ndarray]]
) -> Iterator[str]:
    """Where runs do not fit what they say of themselves, in sentences. Only for runs whose weights
    are not known: the others were traced again.
    """
    for group in groups:
        silent = {name: run for name, run in group.items() if not run.trace.findings}
        if known.keys() & {run.weights_hash for run in group.values()}:
            continue
        for name, run in silent.items():
            over = [row for row in run.trace.rows if not row.ok]
            if over:
                row = max(over, key=lambda row: np.nan_to_num(row.excess, nan=np.inf))
                yield (
                    say(
                        "{name}: {quantity} {tensor} differs from the oracle by {apart:.1e}, "
                        "its tolerance is {tolerance:.0e}, and the run names no stage that is "
                        "wrong; to judge it, {advice}",
                        name=name,
                        quantity=say(row.quantity),
                        tensor=row.tensor,
                        apart=row.relative,
                        tolerance=row.tolerance,
                        advice=_ask_for_weights(run),
                    )
                )
        for (first, one), (second, other) in combinations(silent.items(), 2):
            limits = _limit_pair(one, other)
            rows = _compare_tensors((first, second), (one, other))
            over = [row for row in rows if not row.relative <= limits.get(_key(row), np.inf)]
            if over:
                row = max(over, key=lambda row: row.relative)
                yield (
                    say(
                        "{first} and {second}: {quantity} {tensor} differs by {apart:.1e}, the "
                        "tolerances of both explain {limit:.0e}, and neither names a stage "
                        "that is wrong; to judge them, {advice}",
                        first=first,
                        second=second,
                        quantity=say(row.quantity),
                        tensor=row.tensor,
                        apart=row.relative,
                        limit=limits[_key(row)],
                        advice=_ask_for_weights(one),
                    )
                )


def _key(row: Difference) -> tuple[str, str]:
    return row.quantity, row.tensor


def _limit_pair(one: Run, other: Run) -> dict[tuple[str, str], float]:
    """How far two runs can be apart, by tensor, if each is within its tolerance of the oracle.

    The smaller tolerance t counts: both come from the same weights and inputs, and so are the same.
    Both are t of the oracle's greatest magnitude away from it, so the second one's own is at least
    1 - t of that, and the difference is relative to the second one's.
    """
    tolerances = {_key(row): row.tolerance for row in one.trace.rows}
    limits = {}
    for row in other.trace.rows:
        least = min(row.tolerance, tolerances.get(_key(row), np.inf))
        limits[_key(row)] = 2 * least / (1 - least) if least < 1 else np.inf
    return limits


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
        rows = _compare_tensors((first, second), (one, other))
        if not rows:
            continue
        equal = sum(digest == other.hashes.get(name) for name, digest in one.hashes.items())
        yield PairwiseDifference(
            (first, second), equal, len(one.hashes), max(rows, key=lambda row: row.relative)
        )


def _compare_tensors(names: tuple[str, str], runs: tuple[Run, Run]) -> list[Difference]:
    """The differences of all that two runs have in common."""
    held, theirs = map(list_held, runs)
    return [
        _compare_stage(name, each, theirs[name], names)
        for name, each in held.items()
        if name in theirs and theirs[name].shape == each.shape
    ]


def _compare_stage(
    name: str, one: RecordedTensor, other: RecordedTensor, names: tuple[str, str]
) -> Difference:
    """The difference of two runs. Infinities in the same places are none."""
    mode, way, stage = name.split(" ", 2)
    found = compare_recorded(
        one,
        other,
        axes=name_axes(one.shape),
        tolerance=0.0,
        quantity=f"{mode} {way}",
        tensor=stage,
        names=names,
    )
    if are_equal(one, other):
        return replace(found, absolute=0.0, relative=0.0, distance=0.0)
    return found


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

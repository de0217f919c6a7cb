"""The process of one participant: `python -m resattn.checking.verdict_worker FOLDER JOB`.

The folder holds the problem of each case and format, as `problem_file` names it. JOB is JSON:

    {"framework": name, "label": of the participant, "device": "cpu" or "cuda",
     "beside": whether to show it beside another device,
     "models": of which to make the assignments, "assignments": or which ones,
     "deterministic": whether to ask for the same bits each time}

The process writes a line of JSON to its standard output for each thing that it knows:

    {"missing": why}, and it ends
    {"versions": text, "devices": {"cpu": name, "cuda": name}}
    {"count": of the assignments}
    {"measurement": {...}}, for each assignment in its order
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resattn.checking.backends import Backend, Quantities
from resattn.checking.crosscheck import ORACLE, compare_quantities, find_undefined
from resattn.checking.determinism import SPREAD_RUNS, find_spread, list_changed, refuses
from resattn.checking.draws import random_arrays
from resattn.checking.problem import Problem
from resattn.checking.verdict import LAID_OUT_LAST, Assignment, DeviceMeasurement
from resattn.checking.verdict_cases import list_assignments, list_beside
from weights import BlockConfig
from weights.errors import MissingFramework
from weights.flags import execution
from weights.live import LiveModel, adapter

Tell = Callable[[dict[str, Any]], None]


def problem_file(folder: Path, case: str, form: str) -> Path:
    """Where the problem of a case in a format is."""
    return folder / f"{case}, {form}.pickle"


def lay_out_channels_last(live: LiveModel) -> LiveModel:
    """PyTorch's weights with channels last, so that it computes everything so."""
    import torch

    live.model.to(memory_format=torch.channels_last)
    return live


def compute_once(assignment: Assignment, framework: str, problem: Problem) -> Quantities:
    """What a framework computes, once, with a new model."""
    backend = Backend(framework, assignment.device)
    if assignment.way == LAID_OUT_LAST:
        with execution("eager"):
            return problem.measure(backend, prepare=lay_out_channels_last)
    with execution(assignment.way):
        return problem.measure(backend)


def measure_assignment(
    assignment: Assignment, framework: str, label: str, problem: Problem, deterministic: bool
) -> DeviceMeasurement:
    """The result of an assignment. label: of the participant.

    deterministic: whether to ask for the same bits each time, and compute twice. Else ten runs show
    how far apart they are, and a difference may be as large as that.
    """
    place = (label, assignment.case, assignment.form, assignment.device, assignment.way)
    runs, scope = [], adapter(framework).deterministic if deterministic else nullcontext
    try:
        with scope():
            for _ in range(2 if deterministic else SPREAD_RUNS):
                runs.append(compute_once(assignment, framework, problem))
    except Exception as error:  # whatever it is, the others are still measured
        words = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:300]}"
        if deterministic and refuses(error):
            return replace(DeviceMeasurement(*place), refused=words)
        return replace(DeviceMeasurement(*place), failed=words)
    spread = {} if deterministic else find_spread(runs)
    changed = list_changed(*runs) if deterministic else []
    found = judge_run(DeviceMeasurement(*place), problem, runs[0], spread)
    return replace(found, changed=tuple(map(" ".join, changed)))


def judge_run(
    found: DeviceMeasurement,
    problem: Problem,
    outcome: Quantities,
    spread: dict[tuple[str, str], float],
) -> DeviceMeasurement:
    """The same measurement with the comparisons of what was computed with the oracle.

    spread: how far apart several runs were, absolute; empty where they were the same.
    """
    if find_undefined(problem):
        return replace(found, failed=find_undefined(problem))
    names = (found.participant, ORACLE)
    compared = compare_quantities(problem, outcome, problem.expected, names, nearest=spread)
    rows = [row for row in compared if row.quantity != "weights"]
    worst = max(rows, key=lambda row: row.excess)
    explained = problem.rounding.explained
    apart = max((spread[key] / explained[key] for key in explained if spread.get(key)), default=0.0)
    return replace(
        found,
        distance=max(row.distance for row in rows),
        times=max(row.times for row in rows),
        where=f"{worst.quantity} {worst.tensor}",
        over=sum(not row.ok for row in compared),
        comparisons=len(compared),
        spread=apart,
    )


def compute_assignment(folder: Path, job: dict[str, Any], tell: Tell) -> None:
    """Measures everything in a job, and tells each result."""
    framework: str = job["framework"]
    try:
        module = adapter(framework)
    except MissingFramework as error:
        tell({"missing": str(error)})
        return
    tiny = BlockConfig(1, 1, 1, attention="none")
    names = {}
    for device in module.devices():
        names[device] = module.device_of(
            Backend(framework, device).build(tiny, random_arrays(tiny))
        )
    tell({"versions": module.versions(), "devices": names})
    if job["device"] not in names:
        return
    if job["assignments"] is not None:
        assignments = [Assignment(**each) for each in job["assignments"]]
    else:
        every = (
            list_beside(framework)
            if job["beside"]
            else list_assignments(framework, job["device"], module.executions())
        )
        assignments = [each for each in every if each.case in job["models"]]
    tell({"count": len(assignments)})
    for assignment in assignments:
        path = problem_file(folder, assignment.case, assignment.form)
        problem: Problem = pickle.loads(path.read_bytes())
        if assignment.way == "compiled" and framework == "torch":
            import torch

            torch.compiler.reset()  # it compiles a function eight times at most
        result = measure_assignment(
            assignment, framework, job["label"], problem, job["deterministic"]
        )
        tell({"measurement": result.to_dict()})


def main() -> None:
    # Frameworks may print; only answers go to the standard output.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    np.seterr(all="ignore")
    folder, job = sys.argv[1:]
    compute_assignment(
        Path(folder),
        json.loads(job),
        lambda found: print(json.dumps(found), file=answers, flush=True),
    )


if __name__ == "__main__":
    main()

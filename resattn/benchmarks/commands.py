"""How much time and memory commands of `resattn` take, each in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from resattn.benchmarks.cases import NUMPY
from resattn.benchmarks.channels import run_fresh
from resattn.benchmarks.timings import INSPECT, LARGE_CHECK, Timing
from weights.frameworks import FRAMEWORKS

_CANNOT = 2  # the exit status of an error that the user can mend, such as a missing framework


@dataclass(frozen=True)
class CommandRun:
    """One run of a command. memory: the most bytes that it held. errors: what it said of them."""

    status: int
    errors: str
    seconds: float
    cpu_seconds: float
    memory: int


def run_command(arguments: Sequence[str]) -> CommandRun:
    """Runs `resattn` once with these arguments."""
    return CommandRun(**run_fresh("resattn.benchmarks.child", *arguments))


def list_commands(
    program: str, frameworks: Sequence[str], file: Path, *, full: bool = False
) -> list[tuple[str, tuple[str, ...]]]:
    """The commands that are measured for a framework, or with "numpy" those for none alone: each
    with its label. file: what is inspected.
    """
    if program != NUMPY:
        return [(f"resattn check --frameworks {program}", ("check", "--frameworks", program))]
    inspect = f"{INSPECT}, {file.stat().st_size / 1e6:.0f} MB"
    found: list[tuple[str, tuple[str, ...]]] = [(inspect, ("inspect", str(file)))]
    if set(frameworks) == set(FRAMEWORKS):
        found.append(("resattn check", ("check",)))
        if full:
            found.append((LARGE_CHECK, ("check", "--config", "resnet50")))
    return found


def time_command(label: str, arguments: Sequence[str], program: str, rounds: int) -> Timing:
    """What a command takes, the medians of some runs. Raises RuntimeError where it fails."""
    missing = "" if hasattr(os, "wait4") else "this system does not say what a process takes"
    runs: list[CommandRun] = []
    while not missing and len(runs) < rounds:
        run = run_command(arguments)
        runs.append(run)
        if run.status == _CANNOT:
            # The last message: frameworks may have said something before.
            missing = " ".join(run.errors.rpartition("resattn: ")[2].split()).removesuffix(".")
        elif run.status:
            raise RuntimeError(f"{label} ended with status {run.status}:\n{run.errors[-3000:]}")
    if missing:
        return Timing("commands", label, program, "command", missing=missing)
    return Timing(
        "commands", label, program, "command", tuple(run.seconds for run in runs),
        memory=max(run.memory for run in runs),
        cpu_seconds=median(run.cpu_seconds for run in runs),
    )  # fmt: skip

"""Makes a verdict on a device: each framework in a process of its own, and what they find."""

from __future__ import annotations

import datetime
import json
import os
import pickle
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from resattn.checking.determinism import XLA, set_at_start
from resattn.checking.processes import make_environment
from resattn.checking.verdict import (
    PARTICIPANTS,
    Assignment,
    DeviceMeasurement,
    Participant,
    Verdict,
)
from resattn.checking.verdict_cases import MODELS, list_forms, pose_case
from resattn.checking.verdict_worker import problem_file
from weights.checks import one_of
from weights.devices import check_device
from weights.errors import MissingFramework
from weights.frameworks import FRAMEWORKS, framework_named
from weights.stored import count_cores

# So that several processes share a GPU's memory.
SHARE_MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
CORES_EACH = 4
TellStep = Callable[[str], None]


def give_verdict(
    device: str,
    frameworks: Sequence[str] | None = None,
    models: Sequence[str] = MODELS,
    progress: TellStep = lambda line: None,
) -> Verdict:
    """Compares every framework that is installed with the oracle on a device, and on the CPU.

    device: "cpu" or "cuda". frameworks: which to compare, by default all; those that are not
    installed are missing in the verdict. models: of `MODELS`. progress: called with a line before
    each step.
    Raises ArgumentError for a device that no framework sees, and MissingFramework when none is
    installed.
    """
    one_of("device", device, ("cpu", "cuda"))
    for framework in frameworks or ():
        framework_named(framework)
    wanted = [each for each in PARTICIPANTS if each.framework in (frameworks or FRAMEWORKS)]
    missing = {each.label: reason for each in wanted if (reason := _find_absence(each))}
    present = [each for each in wanted if each.label not in missing]
    if not present:
        reasons = "; ".join(f"{label}: {why}" for label, why in missing.items())
        raise MissingFramework(f"no framework is installed: {reasons}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [_Job(folder, each, device, tuple(models), progress) for each in present]
        beside: list[_Job] = []
        with ThreadPoolExecutor(max(1, count_cores() // CORES_EACH)) as pool:
            if device != "cpu":
                list(pool.map(_Job.look, jobs))
                _check_seen(device, jobs)
                beside = [job.put_beside() for job in jobs if device in job.devices]
            _write_problems(folder, models, progress)
            list(pool.map(_Job.run, [*jobs, *beside]))
    return _gather(device, jobs, beside, missing)


def _check_seen(device: str, jobs: Sequence[_Job]) -> None:
    """Raises ArgumentError unless some framework sees the device."""
    found = {name: None for job in jobs for name in job.devices}
    if found and device not in found:
        labels = " and ".join(job.participant.label for job in jobs if job.devices)
        check_device(device, tuple(found), labels)


def _find_absence(participant: Participant) -> str:
    """Which of its packages are not installed, in words; "" if all are."""
    absent = [package for package in participant.packages if find_spec(package) is None]
    return f"{' and '.join(absent)} not installed" if absent else ""


def _write_problems(folder: Path, models: Sequence[str], progress: TellStep) -> None:
    for number, model in enumerate(models, 1):
        one_of("models", model, MODELS)
        progress(f"oracle, {number} of {len(models)}: {model}")
        for form in list_forms(model):
            file = problem_file(folder, model, form)
            file.write_bytes(pickle.dumps(pose_case(model, form)))


@dataclass
class _Job:
    """The work of a participant on a device, and what came out of it.

    beside: whether it is measured to be shown beside another device. missing: why it could not take
    part.
    """

    folder: Path
    participant: Participant
    device: str
    models: tuple[str, ...]
    progress: TellStep
    beside: bool = False
    versions: str = ""
    missing: str = ""
    devices: dict[str, str] = field(default_factory=dict)
    measurements: list[DeviceMeasurement] = field(default_factory=list)
    seconds: float = 0.0

    def put_beside(self) -> _Job:
        """What the same participant measures on the CPU."""
        return _Job(self.folder, self.participant, "cpu", self.models, self.progress, beside=True)

    def look(self) -> None:
        """Finds the devices, and measures nothing."""
        self._read(self._start(deterministic=True, assignments=()))

    def run(self) -> None:
        """Measures everything. What an operation refused to compute deterministically is measured
        again in a process that does not ask for it.
        """
        start, self.measurements = time.perf_counter(), []
        self._read(self._start(deterministic=True))
        refused = {number: each for number, each in enumerate(self.measurements) if each.refused}
        if refused:
            done = len(self.measurements)
            places = [each.assignment for each in refused.values()]
            self._read(self._start(deterministic=False, assignments=places))
            again, self.measurements = self.measurements[done:], self.measurements[:done]
            for (number, first), second in zip(refused.items(), again, strict=False):
                self.measurements[number] = replace(second, refused=first.refused)
        self.seconds = time.perf_counter() - start

    def _start(
        self, deterministic: bool, assignments: Sequence[Assignment] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Runs a process and gives what it says, an answer at a time."""
        given = None if assignments is None else list(map(asdict, assignments))
        job = {
            "framework": self.participant.framework,
            "label": self.participant.label,
            "device": self.device,
            "beside": self.beside,
            "models": self.models,
            "deterministic": deterministic,
            "assignments": given,
        }
        environment = set_at_start(make_environment(SHARE_MEMORY), deterministic)
        if self.participant.backend:
            environment["KERAS_BACKEND"] = self.participant.backend
        command = [sys.executable, "-W", "ignore", "-m", "resattn.checking.verdict_worker"]
        with (
            tempfile.TemporaryFile("w+") as log,
            subprocess.Popen(
                [*command, str(self.folder), json.dumps(job)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                encoding="utf-8",
            ) as process,
        ):
            yield from map(json.loads, process.stdout or ())
            if process.wait():
                log.seek(0)
                last = log.read().strip().rpartition("\n")[2][-300:]
                yield {"ended": f"the process ended with status {process.returncode}: {last}"}

    def _read(self, answers: Iterator[dict[str, Any]]) -> None:
        count, done = 0, 0
        for answer in answers:
            count = answer.get("count", count)
            self.versions = answer.get("versions", self.versions)
            self.devices = answer.get("devices", self.devices)
            self.missing = answer.get("missing", self.missing)
            if "measurement" in answer:
                self.measurements.append(DeviceMeasurement.from_dict(answer["measurement"]))
                done += 1
            if "ended" in answer:
                nowhere = ("every model", "every format", self.device, "every way")
                failed = DeviceMeasurement(self.participant.label, *nowhere, failed=answer["ended"])
                self.measurements.append(failed)
            place = f"{self.participant.label} on {self.device}"
            self.progress(f"{place}, {done} of {count}" if count else f"start {place}")


def _gather(
    device: str, jobs: Sequence[_Job], beside: Sequence[_Job], missing: dict[str, str]
) -> Verdict:
    """The verdict from what was measured, on the device and beside it."""
    part = [job for job in jobs if job.measurements]
    blind = {
        job.participant.label: job.missing or f"it sees no {device} here"
        for job in jobs
        if job not in part
    }
    names = [job.devices[device] for job in part if device in job.devices]
    labels = [job.participant.label for job in part]
    return Verdict(
        device,
        {"device": names[0] if names else device, **_describe_setting(device)},
        {job.participant.label: job.versions for job in part},
        {job.participant.label: round(job.seconds, 1) for job in part},
        {**missing, **blind},
        tuple(
            each
            for job in (*jobs, *beside)
            for each in job.measurements
            if job.participant.label in labels
        ),
    )


def _describe_setting(device: str) -> dict[str, str]:
    """The machine, nothing that says whose it is, and the day."""
    found = {
        "driver": _ask_for_driver() if device == "cuda" else "",
        "machine": f"{platform.machine()}, {count_cores()} cores",
        "system": platform.system(),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        XLA: os.environ.get(XLA, ""),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    return {name: value for name, value in found.items() if value}


def _ask_for_driver() -> str:
    """The version of NVIDIA's driver, as its program says it."""
    question = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(question, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return next(iter(done.stdout.splitlines()), "unknown").strip()

"""The process of one framework: `python -m resattn.benchmarks.worker FRAMEWORK THREADS`.

It reads a command from each line of its standard input, as JSON, and writes an answer as JSON:

    {"do": "describe"}                               -> {"versions": text, "devices": [...]}
    {"do": "prepare", "case": {...}, "output": path} -> {"number": 0}
    {"do": "time", "number": 0, "seconds": 0.2}      -> {"seconds": [...]}
    {"do": "measure", "group": name, ...}            -> {"timings": [...]}

`prepare` makes the function of a case, calls it, and writes the output for the first image to a
.npy file. Where a package is missing, an answer is {"missing": why}. After an error it is {"error":
the traceback}, and the process ends.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import import_module
from typing import Any, TextIO

import numpy as np

from resattn.benchmarks.cases import NUMPY, ONNX, BenchCase
from resattn.benchmarks.functions import Prepared, prepare_function
from resattn.benchmarks.groups import Effort, measure_group
from resattn.benchmarks.other_models import require_library
from weights.errors import MissingFramework
from weights.live import adapter

MOST_CALLS = 1000  # in one turn


class Worker:
    """A framework and the functions that are ready to be measured in it."""

    def __init__(self, framework: str, threads: int):
        self.framework, self.threads = framework, threads
        self.prepared: list[Prepared] = []

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """What a command asks for."""
        actions: dict[str, Callable[..., dict[str, Any]]] = {
            "describe": self.describe,
            "prepare": self.prepare,
            "time": self.time,
            "measure": self.measure,
        }
        action = actions[command.pop("do")]
        try:
            return action(**command)
        except MissingFramework as error:
            return {"missing": str(error)}

    def describe(self) -> dict[str, Any]:
        """The versions and the devices."""
        if self.framework == NUMPY:
            return {"versions": f"numpy {np.__version__}", "devices": ["cpu"]}
        if self.framework == ONNX:
            version = require_library("onnxruntime").__version__
            return {"versions": f"onnxruntime {version}", "devices": ["cpu"]}
        live = adapter(self.framework)
        _set_threads(self.framework, self.threads)
        return {"versions": live.versions(), "devices": list(live.devices())}

    def prepare(self, case: dict[str, Any], output: str) -> dict[str, Any]:
        """Makes the function of a case and writes its output. Returns the number of the case."""
        made = prepare_function(BenchCase.from_dict(case), self.threads)
        with made.scope():
            first = made.canonical(made.work())[:1]
        np.save(output, first.astype("float32") if first.dtype.name == "bfloat16" else first)
        self.prepared.append(made)
        return {"number": len(self.prepared) - 1}

    def time(self, number: int, seconds: float) -> dict[str, Any]:
        """The seconds of calls, of one at least. The one before them fills the caches again."""
        made = self.prepared[number]
        found: list[float] = []
        with made.scope():
            made.work()
            end = time.perf_counter() + seconds
            while not found or (time.perf_counter() < end and len(found) < MOST_CALLS):
                found.append(made.time())
        return {"seconds": found}

    def measure(self, group: str, device: str, effort: dict[str, Any]) -> dict[str, Any]:
        """The timings of a group that has a function of its own."""
        timings = measure_group(group, self.framework, device, Effort.from_dict(effort))
        return {"timings": [asdict(timing) for timing in timings]}


def _set_threads(framework: str, threads: int) -> None:
    """Gives a framework that many threads. JAX and NumPy read environment variables."""
    if framework == "torch":
        import_module("torch").set_num_threads(threads)
    elif framework == "tf" and "tensorflow" in sys.modules:
        settings = import_module("tensorflow").config.threading
        settings.set_intra_op_parallelism_threads(threads)
        settings.set_inter_op_parallelism_threads(threads)


def serve(worker: Worker, commands: Iterable[str], answers: TextIO) -> None:
    """Answers commands, a line each, until there are no more or one fails."""
    for line in commands:
        try:
            answer = worker.answer(json.loads(line))
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)
        if "error" in answer:
            return


def main() -> None:
    # Frameworks may print; only answers go to the standard output.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    framework, threads = sys.argv[1:]
    serve(Worker(framework, int(threads)), sys.stdin, answers)


if __name__ == "__main__":
    main()

"""The processes that measure, and the machine that they run on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resattn.benchmarks.timings import LOAD
from resattn.checking.processes import make_environment
from weights.stored import count_cores

# Sends a command of `resattn.benchmarks.worker` with its values, and returns the answer.
Ask = Callable[..., dict[str, Any]]
OpenChannel = Callable[[str, int], AbstractContextManager[Ask]]

# What NumPy, JAX and the others read. Frameworks that do not are given the number by the worker.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")

ABSENT = "not installed"


@contextmanager
def open_worker(framework: str, threads: int) -> Iterator[Ask]:
    """A process of a framework, which ends with the body."""
    command = [sys.executable, "-W", "ignore", "-m", "resattn.benchmarks.worker"]
    environment = make_environment(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            [*command, framework, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
            encoding="utf-8",
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(do: str, **values: Any) -> dict[str, Any]:
            print(json.dumps({"do": do, **values}), file=process.stdin, flush=True)
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                log.seek(0)
                raise RuntimeError(f"the process of {framework} ended:\n{log.read()[-3000:]}")
            answer: dict[str, Any] = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"in the process of {framework}:\n{answer['error']}")
            return answer

        try:
            yield ask
        finally:
            process.kill()  # it holds nothing that must be saved


def run_fresh(module: str, *arguments: object) -> dict[str, Any]:
    """Runs a module in a process that has done nothing before. Returns the JSON in its last line.

    Raises RuntimeError with what the process said where it fails.
    """
    command = [sys.executable, "-W", "ignore", "-m", module, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, check=False, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[4:])} failed:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def describe_machine() -> dict[str, str]:
    """What to know of the machine; nothing that says whose it is."""
    found = {
        "CPU": _cpu_model(),
        "cores": f"{count_cores()} usable, and as many threads in every program",
        "system": f"{platform.system()} on {platform.machine()}",
        "Python": platform.python_version(),
    }
    if hasattr(os, "getloadavg"):
        found[LOAD] = f"{os.getloadavg()[0]:.1f}"
    try:
        found["timm"] = f"timm {version('timm')}"
    except PackageNotFoundError:
        found["timm"] = ABSENT
    return found | {name: os.environ[name] for name in ("XLA_FLAGS",) if os.environ.get(name)}


def _cpu_model() -> str:
    """As the system calls it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"

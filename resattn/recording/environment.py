"""Where something was computed: versions, device, settings of the precision, threads, code."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from weights.live import adapter

# Variables that decide how frameworks compute. No others are recorded.
ENVIRONMENT_VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "XLA_FLAGS"),
    *("TF_ENABLE_ONEDNN_OPTS", "TF_DETERMINISTIC_OPS", "NVIDIA_TF32_OVERRIDE"),
    *("CUBLAS_WORKSPACE_CONFIG", "KERAS_BACKEND"),
)
_SECONDS = 10  # for git


def describe_environment(framework: str, model: Any) -> dict[str, str]:
    """What can make a difference, by a short name: sentences and versions, for people.

    framework: of the model, which may be anybody's. The code is that of the folder in which the
    program runs, if that is part of a git repository.
    """
    module = adapter(framework)
    set_here = [
        f"{name}={os.environ[name]}" for name in ENVIRONMENT_VARIABLES if name in os.environ
    ]
    return {
        "framework": module.versions(),
        "device": module.device_of(model),
        "precision": module.flags(),
        "threads": module.threads(),
        "variables": " ".join(set_here) or "none of those that matter",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "resattn": _find_version(),
        "code": describe_code(),
    }


def _find_version() -> str:
    try:
        return version("resattn")
    except PackageNotFoundError:
        return "not installed"


def describe_code(folder: str | None = None) -> str:
    """The git commit of a folder and how many files differ from it. folder: by default this one."""
    commit = _run_git(folder, "rev-parse", "HEAD")
    changes = _run_git(folder, "status", "--porcelain")
    if commit is None or changes is None:
        return "not in a git repository"
    count = len(changes.splitlines())
    state = f"{count} {'file differs' if count == 1 else 'files differ'}" if count else "unchanged"
    return f"commit {commit.strip()}, {state}"


def _run_git(folder: str | None, *arguments: str) -> str | None:
    """What git prints; None if it is not there or refuses."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=_SECONDS,
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout

"""Does a device compute the same bits each time?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from resattn.checking.backends import Quantities
from resattn.checking.rounding import TensorKey, list_tensors
from weights.errors import ResattnError

# What libraries read as they start, so that it must be set before the process does.
CUBLAS, XLA = "CUBLAS_WORKSPACE_CONFIG", "XLA_FLAGS"
SETTINGS_AT_START = {CUBLAS: ":4096:8", XLA: "--xla_gpu_deterministic_ops=true"}
# Where the bits cannot be the same, so many runs show how far apart they are.
SPREAD_RUNS = 10


def set_at_start(environment: Mapping[str, str], deterministic: bool) -> dict[str, str]:
    """The environment of a process that computes the same bits each time, or need not."""
    found = dict(environment)
    flags = [flag for flag in found.get(XLA, "").split() if flag != SETTINGS_AT_START[XLA]]
    if deterministic:
        found |= {**SETTINGS_AT_START, XLA: " ".join([*flags, SETTINGS_AT_START[XLA]])}
    else:
        found.pop(CUBLAS, None)
        found[XLA] = " ".join(flags)
    return found


def list_changed(one: Quantities, other: Quantities) -> list[TensorKey]:
    """The tensors whose bits are not the same in two runs."""
    again = dict(list_tensors(other))
    return [key for key, array in list_tensors(one) if array.tobytes() != again[key].tobytes()]


def find_spread(runs: Sequence[Quantities]) -> dict[TensorKey, float]:
    """How far apart runs are, tensor by tensor: the greatest root mean square difference of two."""
    spread: dict[TensorKey, float] = {}
    for one, other in combinations(runs, 2):
        again = dict(list_tensors(other))
        for key, array in list_tensors(one):
            apart = array.astype(np.float64) - again[key].astype(np.float64)
            size = float(np.sqrt(np.square(apart).mean()))
            spread[key] = max(spread.get(key, 0.0), size)
    return spread


def refuses(error: Exception) -> bool:
    """Whether an operation has raised an error because it cannot compute the same bits each time.

    No framework has a class for that; all of them say "deterministic" or "determinism".
    """
    return not isinstance(error, ResattnError) and "determinis" in str(error).lower()

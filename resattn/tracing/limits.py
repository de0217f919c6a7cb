"""How far rounding may move a stage: the one place where the trace takes its limits from."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from resattn.checking.crosscheck import LIMIT
from resattn.checking.rounding import FORMATS
from resattn.checking.tolerances import TRAINING_TOLERANCE, tolerance
from resattn.oracle.kinks import Kinks
from resattn.oracle.node import Array, disturbed

Spread = Mapping[str, float]  # by stage, relative to its greatest magnitude
RUNS = 2


def measure_spread(
    right: Mapping[str, Array],
    distances: list[Array],
    dtype: str,
    run: Callable[[Kinks], Mapping[str, Array]],
) -> dict[str, float]:
    """How far the rounding of a format can move each of some arrays.

    right: without rounding errors. distances: from the kinks, in the same pass. run: makes the pass
    and returns the arrays, with errors.
    """
    found: dict[str, float] = {}
    for number in range(RUNS):
        noise = FORMATS[dtype].noise(np.random.default_rng([6, number]))
        coin = np.random.default_rng(5)
        kinks = Kinks(distances, coin, inverted=number == 1, unit=noise.unit)
        with disturbed(noise), np.errstate(all="ignore"):
            moved = run(kinks)
            for name, array in moved.items():
                apart = float(np.abs(array - right[name]).max(initial=0))
                apart /= float(np.abs(right[name]).max(initial=0)) or 1.0
                found[name] = max(found.get(name, 0.0), apart)
    return found


def rounding_limit(dtype: str, quantity: str, explained: float = 0.0) -> float:
    """The limit for a stage's relative difference from the oracle.

    quantity: of `resattn.checking.tolerances`, for a single stage. explained: what rounding
    explains, if more was computed since the last values that both have in common.
    """
    return max(tolerance(dtype, quantity), LIMIT * explained if np.isfinite(explained) else 0.0)


def training_limit(dtype: str, explained: float) -> float:
    """The limit for the relative difference of a loss or a parameter after a training step.

    explained: what rounding explains of it. In float64 the limit is that of `resattn drift`.
    """
    limit = rounding_limit(dtype, "train gradient", explained)
    return max(limit, TRAINING_TOLERANCE) if dtype == "float64" else limit

"""Timings of several implementations of one thing, interleaved, so that a machine that slows down
slows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def time_rounds(
    works: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 3
) -> dict[str, list[float]]:
    """The seconds of each run of each work, by name. A round runs every work once.

    works: each returns when its result is there. warm_up: rounds before those that count.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(warm_up + rounds):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            seconds = time.perf_counter() - start
            if number >= warm_up:
                times[name].append(seconds)
    return times

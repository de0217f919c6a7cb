"""Passes of the oracle side by side, each on one core."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

Outcome = TypeVar("Outcome")

# Below so many multiplications threads wait for each other's Python more than they compute.
FEWEST_PRODUCTS = 10**8


def run_together(tasks: Sequence[Callable[[], Outcome]], products: int) -> list[Outcome]:
    """The outcomes of functions that depend on nothing of each other. products: of each.

    NumPy's BLAS gets one thread: it waits for its others in a loop, which made a block's passes
    slower and, beside a framework's threads, up to five times as expensive.
    """
    workers = min(len(tasks), os.cpu_count() or 1) if products >= FEWEST_PRODUCTS else 1
    with threadpool_limits(limits=1, user_api="blas"):
        if workers == 1:
            return [task() for task in tasks]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda task: task(), tasks))

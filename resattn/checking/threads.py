"""Passes of the oracle side by side, each on one core."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Made = TypeVar("Made")

# With fewer multiplications a pass is mostly Python, which threads do not run side by side.
FEWEST_PRODUCTS = 10**8


def one_blas_thread() -> AbstractContextManager[object]:
    """Within it, NumPy's BLAS uses one thread.

    Its others wait in a loop. Where other programs compute as well, a check of one block in PyTorch
    took up to four times the CPU time for that: 20 s, and 5 s with one thread.
    """
    limit: AbstractContextManager[object] = _find_blas().limit(limits=1)
    return limit


@cache
def _find_blas() -> ThreadpoolController:
    """NumPy's BLAS, which is loaded with NumPy. To look for it takes 10 ms beside frameworks."""
    return ThreadpoolController().select(user_api="blas")


def run_together(tasks: Sequence[Callable[[], Made]], products: int) -> list[Made]:
    """The outcomes of functions that depend on nothing of each other. products: of each."""
    workers = min(len(tasks), os.cpu_count() or 1) if products >= FEWEST_PRODUCTS else 1
    with one_blas_thread():
        if workers == 1:
            return [task() for task in tasks]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda task: task(), tasks))

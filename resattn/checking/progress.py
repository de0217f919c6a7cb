"""How far long work is."""

from collections.abc import Callable
from typing import Self

from weights.language import say


class ProgressLine(str):
    """A line about long work. done: the part of the work before it, from 0 to 1."""

    done: float

    def __new__(cls, line: str, done: float) -> Self:
        found = super().__new__(cls, line)
        found.done = done
        return found


class StepCounter:
    """Tells the steps of long work with their number: "2 of 7, oracle".

    tell: called with each line. total: the number of steps.
    """

    def __init__(self, tell: Callable[[str], None], total: int):
        self.tell, self.total, self.number = tell, total, 0

    def __call__(self, step: str) -> None:
        """The next step begins."""
        self.number += 1
        self.show(step)

    def show(self, line: str) -> None:
        """Something else of the same step."""
        told = say("{number} of {total}, {line}", number=self.number, total=self.total, line=line)
        self.tell(ProgressLine(told, (self.number - 1) / self.total))

"""Kinks: places where slopes jump, so that rounding may decide which slope is used."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from resattn.oracle.node import Array

# A value this many root mean square errors away from its kink is decided. Errors of single values
# are several times as large as the root mean square of their channel.
REACH = 8
FEWEST = 16  # values of a channel whose error is taken by itself


@dataclass
class Kinks:
    """The sides of their kinks on which the values of a pass are.

    An exact pass notes the signed distances of all values from their kinks. A pass disturbed by
    noise is given those of the exact pass, and decides by a coin where the noise could.

    distances: of the exact pass, in the order of execution. coin: None in the exact pass.
    inverted: whether to take the other side of each coin, for a pass that complements another one
    with the same coin. unit: the relative error of one rounding; no tensor has a smaller error.
    undecided: how many values were decided by the coin. matter: False for an exact pass that no
    disturbed one will follow, so that it need not note anything.
    """

    distances: list[Array] = field(default_factory=list)
    coin: np.random.Generator | None = None
    inverted: bool = False
    unit: float = 0.0
    undecided: int = 0
    matter: bool = True
    _next: int = 0

    def decide(self, distance: Array) -> Array:
        """For each value whether it counts as above its kink. distance: signed, from the kink."""
        if self.coin is None:
            if self.matter:
                self.distances.append(distance)
            above: Array = distance > 0
            return above
        exact = self.distances[self._next]
        self._next += 1
        near = _near(exact, distance, self.unit)
        self.undecided += int(near.sum())
        side = (self.coin.random(exact.shape) < 0.5) != self.inverted
        return np.where(near, side, exact > 0)

    @property
    def margin(self) -> float:
        """The smallest distance from a kink, relative to the greatest in its tensor."""
        found = (np.abs(distance[distance != 0]) for distance in self.distances)
        return min((float(each.min() / each.max()) for each in found if each.size), default=np.inf)


def _near(exact: Array, distance: Array, unit: float) -> Array:
    """Where noise, as large as the difference between two passes, can change the side."""
    with np.errstate(invalid="ignore"):
        error = distance - exact
        squares = np.square(error)
        axes = (0, *range(2, exact.ndim))
        by_channel = exact.ndim == 4 and exact.size // exact.shape[1] >= FEWEST
        mean = squares.mean(axis=axes, keepdims=True) if by_channel else squares.mean()
        mean = np.maximum(mean, unit**2 * np.square(exact).mean())
        # Where there is no error at all, as between zeros of a relu, nothing is undecided.
        near: Array = (np.abs(exact) <= REACH * np.sqrt(mean)) & (error != 0)
    return near

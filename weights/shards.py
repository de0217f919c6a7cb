"""How a batch is divided over devices in data-parallel training, as data.

A batch of n images over d devices: each device gets a shard of ceil(n / d) images, the first device
the first ones. Where d does not divide n, copies of the first image fill the last shards up. They
have weight 0: statistics, loss and gradients are those of the n images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from weights.checks import at_least, check_statistics, one_of
from weights.fields import Checked, Plain

# The images that a device computed on, and its own copies of parameters and statistics.
DeviceState = tuple[np.ndarray, Mapping[str, np.ndarray]]
_STATISTICS = ("global", "local")


@dataclass(frozen=True)
class Shards(Plain):
    """The devices of a data-parallel run, and what its batch norms normalise with in training.

    count: the number of devices.
    statistics: "global": mean and variance of the whole batch, so that the run computes the same as
        on one device. "local": each shard has its own mean and variance. The running statistics
        are the same on every device: they take the average of the shards' means, and that of
        their unbiased variances, weighted by the numbers of images. The variance between the means
        of shards is therefore in none of them.
    Raises ArgumentError, naming the argument.
    """

    count: Checked[int, int] = Checked(partial(at_least, least=1), 1)
    statistics: Checked[str, str] = Checked(partial(one_of, choices=_STATISTICS), "global")

    @property
    def is_local(self) -> bool:
        return self.statistics == "local"

    def divide(self, examples: int) -> Division:
        """How a batch of so many images is divided."""
        return Division(self, at_least("examples", examples, 1))


@dataclass(frozen=True)
class Division:
    """A batch of `examples` images that is divided into shards."""

    shards: Shards
    examples: int

    @property
    def size(self) -> int:
        """Images of a shard, with those that fill it up."""
        return -(-self.examples // self.shards.count)

    @property
    def padded(self) -> int:
        """Images of all shards."""
        return self.size * self.shards.count

    def own(self, shard: int) -> int:
        """How many of a shard's images are the batch's own."""
        return min(max(self.examples - shard * self.size, 0), self.size)

    @property
    def weights(self) -> np.ndarray:
        """(padded,): 1 for the images of the batch and 0 for those that fill it up."""
        return (np.arange(self.padded) < self.examples).astype(np.float64)

    def pad(self, array: np.ndarray) -> np.ndarray:
        """The batch, filled up with copies of its first entry: (examples, ...) -> (padded, ...)."""
        missing = self.padded - self.examples
        return np.concatenate([array, np.repeat(array[:1], missing, axis=0)]) if missing else array

    def part(self, array: np.ndarray, shard: int) -> np.ndarray:
        """A shard of the batch, filled up: (examples, ...) -> (size, ...)."""
        chosen = np.arange(shard * self.size, (shard + 1) * self.size)
        return array[np.where(chosen < self.examples, chosen, 0)]

    def check_counts(self, positions: int) -> None:
        """Raises ArgumentError where a variance is not defined: that of a single value.

        positions: height x width of a map.
        """
        if not self.shards.is_local:
            check_statistics(self.examples * positions)
            return
        for shard in range(self.shards.count):
            if self.own(shard):
                check_statistics(self.own(shard) * positions)

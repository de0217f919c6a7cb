"""The known mistakes of data-parallel training, as other computations of the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from resattn.oracle import evaluation as reference
from resattn.oracle.moments import BatchParts, local_parts
from resattn.oracle.node import Array
from resattn.oracle.training import cross_entropy
from weights.config import Config
from weights.convert import Arrays
from weights.language import join_texts, mark, say
from weights.shards import Division, Shards


@dataclass(frozen=True)
class NormMistake:
    """A way to compute the statistics of batch norms. The first one has no cause: it is right.

    parts: how the batch is divided; None for the whole. padded: whether the images that fill shards
    up count. running: for each device, the weights of the parts in its running statistics; empty if
    the running statistics are those of `parts`.
    """

    cause: str
    words: str
    parts: BatchParts | None
    padded: bool = False
    running: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class SumMistake:
    """A way to add up losses and gradients. The first one has no cause: it is right.

    weights: of each image in the loss, those that fill shards up included. factor: of all
    gradients. detached: whether the norms' gradients stay within a part. devices_differ: whether
    each device keeps a part of the gradient; then this is about the sum of all devices.
    """

    cause: str
    words: str
    weights: tuple[float, ...]
    factor: float = 1.0
    detached: bool = False
    devices_differ: bool = False


@dataclass(frozen=True)
class ParallelProblem:
    """A training step and what the oracle computes in it.

    order: which image of the batch is at each place of the padded batch; empty for the usual order.
    """

    config: Config
    arrays: Arrays
    label_smoothing: float
    shards: Shards
    images: Array
    labels: Array
    order: tuple[int, ...] = ()
    _passes: dict[object, reference.Pass] = field(default_factory=dict, compare=False)

    @property
    def division(self) -> Division:
        return self.shards.divide(len(self.images))

    def with_order(self, seen: Sequence[Sequence[int | None]]) -> ParallelProblem:
        """The same problem with the images that each device has computed on."""
        order = tuple(int(place) for places in seen for place in places if place is not None)
        return replace(self, order=order, _passes={})

    @cached_property
    def _padded(self) -> tuple[Array, Array]:
        if self.order:
            chosen = np.array(self.order)
            return self.images[chosen], self.labels[chosen]
        return self.division.pad(self.images), self.division.pad(self.labels)

    def evaluate(
        self, parts: BatchParts | None, padded: bool, weights: Sequence[float]
    ) -> reference.Pass:
        """One pass. weights: of each image of the padded batch in the loss."""
        key = (parts, padded, tuple(weights))
        if key not in self._passes:
            count = self.division.padded if padded else self.division.examples
            x, labels = (each[:count] for each in self._padded)
            scale = np.array(weights[:count])

            def slope(output: Array) -> Array:
                slopes: Array
                logits = output if output.ndim == 2 else output.mean(axis=(2, 3))
                slopes = cross_entropy(logits, labels, self.label_smoothing)[1]
                slopes = slopes * len(slopes) * scale[:, None]
                if output.ndim == 2:
                    return slopes
                positions = output.shape[2] * output.shape[3]
                return np.broadcast_to(slopes[:, :, None, None] / positions, output.shape)

            self._passes[key] = reference.run(
                self.config, self.arrays, x, slope, training=True, parts=parts
            )
        return self._passes[key]

    def statistics(self, norm: NormMistake) -> list[Arrays]:
        """The running statistics of each device after the step."""
        right = self.mean_weights
        count = self.shards.count
        if not norm.running:
            return [self.evaluate(norm.parts, norm.padded, right).statistics] * count
        assert norm.parts is not None, "running statistics of parts"
        found = []
        for weights in norm.running:
            parts = replace(norm.parts, weights=weights)
            found.append(self.evaluate(parts, norm.padded, right).statistics)
        return found

    def gradients(self, norm: NormMistake, mistake: SumMistake) -> Arrays:
        """Those of the parameters that do not vanish, added up as the mistake does."""
        parts = norm.parts
        if mistake.detached:
            parts = replace(_count_parts(self.division), is_detached=True)
        outcome = self.evaluate(parts, norm.padded, mistake.weights)
        free = outcome.vanishing
        return {
            name: mistake.factor * slope
            for name, slope in outcome.gradients.items()
            if name not in free
        }

    @property
    def mean_weights(self) -> tuple[float, ...]:
        """Of each image in the mean loss of the batch."""
        return tuple(map(float, self.division.weights / self.division.examples))


def _count_parts(division: Division) -> BatchParts:
    """The shards' own images, weighted by their numbers, normalised together."""
    local = local_parts(replace(division, shards=Shards(division.shards.count, "local")))
    assert local is not None, "local statistics have parts"
    return replace(local, is_local=False)


def _equal(parts: BatchParts) -> tuple[float, ...]:
    return (1 / len(parts.images),) * len(parts.images)


def norm_mistakes(problem: ParallelProblem) -> list[NormMistake]:
    """The right way first, and then those that differ from it here."""
    division, shards = problem.division, problem.shards
    together = _count_parts(division)
    local = replace(together, is_local=True)
    count = len(local.images)
    right = NormMistake("", "", local if shards.is_local else None)
    wrong = None if shards.is_local else local
    asked = say("expected local ones") if shards.is_local else say("expected global ones")
    if shards.is_local:
        mixed = say("the batch norms normalise with the statistics of the whole batch (global)")
    else:
        mixed = say(
            "the batch norms of each device normalise with the statistics of its part (local)"
        )
    found = [right, NormMistake(mark("local or global statistics"), _expect(mixed, asked), wrong)]
    first = tuple(float(part == 0) for part in range(count))
    kept = say("the running statistics are those of device 0 alone")
    own = say("each device keeps the running statistics of its own part")
    normal = "" if shards.is_local else say("{mixed}, {asked}, and ", mixed=mixed, asked=asked)
    mean = say("expected their weighted average") if shards.is_local else ""
    found.append(
        NormMistake(
            mark("statistics of device 0"),
            _expect(join_texts((normal, kept)), mean),
            local,
            running=(first,) * shards.count,
        )
    )
    if count == shards.count:  # a device without images has no statistics
        each = tuple(tuple(float(part == one) for part in range(count)) for one in range(count))
        words = _expect(join_texts((normal, own)), mean)
        found.append(NormMistake(mark("statistics of each device"), words, local, running=each))
    sizes = [len(images) for images in local.images]
    uneven = _equal(local) != local.weights
    if uneven:
        what = say(
            "the devices' statistics are averaged as if each had as many images, not {sizes}",
            sizes=sizes,
        )
        found += [
            NormMistake(mark("mean of means"),
                        _expect(what, say("expected weights by the numbers of images")),
                        replace(together, weights=_equal(local))),
            NormMistake(mark("mean of means"), _expect(join_texts((normal, what)), mean), local,
                        running=(_equal(local),) * shards.count),
        ]  # fmt: skip
    if division.padded > division.examples:
        what = say("the images that fill the last shards up count in the statistics")
        parts = _padded_parts(division) if shards.is_local else None
        found.append(NormMistake(mark("padding in the statistics"), what, parts, padded=True))
    return found


def _expect(words: str, expected: str) -> str:
    return say("{words}; {expected}", words=words, expected=expected) if expected else words


def _padded_parts(division: Division) -> BatchParts:
    size, count = division.size, division.shards.count
    images = tuple(tuple(range(shard * size, (shard + 1) * size)) for shard in range(count))
    return BatchParts(images, True, (1 / count,) * count)


def sum_mistakes(problem: ParallelProblem, norm: NormMistake) -> list[SumMistake]:
    """The right way first, and then those that differ from it here."""
    division, count = problem.division, problem.shards.count
    right = problem.mean_weights
    found = [SumMistake("", "", right)]
    losses = {"": right}
    own = [division.own(shard) for shard in range(count)]
    if len({each for each in own if each}) > 1 or 0 in own:
        filled = sum(each > 0 for each in own)
        means = [
            1 / (filled * own[place // division.size]) if place < division.examples else 0.0
            for place in range(division.padded)
        ]
        losses[say("the mean of the devices' mean losses")] = tuple(means)
    if division.padded > division.examples and norm.padded:
        losses[say("a mean over the images that fill shards up, too")] = (
            1 / division.padded,
        ) * division.padded
    for what, weights in losses.items():
        tail = f", of {what}" if what else ""
        found += _scaled(weights, tail, count)
        if what:
            words = say(
                "the loss is {what}; expected the mean over the images of the batch", what=what
            )
            found.append(SumMistake(mark("mean of means of the loss"), words, weights))
    if norm.parts is None and not norm.padded and count > 1:
        words = say(
            "the sums of the batch norms are exchanged without their gradient, so that each "
            "device differentiates its own part alone"
        )
        for factor, differ in ((1.0, False), (1.0, True), (float(count), True)):
            more = say(", and the gradients are not added up over the devices") if differ else ""
            whole = join_texts((words, more))
            mistake = SumMistake(mark("no gradient of the statistics"), whole, right, factor)
            found.append(replace(mistake, detached=True, devices_differ=differ))
    return found


def _scaled(weights: tuple[float, ...], tail: str, count: int) -> list[SumMistake]:
    if count == 1:
        return []
    alone = say("each device keeps the gradient of its own part{tail}", tail=tail)
    mean = say("{alone}, of its own mean loss", alone=alone)
    forgotten = say("expected the sum over the devices")
    large = say(
        "the gradients{tail} are {count} times too large: they are added up where they "
        "should be averaged",
        tail=tail,
        count=count,
    )
    small = say(
        "the gradients{tail} are {count} times too small: they are averaged where they "
        "should be added up",
        tail=tail,
        count=count,
    )
    return [
        SumMistake(mark("forgotten sum of gradients"), _expect(alone, forgotten), weights,
                   devices_differ=True),
        SumMistake(mark("forgotten sum of gradients"), _expect(mean, forgotten),
                   weights, float(count), False, True),
        SumMistake(mark("gradients times devices"), large, weights, float(count)),
        SumMistake(mark("gradients divided twice"), small, weights, 1.0 / count),
    ]  # fmt: skip

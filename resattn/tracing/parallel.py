"""One step of data-parallel training against the oracle: which device does what else, and why.

Each known mistake is computed by the oracle, in float64, and named if it gives what the devices
have. Nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from resattn.checking.tolerances import TRAINING_TOLERANCE
from resattn.oracle.node import Array
from resattn.tracing.parallel_mistakes import (
    NormMistake,
    ParallelProblem,
    SumMistake,
    norm_mistakes,
    sum_mistakes,
)
from weights import difference, schema
from weights.checks import list_names
from weights.config import Config, own_kinds, without_chance
from weights.convert import Arrays
from weights.errors import ArgumentError
from weights.labelled import check_labelled
from weights.language import in_english, mark, say
from weights.recipe import Recipe
from weights.shards import Shards

_UNKNOWN = mark("unexplained: no known mistake computes this")


@dataclass(frozen=True)
class DeviceStep:
    """What one device had in a training step, canonical, in float64.

    images: that it computed on, (images, channels, height, width), with those that fill its shard
    up; None if that is not known. gradients: of the parameters, as its optimizer got them.
    statistics: the running statistics after the step.
    """

    images: Array | None
    gradients: Mapping[str, Array]
    statistics: Mapping[str, Array]


@dataclass(frozen=True)
class StepFinding:
    """Something that devices compute otherwise than asked for.

    quantity: "images", "statistics" or "gradients". cause: its name; "" if none is known.
    words: a sentence. place: the first tensor that differs, with how far; "" for images.
    """

    quantity: str
    cause: str
    words: str
    place: str = ""

    def __str__(self) -> str:
        return (
            say("{words} ({place})", words=self.words, place=self.place)
            if self.place
            else self.words
        )


@dataclass(frozen=True)
class StepTrace:
    """The outcome of `trace_step`. `print(trace)` shows it."""

    title: str
    findings: tuple[StepFinding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The findings as text."""
        if self.ok:
            return [self.title, say("  every device computes what it should")]
        return [self.title, *(f"  {say(each.quantity)}: {each}" for each in self.findings)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        findings = [in_english({**vars(finding)}) for finding in self.findings]
        return {"title": in_english(self.title), "ok": self.ok, "findings": findings}


def trace_step(
    config: Config,
    arrays: Mapping[str, Array],
    recipe: Recipe,
    shards: Shards,
    images: Array,
    labels: Array,
    observed: Sequence[DeviceStep],
) -> StepTrace:
    """Compares one step of training on several devices with what `shards` asks for.

    arrays: parameters and statistics before the step, canonical. recipe: for its label smoothing.
    images: the whole batch, (batch, channels, height, width). labels: (batch,).
    observed: what each device had, in the order of their shards. They are of your own program, or
        of a `Trainer`: see `resattn.training.observation`.
    Parameters whose gradient is exactly zero are left out; see `resattn.training.drift`.
    Raises ArgumentError for another number of devices than `shards` has.
    """
    if len(observed) != shards.count:
        raise ArgumentError(
            say(
                "observed: expected a step of each of {count} devices, got {found}",
                count=shards.count,
                found=len(observed),
            )
        )
    if own_kinds(config):
        raise ArgumentError(
            say("config: expected attention kinds of ours, got one of a user's own")
        )
    labels = check_labelled(images, labels, config)
    _check_names(config, observed)
    problem = ParallelProblem(
        without_chance(config), dict(arrays), recipe.label_smoothing, shards, images, labels
    )
    findings = []
    seen = _find_seen(problem, observed)
    if seen is not None:
        findings += list(_explain_images(problem, observed, seen))
        if any(None in each for each in seen):
            return StepTrace(_title(config, shards), tuple(findings))
        problem = problem.with_order(seen)
    norm, found = _explain_statistics(problem, observed)
    findings += found
    findings += _explain_gradients(problem, norm, observed)
    return StepTrace(_title(config, shards), tuple(findings))


def _check_names(config: Config, observed: Sequence[DeviceStep]) -> None:
    """Raises ArgumentError for names that the config does not have, and where nothing is given to
    compare.
    """
    names = {each.name: each.trainable for each in schema(config)}
    for shard, step in enumerate(observed):
        for quantity, given, trained in (
            ("gradients", step.gradients, True), ("statistics", step.statistics, False),
        ):  # fmt: skip
            known = {name for name, is_trained in names.items() if is_trained == trained}
            unknown = [name for name in given if name not in known]
            if unknown:
                raise ArgumentError(
                    say(
                        "observed: the {quantity} of device {device} have no {names} in this "
                        "config; its names are {known}",
                        quantity=quantity,
                        device=shard,
                        names=list_names(unknown),
                        known=list_names(known),
                    )
                )
            if known and not given:
                raise ArgumentError(
                    say(
                        "observed: expected the {quantity} of device {device}, got none; those of "
                        "frozen parameters alone may be left out",
                        quantity=quantity,
                        device=shard,
                    )
                )


def _title(config: Config, shards: Shards) -> str:
    return say(
        "one training step of {config} on {count} devices, {statistics} statistics",
        config=config.describe(),
        count=shards.count,
        statistics=shards.statistics,
    )


# Images


def _find_seen(
    problem: ParallelProblem, observed: Sequence[DeviceStep]
) -> list[list[int | None]] | None:
    """Which images of the batch each device computed on, None for one that is not in the batch;
    None if all is as it should be, or not known.
    """
    if any(step.images is None for step in observed):
        return None
    content = [image.tobytes() for image in problem.images]
    places = {image: place for place, image in reversed([*enumerate(content)])}
    division = problem.division
    expected = [
        list(map(int, division.part(np.arange(division.examples), shard)))
        for shard in range(division.shards.count)
    ]
    seen: list[list[int | None]] = []
    for step, right in zip(observed, expected, strict=True):
        assert step.images is not None, "it is known"
        held = [np.ascontiguousarray(image).tobytes() for image in step.images]
        # A batch may have the same image twice: then it is the one that should be here.
        seen.append([
            right[at] if at < len(right) and content[right[at]] == image else places.get(image)
            for at, image in enumerate(held)
        ])  # fmt: skip
    return None if seen == expected else seen


def _explain_images(
    problem: ParallelProblem, observed: Sequence[DeviceStep], seen: list[list[int | None]]
) -> Iterator[StepFinding]:
    division = problem.division
    for shard, places in enumerate(seen):
        right = list(division.part(np.arange(division.examples), shard))
        if places == right:
            continue
        foreign = sum(place is None for place in places)
        known = [place for place in places if place is not None]
        what = (
            say("images {images} of the batch", images=_name_images(known))
            if known
            else say("no images")
        )
        if foreign and known:
            what = say(
                "images {images} of the batch and {count} that are not in it",
                images=_name_images(known),
                count=foreign,
            )
        elif foreign:
            what = say("{count} images that are not in the batch", count=foreign)
        others = [other for other in range(shard) if seen[other] == places]
        words = say(
            "device {device} computes on {what}; expected {right}",
            device=shard,
            what=what,
            right=_name_images(right),
        )
        if others:
            words = say(
                "device {device} computes on {what}, as device {other} does; expected {right}",
                device=shard,
                what=what,
                other=others[0],
                right=_name_images(right),
            )
        yield StepFinding("images", mark("other data"), words)


def _name_images(places: Sequence[int]) -> str:
    if not places:
        return say("none")
    first, last = places[0], places[-1]
    if list(places) == list(range(first, last + 1)) and len(places) > 2:
        return say("{first} to {last}", first=first, last=last)
    return ", ".join(str(int(place)) for place in places)


# Statistics


def _explain_statistics(
    problem: ParallelProblem, observed: Sequence[DeviceStep]
) -> tuple[NormMistake | None, list[StepFinding]]:
    """How the norms compute, None if no known way gives this; and what is wrong with it."""
    right, *mistakes = norm_mistakes(problem)
    if _match(observed, problem.statistics(right)):
        return right, []
    place = _name_place(observed, problem.statistics(right))
    for mistake in mistakes:
        try:
            computed = problem.statistics(mistake)
        except ArgumentError:  # a variance of one value
            continue
        if _match(observed, computed):
            return mistake, [StepFinding("statistics", mistake.cause, mistake.words, place)]
    return None, [StepFinding("statistics", "", say(_UNKNOWN), place)]


def _match(observed: Sequence[DeviceStep], expected: Sequence[Arrays]) -> bool:
    pairs = zip(observed, expected, strict=True)
    return all(_first_difference(step.statistics, right) is None for step, right in pairs)


def _name_place(observed: Sequence[DeviceStep], expected: Sequence[Arrays]) -> str:
    for shard, (step, right) in enumerate(zip(observed, expected, strict=True)):
        found = _first_difference(step.statistics, right)
        if found is not None:
            return say(
                "first on device {device}, {tensor}: {apart:.0e}",
                device=shard,
                tensor=found[0],
                apart=found[1],
            )
    return ""


# Gradients


def _explain_gradients(
    problem: ParallelProblem, norm: NormMistake | None, observed: Sequence[DeviceStep]
) -> list[StepFinding]:
    gradients = [step.gradients for step in observed]
    norms = norm_mistakes(problem)[0] if norm is None else norm
    right = problem.gradients(norms, sum_mistakes(problem, norms)[0])
    differences = (_first_difference(each, right) for each in gradients)
    apart = next((each for each in differences if each is not None), None)
    if apart is None:
        return []
    place = say("first {tensor}: {apart:.0e}", tensor=apart[0], apart=apart[1])
    if norm is None:
        return [
            StepFinding("gradients", "", say("they differ as well, as do the statistics"), place)
        ]
    names = [name for name in right if all(name in each for each in gradients)]
    agree = all(_first_difference(each, gradients[0]) is None for each in gradients[1:])
    summed = {name: np.sum([each[name] for each in gradients], axis=0) for name in names}
    for mistake in sum_mistakes(problem, norm):
        found = problem.gradients(norm, mistake)
        held = gradients[0] if agree else summed
        if mistake.devices_differ != (not agree) or _first_difference(held, found) is not None:
            continue
        return [_name_sum(mistake, place)]
    return [StepFinding("gradients", "", say(_UNKNOWN), place)]


def _name_sum(mistake: SumMistake, place: str) -> StepFinding:
    return StepFinding("gradients", mistake.cause, mistake.words, place)


def _first_difference(
    actual: Mapping[str, Array], expected: Mapping[str, Array]
) -> tuple[str, float] | None:
    """The first tensor that is too far away, and its relative difference."""
    for name, right in expected.items():
        if name not in actual:
            continue
        relative = difference(actual[name], right, tolerance=0).relative
        if not relative <= TRAINING_TOLERANCE:
            return name, relative
    return None


def observed_step(
    config: Config,
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    images: Array | None,
    rate: float,
) -> DeviceStep:
    """The step of a device that took plain SGD with this learning rate, from its arrays."""
    trained = [parameter.name for parameter in schema(config) if parameter.trainable]
    return DeviceStep(
        images,
        {name: (before[name] - after[name]) / rate for name in trained},
        {name: array for name, array in after.items() if name not in trained},
    )

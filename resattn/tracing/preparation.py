"""Which mistake in the preprocessing explains the tensor that a user made of an image?

The search is over ways to resize and to cut out (`resattn.tracing.resizing`) and over orders of
axes. For each, the normalisation that fits best is computed by least squares, and named afterwards.
Differences are measured in levels: steps of a byte of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import Any, NamedTuple

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.cause import shorten_list
from resattn.tracing.image_causes import (
    FIRST_AS_LAST,
    LAST_AS_FIRST,
    MIRRORED,
    PREPARATIONS,
    TURNED,
    UPSIDE_DOWN,
)
from resattn.tracing.resizing import Resizing, choose_sample, resize_image, resizing_of
from weights.errors import ArgumentError
from weights.language import join_texts, mark, say
from weights.preprocessing import Preprocessing
from weights.resize import preprocess

EXACT_LEVELS = 0.02  # float32 takes 0.001
# What another library's rounding of the same resize takes. Measured with OpenCV and torchvision:
# 3 levels at most and 0.46 in the root of the mean square. Two roundings to bytes take 0.41.
NEAR_LEVELS, NEAR_SPREAD = 4.0, 0.5


@dataclass(frozen=True)
class PreparationVerdict:
    """What explains a tensor.

    right: whether the preprocessing makes this tensor of the images, but for rounding.
    changes: what was done instead, each in words; empty where it is right or nothing explains it.
    difference: the greatest difference from the right tensor, or None where it has another shape.
    rest: the greatest difference that the changes leave, in levels.
    """

    right: bool
    changes: tuple[str, ...]
    difference: float | None
    rest: float

    def __str__(self) -> str:
        most = (
            ""
            if self.difference is None
            else say("; the greatest difference is {difference:.3g}", difference=self.difference)
        )
        if self.right and self.rest <= EXACT_LEVELS:
            return say("The tensor is right{more}.", more=most)
        if self.right:
            return say(
                "The tensor is right up to rounding: {rest:.2g} of 255 levels{more}.",
                rest=self.rest,
                more=most,
            )
        if not self.changes:
            return say("The tensor is wrong, and no known mistake explains it{more}.", more=most)
        rounding = (
            say(", up to {rest:.2g} of 255 levels", rest=self.rest)
            if self.rest > EXACT_LEVELS
            else ""
        )
        return say(
            "The tensor is wrong: {changes}{rounding}.",
            changes=join_texts(self.changes, say(", and ")),
            rounding=rounding,
        )


def explain_preparation(
    images: Sequence[Array], actual: Array, preprocessing: Preprocessing
) -> PreparationVerdict:
    """Says which one or two changes of the preprocessing make `actual` of the images.

    images: bytes (height, width, 3), RGB, of any sizes. actual: what they became, (batch, 3,
    height, width) or (batch, height, width, 3), or without batch for one image.
    Raises ArgumentError where actual has another shape, or not as many images.
    """
    readings = list(read_axes(actual, len(images)))
    right = np.concatenate([preprocess(image[None], preprocessing) for image in images])
    base = readings[0].array
    if not np.isfinite(base).all():
        return PreparationVerdict(
            False, (say("it holds values that are not finite"),), None, np.inf
        )
    plain = np.moveaxis(right, 1, -1).astype(np.float64)
    difference = float(np.abs(base - plain).max()) if base.shape == plain.shape else None
    kind = np.asarray(actual).dtype
    coarseness = float(np.finfo(kind).eps if kind.kind == "f" else 0) * float(np.abs(base).max())
    widest = 255 * preprocessing.scale / min(preprocessing.std)
    levels = coarseness * 255 / (float(np.ptp(base)) or widest)
    found = PreparationSearch(list(images), readings, preprocessing, levels).run()
    return replace(found, difference=difference)


class AxesReading(NamedTuple):
    """An order of the axes of a tensor. array: (batch, height, width, channels), float64."""

    words: tuple[str, ...]
    array: Array

    @property
    def size(self) -> tuple[int, int]:
        return self.array.shape[1], self.array.shape[2]


def read_axes(actual: Array, count: int) -> Iterator[AxesReading]:
    """The orders of axes in which a tensor can be meant, the right one first."""
    x = np.asarray(actual)
    x = x[None] if x.ndim == 3 else x
    first = x.ndim == 4 and x.shape[1] == 3
    if x.ndim != 4 or len(x) != count or not (first or x.shape[3] == 3) or 0 in x.shape:
        raise ArgumentError(
            say(
                "the tensor to explain: expected ({count}, 3, height, width) or ({count}, "
                "height, width, 3), got {shape}",
                count=count,
                shape=np.shape(actual),
            )
        )
    x = x.astype(np.float64)
    last = np.moveaxis(x, 1, -1) if first else x
    yield AxesReading((), last)
    yield AxesReading((say(UPSIDE_DOWN),), last[:, ::-1])
    yield AxesReading((say(MIRRORED),), last[:, :, ::-1])
    yield AxesReading((say("the image is turned by 180 degrees"),), last[:, ::-1, ::-1])
    turned = last.swapaxes(1, 2)
    yield AxesReading((say(TURNED),), turned)
    yield AxesReading((say("the image is turned by 90 degrees to the right"),), turned[:, ::-1])
    yield AxesReading((say("the image is turned by 90 degrees to the left"),), turned[:, :, ::-1])
    batch, rows, cols, channels = last.shape
    if first:
        yield AxesReading((say(LAST_AS_FIRST),), x.reshape(batch, rows, cols, channels))
    else:
        mixed = x.reshape(batch, channels, rows, cols)
        yield AxesReading((say(FIRST_AS_LAST),), np.moveaxis(mixed, 1, -1))


class ChannelFit(NamedTuple):
    """tensor = slopes * bytes[order] + offsets. rest, spread: the greatest difference left and the
    root of the mean square, in levels.
    """

    order: tuple[int, ...]
    slopes: Array
    offsets: Array
    rest: float
    spread: float


def order_of(p: Preprocessing) -> tuple[int, ...]:
    """For each channel of the input, the channel of the image."""
    return (0, 1, 2) if p.channels == "RGB" else (2, 1, 0)


def fit_channels(levels: Array, actual: Array, p: Preprocessing) -> ChannelFit:
    """The order of channels, and their scales and offsets, that fit best."""
    x, y = levels.reshape(-1, 3), actual.reshape(-1, 3)
    x_mean, y_mean = x.mean(0), y.mean(0)
    covariance = (y - y_mean).T @ (x - x_mean)
    spread = ((x - x_mean) ** 2).sum(0)
    scales = np.outer(np.sqrt(((y - y_mean) ** 2).sum(0)), np.sqrt(spread))
    likeness = np.abs(covariance) / np.where(scales == 0, 1.0, scales)
    order = order_of(p)
    for other in permutations(range(3)):
        if likeness[range(3), other].sum() > likeness[range(3), order].sum() + 1e-6:
            order = other
    chosen = spread[list(order)]
    flat = chosen == 0  # a channel of one value says nothing about its scale
    slopes = covariance[range(3), order] / np.where(flat, 1.0, chosen)
    slopes = np.where(flat, p.scale / np.array(p.std), slopes)
    offsets = y_mean - slopes * x_mean[list(order)]
    rest = (y - slopes * x[:, order] - offsets) / np.where(slopes == 0, 1.0, slopes)
    if (slopes == 0).any():
        return ChannelFit(order, slopes, offsets, np.inf, np.inf)
    return ChannelFit(
        order, slopes, offsets, float(np.abs(rest).max()), float(np.sqrt((rest**2).mean()))
    )


def is_alike(fit: ChannelFit, slopes: Array, offsets: Array, limit: float) -> bool:
    """Whether a fit has these numbers, but for `limit` levels in any byte."""
    darkest = fit.offsets - offsets
    brightest = darkest + 255 * (fit.slopes - slopes)
    return bool((np.maximum(abs(darkest), abs(brightest)) <= limit * abs(slopes)).all())


def name_values(fit: ChannelFit, p: Preprocessing, limit: float) -> tuple[str, ...]:
    """What was done to the values, if not what should have been. limit: in levels."""
    right, mean, std = order_of(p), np.array(p.mean), np.array(p.std)
    slopes, offsets = p.scale / std, -mean / std
    names = "".join("RGB"[channel] for channel in fit.order)
    order = (
        ()
        if fit.order == right
        else (say("the channels are {names}, not {right}", names=names, right=p.channels),)
    )
    if is_alike(fit, slopes, offsets, limit):
        return order
    if fit.order == right[::-1] and is_alike(fit, slopes[::-1], offsets[::-1], limit):
        return (say("the channels were reversed after the normalisation"),)
    known = {
        say("mean and std are in the reverse order"): (slopes[::-1], offsets[::-1]),
        say("mean was not subtracted"): (slopes, 0 * offsets),
        say("the values were not divided by std"): (0 * slopes + p.scale, -mean),
        say("the values were not multiplied by {factor:.6g}", factor=p.scale): (
            slopes / p.scale,
            offsets,
        ),
        say("the values were multiplied by {factor:.6g} twice", factor=p.scale): (
            slopes * p.scale,
            offsets,
        ),
        say("the values were normalised twice"): (slopes / std, (offsets - mean) / std),
    }
    for words, numbers in known.items():
        if is_alike(fit, *numbers, limit):
            return (*order, words)
    wrong = _name_numbers(fit, limit) or _formula(fit.slopes, fit.offsets)
    meant = _name_numbers(ChannelFit(right, slopes, offsets, 0.0, 0.0)) or _formula(slopes, offsets)
    return (*order, say("the image is {wrong}, not {meant}", wrong=wrong, meant=meant))


def _name_numbers(fit: ChannelFit, limit: float = EXACT_LEVELS) -> str | None:
    """The usual name of what a fit says was done."""
    for words, usual in PREPARATIONS.items():
        mean, std = (np.broadcast_to(each, 3)[list(fit.order)] for each in usual)
        if is_alike(fit, 1 / 255 / std, -mean / std, limit):
            return say(words)
    return None


def _formula(slopes: Array, offsets: Array) -> str:
    scale, offset = (shorten_list(map(float, part)) for part in (slopes, offsets))
    return say("{scale} times its bytes plus {offset}", scale=scale, offset=offset)


class Change(NamedTuple):
    """A way to resize wrongly. Only changes of different groups are combined."""

    group: str
    words: str
    fields: dict[str, Any]


PLAIN = {"antialias": False, "rounding": "never"}
NO_ANTIALIAS = mark(
    "the image was resized without antialiasing, as OpenCV, TensorFlow and "
    "F.interpolate do by default"
)
ALIGNED_CORNERS = mark("the image was resized with its corners aligned (align_corners=True)")
EDGES = mark("the image was resized without half a pixel's offset (half_pixel_centers=False)")
NEAREST_EDGES = mark(
    "the nearest pixel was taken without half a pixel's offset, as PyTorch and OpenCV do"
)
UNROUNDED = mark("the image was resized as floats, not rounded to bytes")
ROUNDED_ONCE = mark("the resized image was rounded once, not after each axis")
SWAPPED = mark(
    "width and height were resized in the other order, as Pillow before version 13 may do"
)
USUAL_CROPS = (1.0, 0.875, 0.9, 0.95, 0.96, 0.965)


def list_changes(p: Preprocessing) -> Iterator[Change]:
    """The usual mistakes in resizing and cutting out, for a preprocessing."""
    how = resizing_of(p)
    for other in ("nearest", "bilinear", "bicubic", "lanczos"):
        if other != p.interpolation:
            words = say(
                "the image was resized with {found} interpolation, not {right}",
                found=other,
                right=p.interpolation,
            )
            yield Change("interpolation", words, {"interpolation": other})
    words = say(
        "the image was averaged over areas (OpenCV's INTER_AREA), not {right}",
        right=p.interpolation,
    )
    for rounding in ("never", "once"):
        yield Change("interpolation", words, {"interpolation": "area", "rounding": rounding})
    yield Change("sampling", say(UNROUNDED), {"rounding": "never"})
    yield Change("sampling", say(ROUNDED_ONCE), {"rounding": "once"})
    yield Change("sampling", say(SWAPPED), {"swapped": True})
    for slope in (-0.5, -0.75):
        for rounding in ("never", "once"):
            plain = {"antialias": False, "rounding": rounding, "slope": slope}
            yield Change("sampling", say(NO_ANTIALIAS), plain)
            yield Change("sampling", say(ALIGNED_CORNERS), {**plain, "grid": "corners"})
            edges = NEAREST_EDGES if p.interpolation == "nearest" else EDGES
            yield Change("sampling", say(edges), {**plain, "grid": "edges"})
    for crop in (usual for usual in USUAL_CROPS if usual != p.crop):
        words = say(
            "the crop keeps {found:g} of the resized image, not {right:g}", found=crop, right=p.crop
        )
        yield Change("crop", words, {"crop": crop})
    yield from _list_modes(how)
    if p.crop_mode == "center" or p.crop < 1:
        words = say(
            "the crop starts at (length - size) // 2, which rounds down, as in Transformers"
        )
        yield Change("start", words, {"start": "down"})
        yield Change(
            "start", say("the crop is at the top left, not in the centre"), {"start": "corner"}
        )


def _list_modes(how: Resizing) -> Iterator[Change]:
    size = f"{how.size[0]} x {how.size[1]}"
    if how.crop_mode == "center":
        squashed = say("the image was squashed to {size} instead of cropped", size=size)
        yield Change("mode", squashed, {"crop_mode": "squash", "crop": 1.0})
        if how.crop < 1:
            words = say("both sides were resized, not the shorter one, before the crop")
            yield Change("mode", words, {"crop_mode": "squash"})
        words = say("the image was cut to its largest centre first and resized then")
        yield Change("mode", words, {"crop_mode": "first"})
    else:
        words = say(
            "the shorter side was resized and the centre cropped, not squashed to {size}", size=size
        )
        yield Change("mode", words, {"crop_mode": "center"})
        words = say("the image was cut to the proportions of {size} first, not squashed", size=size)
        yield Change("mode", words, {"crop_mode": "first"})


def list_targets(p: Preprocessing) -> Iterator[Change]:
    """All other sizes before the crop, from that of the input to half as much again."""
    side = p.size[0]
    right = int(side / p.crop)
    for target in range(side, side * 3 // 2 + 1):
        words = say(
            "the sides were resized to {target} before the crop, not {right}",
            target=target,
            right=right,
        )
        if p.crop_mode == "center":
            words = say(
                "the shorter side was resized to {target} before the crop, not {right}",
                target=target,
                right=right,
            )
        yield Change("crop", words, {"crop": side / (target + 0.25) if target > side else 1.0})


class PreparationMatch(NamedTuple):
    """A way to make the tensor.

    changes: all of them, in words; resizing: those of how. rest, spread: of `ChannelFit`.
    """

    changes: tuple[str, ...]
    resizing: tuple[str, ...]
    rest: float
    spread: float
    how: Resizing
    reading: AxesReading

    @property
    def is_near(self) -> bool:
        return self.rest <= NEAR_LEVELS and self.spread <= NEAR_SPREAD


THREE = ("interpolation", "crop", "mode")  # what libraries' defaults differ in
Way = tuple[tuple[str, ...], Resizing]


class PreparationSearch:
    """Looks for the fewest changes that explain a tensor."""

    def __init__(
        self,
        images: list[Array],
        readings: list[AxesReading],
        p: Preprocessing,
        precision: float = 0.0,
    ):
        self.images, self.readings, self.p = images, readings, p
        self.right = resizing_of(p)
        self.limit = max(EXACT_LEVELS, precision)
        self.samples: dict[Resizing, Array] = {}

    def run(self) -> PreparationVerdict:
        usual = list(list_changes(self.p))
        plain = self._measure((), self.right, self.readings[0], sample=False)
        if plain.rest <= self.limit and not plain.changes:
            return PreparationVerdict(True, (), None, plain.rest)
        near: list[PreparationMatch] = []
        singles = [((change.words,), replace(self.right, **change.fields)) for change in usual]
        targets = [
            ((change.words,), replace(self.right, **change.fields))
            for change in list_targets(self.p)
        ]
        right = ((), self.right)
        several = self._combine(usual), self._combine(usual, *THREE)
        stages: list[Iterable[Way]] = [[right], singles, targets, *several]
        for number, ways in enumerate(stages):
            readings = self.readings[: 1 if number > 1 else None]
            matches = [
                self._measure(words, how, reading) for words, how in ways for reading in readings
            ]
            if exact := self._find_exact(matches):
                return PreparationVerdict(False, exact.changes, None, exact.rest)
            near += sorted(matches, key=_rate)[:3]
            if number == 1 and plain.is_near and not plain.changes:
                return PreparationVerdict(True, (), None, plain.rest)
        found = self._find_near(plain, near)
        changes, rest = ((), plain.rest) if found is None else (found.changes, found.rest)
        return PreparationVerdict(False, changes, None, rest)

    def _find_near(
        self, plain: PreparationMatch, near: list[PreparationMatch]
    ) -> PreparationMatch | None:
        """The best match that leaves no more than another library's rounding, if it is a clear
        improvement.
        """
        whole = [
            self._measure(each.resizing, each.how, each.reading, sample=False) for each in near
        ]
        clear = [each for each in whole if each.is_near and each.spread < plain.spread / 1.5]
        clear += [plain] if plain.is_near else []
        return min((each for each in clear if each.changes), key=_rate, default=None)

    def _combine(self, changes: list[Change], *groups: str) -> Iterator[Way]:
        """Two changes of different groups, or one of each group."""
        for several in combinations(changes, len(groups) or 2):
            found = {change.group for change in several}
            if found == set(groups) if groups else len(found) == 2:
                how = self.right
                for change in several:
                    how = replace(how, **change.fields)
                yield tuple(change.words for change in several), how

    def _find_exact(self, matches: list[PreparationMatch]) -> PreparationMatch | None:
        """The match with the fewest changes that is exact, also where no sample was taken. Of
        equal ones, the first of `list_changes`.
        """
        exact = [each for each in matches if each.rest <= self.limit]
        for match in sorted(exact, key=lambda each: (len(each.changes), round(each.spread, 3))):
            whole = self._measure(match.resizing, match.how, match.reading, sample=False)
            if whole.rest <= self.limit and whole.changes:
                return whole
        return None

    def _resize(self, how: Resizing, sample: bool) -> Array:
        """The images after resizing, or samples of them, which are kept for the other readings."""
        if sample and how in self.samples:
            return self.samples[how]
        levels = np.stack([resize_image(image, how, sample) for image in self.images])
        if sample:
            self.samples[how] = levels
        return levels

    def _measure(
        self, words: tuple[str, ...], how: Resizing, reading: AxesReading, sample: bool = True
    ) -> PreparationMatch:
        how = replace(how, size=reading.size)
        size = " x ".join(map(str, reading.size)), " x ".join(map(str, self.p.size))
        other = (
            ()
            if reading.size == self.p.size
            else (say("the size is {found}, not {right}", found=size[0], right=size[1]),)
        )
        levels = self._resize(how, sample)
        actual = reading.array
        if sample:
            rows, cols = (choose_sample(side) for side in reading.size)
            actual = actual[:, rows[:, None], cols]
        fit = fit_channels(levels, actual, self.p)
        close = fit.rest <= NEAR_LEVELS
        limit = max(self.limit, min(fit.rest, 0.5))
        values = name_values(fit, self.p, limit) if close else ()
        changes = (*words, *other, *reading.words, *values)
        return PreparationMatch(changes, words, fit.rest, fit.spread, how, reading)


def _rate(match: PreparationMatch) -> float:
    """The less, the better: another change must take away a tenth of a level."""
    return match.spread + 0.1 * len(match.changes)

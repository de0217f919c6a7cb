"""The search for a change of the model that computes what was recorded.

Changes are screened on the image that differs most, many at once, in float32 where the difference
is large enough; what comes near is computed exactly for all images. From likely to unlikely: one
cause in all places, in one; other connections; exchanged parameters; one cause in a part of the
places; a number that is solved for; two common mistakes. The search ends with the first of these
that explains the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TypeVar

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.causes import apply_causes
from resattn.tracing.changes import Key, count_consistent, merge_changes, repeat_change
from resattn.tracing.computation import StageSpec, compute
from resattn.tracing.explanations import (
    CauseExplanation,
    find_explanations,
    measure_distance,
    measure_misfit,
)
from resattn.tracing.fitting import fit_image, fit_numbers
from resattn.tracing.parts import Edit
from resattn.tracing.places import Sets, list_sets, name_places
from resattn.tracing.sampling import Sample
from resattn.tracing.solved import solve_target
from resattn.tracing.steps import ImpossibleChange, Program, Site, Steps, TracedStep
from resattn.tracing.structure import (
    list_copies,
    list_edits,
    list_exchanges,
    list_stride_edits,
)
from weights.config import BlockConfig, Config
from weights.graph import IMAGE
from weights.language import join_texts, say

Tried = tuple[float, str, str, Callable[[Program], Steps]]  # distance, cause, words, change

MODE = "train or evaluation mode"
# Mistakes that people make together. Only these are tried in pairs where stages were not recorded.
COMMON_MISTAKES = (
    "SAME padding",
    "batch norm eps",
    MODE,
    "channel order of the image",
    "gamma and beta swapped",
    "missing bias",
)
ROWS_AT_ONCE = 32
FEW_STEPS = 20
Item = TypeVar("Item")


@dataclass(frozen=True)
class Search:
    """The search for what explains one recorded stage, the target.

    program: the model with its values. actual: the recorded value. limit: for the relative
    difference, by the name of a stage.
    """

    program: Program
    config: Config
    target: str
    actual: Array
    limit: Callable[[str], float]
    recorded: Mapping[str, Array]
    progress: Callable[[str], None] = field(default=lambda line: None)

    def explain_many(self) -> list[CauseExplanation]:
        """Explanations of a target with steps before it that were not recorded."""
        found = self._verify(self._screen_edits(list_stride_edits(self.program, self.config)))
        found = found or self._explain_tier(0) or self._explain_tier(1)
        if len(self._region) <= FEW_STEPS and len(self.program.fixed) > 4:
            found = self._prefer_consistent(found)
        found = found or self._verify(self._screen_edits(self._edits))
        found = found or self._verify(self._screen_edits(self._exchanges))
        found = found or self._explain_tier(2)
        found = found or self._verify(self._screen_edits(self._copies))
        found = found or self._solve()
        found = found or self._fit()
        return found or self._verify(self._screen_pairs()) or self._partly

    def explain_connections(self, found: list[CauseExplanation]) -> list[CauseExplanation]:
        """Explanations by other connections or parameters, where all steps were recorded.

        found: those by a cause in the stage itself.
        """
        found = self._prefer_consistent(found)
        found = found or self._verify(self._screen_edits(self._exchanges))
        return found or self._verify(self._screen_edits(self._copies))

    def solve_rest(self) -> list[CauseExplanation]:
        """Explanations with many unknown numbers; of a sample, which has too few values for them,
        with one.
        """
        return self._fit() if self._sample else self._solve()

    def _prefer_consistent(self, found: list[CauseExplanation]) -> list[CauseExplanation]:
        """Other connections, if they explain more stages than this one; else what was found."""
        if found and not self._others_differ:
            return found
        least = (0, 1) if found else (-len(self.recorded), 0)
        return self._verify(self._screen_edits(self._edits), least=least) or found

    @cached_property
    def _others_differ(self) -> bool:
        return any(
            measure_distance(self.program.expect(name), actual) > self.limit(name)
            for name, actual in self.recorded.items()
            if name not in (self.target, IMAGE) and name in self.program.fixed
        )

    @property
    def _sample(self) -> Sample | None:
        return self.program.samples.get(self.target)

    def _solve(self) -> list[CauseExplanation]:
        limit = self.limit(self.target)
        if self._sample:
            return []
        return list(solve_target(self.program, self.target, self.actual, limit))[:1]

    @cached_property
    def _region(self) -> list[str]:
        return self.program.reach(self.target)

    @cached_property
    def _off(self) -> float:
        return measure_distance(self.program.expect(self.target), self.actual)

    @cached_property
    def _image(self) -> int:
        """The image that differs most."""
        axes = tuple(range(1, self.actual.ndim))
        apart = np.abs(self.program.expect(self.target) - self.actual).max(axis=axes)
        return int(np.nan_to_num(apart, nan=0.0).argmax())

    @cached_property
    def _small(self) -> Program:
        """What changes are screened on."""
        if self.program.training:
            return self.program
        return self.program.narrow("float32" if self._off > 3e-4 else "float64", self._image)

    @cached_property
    def _small_actual(self) -> Array:
        if self.program.training:
            return self.actual
        return self.actual[self._image : self._image + 1]

    @cached_property
    def _partly(self) -> list[CauseExplanation]:
        """Rounding that accounts for nearly all of the difference: it cannot be repeated."""
        found = [
            self._check_partly(*each) for each in sorted(self._rough, key=lambda each: each[0])
        ]
        kept = [each for each in found if each is not None]
        return sorted(kept, key=lambda each: each.left)[:1]

    @cached_property
    def _rough(self) -> list[Tried]:
        return []

    # Causes at one or more places

    @cached_property
    def _tiers(self) -> list[Sets]:
        return list_sets(self._region, self.program)

    @cached_property
    def _seen(self) -> set[tuple[Key, frozenset[str]]]:
        """The causes that were tried, with their places."""
        return set()

    def _explain_tier(self, number: int) -> list[CauseExplanation]:
        """One cause at one or more places."""
        near: list[Tried] = []
        for label, places in self._tiers[number]:
            self.progress(say("try causes{places}", places=name_places(label, places)))
            near += self._screen_set(label, places)
        found = self._verify(near)
        if number == 1:
            known = {each.cause for each in found}
            found += [each for each in self._explain_last() if each.cause not in known]
        return found

    def _explain_last(self) -> list[CauseExplanation]:
        """Causes of the target itself, also with numbers that are solved for."""
        step = self.program.steps[self.target]
        inputs = tuple(self.program.values[name] for name in step.inputs)
        limit = self.limit(self.target)
        return find_explanations(step.spec, inputs, self.actual, limit, False, self._sample)

    @cached_property
    def _keys(self) -> dict[str, list[Key]]:
        """The causes that each step can have."""
        return {
            name: [
                (cause.name, words)
                for cause, words, _ in apply_causes(self._small.steps[name].spec)
            ]
            for name in self._region
        }

    def _screen_set(self, label: str, places: list[str]) -> Iterator[Tried]:
        fresh = {}
        for key, held in self._find_able(places):
            if (key, frozenset(held)) not in self._seen:
                self._seen.add((key, frozenset(held)))
                fresh[key] = held
        for part in _cut(list(fresh)):
            index = {key: row for row, key in enumerate(part)}
            outputs = self._compute_rows(index, places)
            for key, row in index.items():
                y = outputs.get(row)
                distance = np.inf if y is None else measure_distance(y, self._small_actual)
                held = fresh[key]
                words = join_texts((key[1], name_places(label, held)))
                change = repeat_change(key, held)
                if key[0] == MODE and not self.program.training:  # it depends on all images
                    distance = self._measure_whole(change)
                yield distance, key[0], words, change

    def _measure_whole(self, change: Callable[[Program], Steps]) -> float:
        try:
            y = self._whole.evaluate(change(self._whole), self.target)
        except ImpossibleChange:
            return np.inf
        return measure_distance(y, self.actual)

    @cached_property
    def _whole(self) -> Program:
        """All images, in the dtype of the screening."""
        dtype = "float32" if self._off > 3e-4 else "float64"
        return self.program.narrow(dtype, None)

    def _compute_rows(self, index: Mapping[Key, int], places: list[str]) -> dict[int, Array]:
        if not self.program.training:
            sites = {place: self._make_site(place, index) for place in places}
            try:
                y = self._small.evaluate_rows(sites, len(index), self.target)
            except ImpossibleChange:
                return self._compute_each(index, places)
            found = {row: y[row : row + 1] for row in range(len(y)) if np.isfinite(y[row]).all()}
            resized = {key: row for key, row in index.items() if row not in found}
            return {**found, **self._compute_each(resized, places)}
        return self._compute_each(index, places)

    def _make_site(self, place: str, index: Mapping[Key, int]) -> Site:
        spec, names = self._small.steps[place].spec, {cause for cause, _ in index}

        def run(inputs: Callable[[int], tuple[Array, ...]]) -> Iterator[tuple[int, Array]]:
            for cause, words, changed in apply_causes(spec, names):
                row = index.get((cause.name, words))
                if row is not None:
                    try:
                        y = compute(changed, inputs(row))
                    except (ValueError, IndexError):
                        y = np.full((1,), np.nan)
                    yield row, y

        return run

    def _compute_each(self, index: Mapping[Key, int], places: list[str]) -> dict[int, Array]:
        found = {}
        for key, row in index.items():
            try:
                changed = repeat_change(key, places)(self._small)
                found[row] = self._small.evaluate(changed, self.target)
            except ImpossibleChange:
                continue
        return found

    # Other connections, exchanges, pairs

    @property
    def _edits(self) -> Iterator[Edit]:
        return list_edits(self.program, self.config)

    @property
    def _exchanges(self) -> Iterator[Edit]:
        return list_exchanges(self.program, self.config, self._region)

    @property
    def _copies(self) -> Iterator[Edit]:
        return list_copies(self.program, self._region)

    def _screen_edits(self, edits: Iterable[Edit]) -> list[Tried]:
        waiting: dict[str, list[tuple[Edit, Array]]] = {}
        near: list[Tried] = []
        region = set(self._region)
        for edit in edits:
            try:
                changed = edit.change(self._small)
                if not region & set(changed):
                    continue
                together = edit.join in region and not self.program.training
                join = edit.join if together else self.target
                y = self._small.evaluate(changed, join)
            except (ImpossibleChange, KeyError):
                continue
            if join == self.target:
                distance = measure_distance(y, self._small_actual)
                near.append((distance, edit.cause, edit.words, edit.change))
                continue
            waiting.setdefault(join, []).append((edit, y))
        for join, held in waiting.items():
            near += self._finish(join, held)
        return near

    def _finish(self, join: str, held: list[tuple[Edit, Array]]) -> Iterator[Tried]:
        """The target for edits of which one step was computed."""
        for part in _cut(held):
            given = [y for _, y in part]
            if (
                len({y.shape for y in given}) > 1
                or given[0].shape != self._small.values[join].shape
            ):
                outputs = [self._follow(join, y) for y in given]
            else:
                sites = {join: lambda inputs, given=given: enumerate(given)}
                outputs = list(self._small.evaluate_rows(sites, len(part), self.target)[:, None])
            for (edit, _), y in zip(part, outputs, strict=True):
                distance = measure_distance(y, self._small_actual)
                yield distance, edit.cause, edit.words, edit.change

    def _follow(self, join: str, y: Array) -> Array:
        """The target if a step has that value."""
        try:
            values = {**self._small.values, "given": y}
            step = TracedStep(StageSpec("relu", {}, {"activation": "identity"}), ("given",))
            steps = {**self._small.steps, "given": TracedStep(StageSpec("input"), ())}
            return replace(self._small, values=values, steps=steps).evaluate(
                {join: step}, self.target
            )
        except ImpossibleChange:
            return np.full(1, np.nan)

    def _screen_pairs(self) -> Iterator[Tried]:
        """Two common mistakes: of a block in any places, of a network everywhere."""
        whole = isinstance(self.config, BlockConfig)
        tiers = self._tiers if whole else self._tiers[:1]
        sets = [places for tier in tiers for _, places in tier]
        common = [
            each
            for places in sorted(sets, key=lambda places: places != [IMAGE])
            for each in self._find_able(places)
            if each[0][0] in COMMON_MISTAKES
        ]
        common = [each for n, each in enumerate(common) if each not in common[:n]]
        changes = {n: repeat_change(*each)(self._small) for n, each in enumerate(common)}
        for (n, (a, first)), (m, (b, second)) in combinations(enumerate(common), 2):
            if a[0] == b[0] or set(changes[n]) & set(changes[m]):
                continue
            try:
                y = self._small.evaluate({**changes[n], **changes[m]}, self.target)
            except ImpossibleChange:
                continue
            one, other = (
                join_texts((key[1], name_places("", places)))
                for key, places in ((a, first), (b, second))
            )
            words, cause = (
                say("{one}; {other}", one=one, other=other),
                say("{first} and {second}", first=say(a[0]), second=say(b[0])),
            )
            change = merge_changes(repeat_change(a, first), repeat_change(b, second))
            yield measure_distance(y, self._small_actual), cause, words, change

    def _find_able(self, places: list[str]) -> list[tuple[Key, list[str]]]:
        """The causes that several of the places can have, or the only one, with those places."""
        able: dict[Key, list[str]] = {}
        for place in places:
            for key in self._keys[place]:
                able.setdefault(key, []).append(place)
        return [each for each in able.items() if (len(each[1]) > 1) == (len(places) > 1)]

    def _fit(self) -> list[CauseExplanation]:
        """Causes whose number is solved for."""
        if self.program.training:
            return []
        self.progress(say("solve for numbers"))
        several = len(self._region) > 1
        exact = self.program.narrow("float64", self._image)
        sets = [each for tier in self._tiers for each in tier]
        fits = [*fit_numbers(self._small, exact, sets, self.target, self._small_actual)]
        if IMAGE in self._region:
            fits += fit_image(exact, self.target, self._small_actual) or fit_image(
                self.program, self.target, self.actual
            )
        return self._verify(
            (0.0, cause, join_texts((words, name_places(label, places) if several else "")), change)
            for label, cause, words, places, change in fits
        )

    # Exact checks

    def _verify(
        self, tried: Iterable[Tried], most: int = 12, least: tuple[int, int] = (-(10**6), 0)
    ) -> list[CauseExplanation]:
        """The explanations among what came near, one for each cause.

        least: what `_count_consistent` must give at least.
        """
        small_off = measure_distance(self._small.expect(self.target), self._small_actual)
        bound = max(0.1 * small_off, 20 * self.limit(self.target))
        near = []
        for each in tried:
            if each[1] == "reduced precision" and each[0] < 0.5 * small_off:
                self._rough.append(each)
            elif each[0] <= bound or (each[1] == "rounded output" and each[0] <= small_off):
                near.append(each)
        best: dict[str, tuple[tuple[int, int], int, CauseExplanation]] = {}
        for _, cause, words, change in sorted(near, key=lambda each: each[0])[:most]:
            found = self._check(cause, words, change)
            if found is not None:
                changed = change(self.program)
                merit = self._count_consistent(changed)
                size = len(changed)
                known = best.get(cause)
                if known is None or (merit, -found.left) > (known[0], -known[2].left / 4):
                    best[cause] = merit, size, found
        top = max((merit for merit, _, _ in best.values()), default=(0, 0))
        kept = [each for each in best.values() if each[0] == top >= least]
        return [found for _, _, found in sorted(kept, key=lambda each: (each[1], each[2].left))]

    def _check(
        self, cause: str, words: str, change: Callable[[Program], Steps]
    ) -> CauseExplanation | None:
        """A change as an explanation of the target; None if it explains too little."""
        try:
            changed = change(self.program)
            y = self.program.evaluate(changed, self.target)
        except ImpossibleChange:
            return None
        spec = changed[self.target].spec if self.target in changed else StageSpec("input")
        left = measure_misfit(spec, y, self.actual, self.limit(self.target))
        if left is None or left > self._off / 4:
            return None
        return CauseExplanation(cause, words, spec, left, change, self._list_changed(changed))

    def _check_partly(
        self, distance: float, cause: str, words: str, change: Callable[[Program], Steps]
    ) -> CauseExplanation | None:
        try:
            changed = change(self.program)
            y = self.program.evaluate(changed, self.target)
        except ImpossibleChange:
            return None
        left = measure_distance(y, self.actual)
        if left >= 0.05 * self._off:
            return None
        words = say(
            "{words} (accounts for {share:.0%} of it; rounding cannot be repeated exactly)",
            words=words,
            share=1 - left / self._off,
        )
        places = self._list_changed(changed)
        return CauseExplanation(cause, words, StageSpec("input"), left, change, places)

    def _list_changed(self, changed: Steps) -> tuple[str, ...]:
        """The steps of the model that a change changes, without those that it adds."""
        return tuple(name for name in self.program.steps if name in changed)

    def _count_consistent(self, changed: Steps) -> tuple[int, int]:
        return count_consistent(self.program, changed, self.target, self.recorded, self.limit)


def _cut(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), ROWS_AT_ONCE):
        yield items[start : start + ROWS_AT_ONCE]

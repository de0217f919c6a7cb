"""Which stages of a recorded model compute something else than they should, and what explains it.

The oracle makes a pass that goes on, wherever the model was recorded, with what the model computed.
So each stage is computed from what the model gave it, a mistake shows where it is made and nowhere
else, and there may be many. Where stages were not recorded the oracle computes them, too, and the
mistake can be in any of those between two that were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from resattn.checking.tolerances import tolerance
from resattn.oracle import evaluation as reference
from resattn.oracle.evaluation import Evaluation, Stage
from resattn.oracle.node import Array
from resattn.tracing.causes import (
    ALL_BUT_CHANNELS,
    CAUSES,
    KINDS,
    Cause,
    Explanation,
    Step,
    compute,
    explanations,
    left_over,
    variants,
)
from resattn.tracing.findings import ORACLE, Finding, where
from weights import Difference, difference
from weights.config import BlockConfig, Config
from weights.stages import Recording

Change = Callable[[Step], "Step | None"]
Changes = Mapping[str, Change]  # by stage

# What people get wrong together: only these are tried in pairs where stages in between were not
# recorded.
COMMON = (
    "SAME padding",
    "batch norm eps",
    "train or evaluation mode",
    "channel order of the image",
    "gamma and beta swapped",
    "missing bias",
)
IMAGE = "input"


@dataclass(frozen=True)
class Judge:
    """Judges one recording.

    config, arrays: what the model should be. x: the input that it was given. given: what its first
    stage was given. right: the oracle's own recording; stages of the same name have the same shape.
    rows: how far the model's are from that.
    progress: called with a line now and then.
    """

    model: str
    mode: str
    config: Config
    arrays: Mapping[str, Array]
    dtype: str
    recording: Recording
    x: Array
    given: Array
    right: Recording
    rows: Sequence[Difference]
    progress: Callable[[str], None] = field(default=lambda line: None)

    @property
    def training(self) -> bool:
        return self.mode == "train"

    @property
    def limit(self) -> float:
        return tolerance(self.dtype, "eval output")

    @cached_property
    def values(self) -> dict[str, Array]:
        """What was recorded of the oracle's stages."""
        return {
            name: array
            for name, array in self.recording.values.items()
            if name in self.right.values
        }

    @cached_property
    def along(self) -> Evaluation:
        """The oracle's pass along the recording."""
        return self._pass(self.given, {})

    @cached_property
    def names(self) -> dict[int, str]:
        """The stage that each value is the output of, by the value's id."""
        return {id(stage.output): name for name, stage in self.along.stages.items()}

    def _pass(
        self, image: Array, altered: Mapping[str, Callable[[Stage], Array]], leaving: str = ""
    ) -> Evaluation:
        """One along the recording, but for the stage `leaving`."""
        taken = {name: self._recorded for name in self.values if name not in (leaving, IMAGE)}
        return reference.stages(
            self.config, self.arrays, image, training=self.training, altered={**taken, **altered}
        )

    def _recorded(self, stage: Stage) -> Array:
        return self.values[stage.name].astype(np.float64)

    def findings(self) -> Iterator[Finding]:
        """Every stage that is off, in the order of execution."""
        yield from (finding for finding in self._image if finding.explanations)
        for name, stage in self.along.stages.items():
            if name in self.values and name != IMAGE:
                yield from self._stage(name, stage)
            if stage.kind == "batch_norm" and self.training:
                yield from self._statistics(stage)

    @cached_property
    def _image(self) -> list[Finding]:
        """How what the first stage was given differs from the input, where it has the input's
        shape.
        """
        if self.given.shape != self.x.shape:
            return []
        step, x = Step(IMAGE, {}, {"channels": self.x.shape[1]}), self.x.astype(np.float64)
        return list(self._judged(IMAGE, step, (x,), self.given, x, self.limit))

    @property
    def has_prefix(self) -> bool:
        """Whether the first stage was given something that the input did not become by any known
        mistake.
        """
        return self.given.shape != self.x.shape or any(
            not finding.explanations for finding in self._image
        )

    def _stage(self, name: str, stage: Stage) -> Iterator[Finding]:
        between = self._between(name)
        actual, right = self.values[name], stage.computed.value
        # What makes NaN of NaN, or NaN where it should, is not to blame.
        undefined = ~np.isfinite(actual) | ~np.isfinite(right)
        read = [node.value for node in stage.inputs] + list(self._step(stage).parameters.values())
        if all(np.isfinite(array).all() for array in read):
            undefined = ~np.isfinite(actual) & ~np.isfinite(right)
        actual, right = (np.where(undefined, 0, array) for array in (actual, right))
        if not between:
            inputs = tuple(node.value for node in stage.inputs)
            yield from self._judged(name, self._step(stage), inputs, actual, right, self.limit)
            return
        apart = self._apart(name, actual, right, self.limit)
        if not apart.ok:
            self.progress(f"{self.model}: try causes in {len(between) + 1} stages up to {name}")
            yield self._finding(name, apart, actual, right, self._somewhere(name, between))

    def _statistics(self, stage: Stage) -> Iterator[Finding]:
        """The running statistics behind a batch norm, from what the model gave it."""
        x = stage.inputs[0].value
        count = np.float64(x.size / x.shape[1])
        for leaf, kind, batch in (
            ("running_mean", "running mean", x.mean(ALL_BUT_CHANNELS)),
            ("running_var", "running variance", x.var(ALL_BUT_CHANNELS)),
        ):
            name = f"{stage.module}.{leaf}"
            if name in self.recording.statistics:
                step = Step(kind, {}, {"decay": stage.settings["decay"]})
                inputs = (self.arrays[name].astype(np.float64), batch, count)
                limit = tolerance(self.dtype, "train statistics")
                yield from self._judged(
                    name,
                    step,
                    inputs,
                    self.recording.statistics[name],
                    compute(step, inputs),
                    limit,
                )

    def _judged(
        self,
        name: str,
        step: Step,
        inputs: tuple[Array, ...],
        actual: Array,
        right: Array,
        limit: float,
    ) -> Iterator[Finding]:
        apart = self._apart(name, actual, right, limit)
        if not apart.ok:
            self.progress(f"{self.model}: try causes at {name}")
            yield self._finding(
                name, apart, actual, right, explanations(step, inputs, actual, limit)
            )

    def _finding(
        self,
        name: str,
        apart: Difference,
        actual: Array,
        right: Array,
        found: Iterable[Explanation],
    ) -> Finding:
        agrees = None
        for row in self.rows if name != IMAGE else ():
            if row.tensor == name:
                break
            agrees = (row.tensor, row.relative) if row.ok else agrees
        part = where(actual, right, apart.tolerance)
        return Finding(self.model, self.mode, name, agrees, apart, part, tuple(found))

    def _apart(self, name: str, actual: Array, right: Array, limit: float) -> Difference:
        quantity = f"{self.mode} forward"
        names = (self.model, ORACLE)
        axes = axes_of(actual.shape)
        return difference(
            actual, right, tolerance=limit, quantity=quantity, tensor=name, names=names, axes=axes
        )

    def _step(self, stage: Stage) -> Step:
        """What a stage of the oracle computes, as data."""
        leaves = {
            name.rpartition(".")[2]: array.astype(np.float64)
            for name, array in self.arrays.items()
            if name.rpartition(".")[0] == stage.module
        }
        of_image = any(self.names.get(id(node)) == IMAGE for node in stage.inputs)
        known: dict[str, Any] = {"of_image": of_image, "training": self.training}
        if stage.kind == IMAGE:
            known["channels"] = stage.computed.shape[1]
        return Step(stage.kind, leaves, {**stage.settings, **known})

    def _between(self, name: str) -> list[str]:
        """The stages that lead to one, were not recorded and have no recorded one on the way; in
        the order of execution.
        """
        found: set[str] = set()
        seen: set[int] = set()
        waiting = [source for source, _ in self.along.stages[name].computed.sources]
        while waiting:
            node = waiting.pop()
            stage = self.names.get(id(node))
            if (
                id(node) in seen
                or stage in self.values
                or (stage == IMAGE and self.recording.received is not None)
            ):
                continue
            seen.add(id(node))
            found |= {stage} if stage and self.along.stages[stage].kind in KINDS else set()
            waiting += [source for source, _ in node.sources]
        return [stage for stage in self.along.stages if stage in found]

    # Where only the last of several stages was recorded

    def _somewhere(self, name: str, between: list[str]) -> list[Explanation]:
        """Causes in all of the stages that can have them, or in one; two of the common ones where
        no single one does.
        """
        sites = [self.along.stages[site] for site in (*between, name)]
        offered: dict[tuple[str, str], list[str]] = {}
        for site in sites:
            for cause, words, _ in variants(self._step(site)):
                offered.setdefault((cause.name, words), []).append(site.name)
        everywhere, somewhere = [], []
        for (cause, words), places in offered.items():
            change = _again(cause, words)
            if places == [IMAGE]:
                everywhere.append((cause, f"{words}, in the input", {IMAGE: change}))
                continue
            if len(places) > 1:
                everywhere.append(
                    (cause, f"{words}, in all of {_few(places)}", dict.fromkeys(places, change))
                )
            somewhere += [(cause, f"{words}, at {place}", {place: change}) for place in places]
        found = self._tried(name, everywhere) or self._tried(name, somewhere)
        if between == [IMAGE]:
            stage = self.along.stages[name]
            inputs = tuple(node.value for node in stage.inputs)
            known = {each.cause for each in found}
            here = explanations(self._step(stage), inputs, self.values[name], self.limit)
            found += [each for each in here if each.cause not in known]
        if not found and isinstance(self.config, BlockConfig):
            pairs = combinations(
                [each for each in (*everywhere, *somewhere) if each[0] in COMMON], 2
            )
            found = self._tried(
                name,
                (
                    (f"{a[0]} and {b[0]}", f"{a[1]}; {b[1]}", {**a[2], **b[2]})
                    for a, b in pairs
                    if a[0] != b[0] and not set(a[2]) & set(b[2])
                ),
            )
        return found

    def _tried(
        self, name: str, candidates: Iterable[tuple[str, str, Changes]]
    ) -> list[Explanation]:
        actual = self.values[name]
        off = _relative(self.along.stages[name].computed.value, actual)
        best: dict[str, Explanation] = {}
        few = self._on_one_image if len(actual) > 1 and not self.training else None
        for number, (cause, words, changes) in enumerate(candidates):
            if number % 20 == 19:
                self.progress(f"{self.model}: {number + 1} causes tried up to {name}")
            if few is not None and "mode" not in cause and not few.might(name, changes):
                continue
            made = self._with(name, changes)
            if made is None:
                continue
            step, y = made
            left = left_over(step if name in changes else Step(step.kind), y, actual, self.limit)
            if left is not None and left > off / 4:
                continue
            if left is None and step["format"] and _relative(y, actual) < 0.05 * off:
                left = _relative(y, actual)
                words += f" (accounts for {1 - left / off:.0%} of it; rounding cannot be repeated exactly)"
            if left is not None and (cause not in best or left < best[cause].left / 4):
                best[cause] = Explanation(cause, words, step, left)
        return sorted(best.values(), key=lambda each: each.left)

    @cached_property
    def _on_one_image(self) -> "Judge":
        """The same for the first image alone: in evaluation, whether a cause can be it shows
        there.
        """
        values = {name: array[:1] for name, array in self.recording.values.items()}
        received = None if self.recording.received is None else self.recording.received[:1]
        return replace(self, recording=Recording(values, received=received), given=self.given[:1])

    def might(self, name: str, changes: Changes) -> bool:
        """Whether changes bring a stage anywhere near to what was recorded."""
        made = self._with(name, changes)
        if made is None:
            return False
        off = _relative(self.along.stages[name].computed.value, self.values[name])
        near = left_over(made[0], made[1], self.values[name], 4 * self.limit) is not None
        return near or _relative(made[1], self.values[name]) < 0.5 * off

    def _with(self, name: str, changes: Changes) -> tuple[Step, Array] | None:
        """A changed step, and the stage's output with all changes made; None where one of them
        cannot be.
        """
        steps: list[Step] = []

        def changed(name: str, inputs: tuple[Array, ...]) -> Array:
            step = changes[name](self._step(self.along.stages[name]))
            if step is None:
                raise _Impossible
            steps.append(step)
            return compute(step, inputs)

        def altered(stage: Stage) -> Array:
            y = changed(stage.name, tuple(node.value for node in stage.inputs))
            if y.shape != stage.computed.shape:
                raise _Impossible
            return y

        image = self.given.astype(np.float64)
        others = {stage: altered for stage in changes if stage != IMAGE}
        try:
            if IMAGE in changes:
                image = changed(IMAGE, (image,))
            y = self._pass(image, others, leaving=name).stages[name].output.value
        except _Impossible:
            return None
        return steps[-1], y


class _Impossible(Exception):  # noqa: N818  (no error: a cause that a stage cannot have)
    """A change that cannot be made."""


def _few(places: list[str], most: int = 4) -> str:
    if len(places) <= most:
        return ", ".join(places)
    return f"the {len(places)} that can have it ({places[0]} to {places[-1]})"


def _again(cause: str, words: str) -> Change:
    """The change that a cause makes in these words, to be made in any step; None where it
    cannot.
    """
    offering: Cause = next(each for each in CAUSES if each.name == cause)

    def change(step: Step) -> Step | None:
        return next((changed for said, changed in offering.variants(step) if said == words), None)

    return change


def _relative(y: Array, actual: Array) -> float:
    return difference(y, actual, tolerance=0).relative


def axes_of(shape: tuple[int, ...]) -> str:
    names = {1: "channel", 2: "batch feature", 4: "batch channel row col"}
    return names.get(len(shape), " ".join(f"axis{number}" for number in range(len(shape))))

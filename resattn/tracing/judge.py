"""Which stages of a recorded model compute something else than they should, and why.

The oracle makes a pass that follows the model: after each recorded stage it continues with the
value that the model computed. So every stage is compared on the inputs that it had in the model,
and an error shows at the stage that makes it and nowhere else. Where stages were not recorded, the
oracle computes them too, and the error can be in any stage between two recorded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from resattn.checking.crosscheck import ORACLE
from resattn.checking.tolerances import tolerance
from resattn.oracle import evaluation as reference
from resattn.oracle.evaluation import Evaluation, Stage
from resattn.oracle.node import Array
from resattn.tracing.causes import CAUSES, apply_causes
from resattn.tracing.computation import ALL_BUT_CHANNELS, FORMULAS, Inputs, StageSpec, compute
from resattn.tracing.explanations import CauseExplanation, find_explanations, measure_misfit
from resattn.tracing.findings import Finding, locate
from weights import Difference, difference
from weights.config import BlockConfig, Config
from weights.graph import IMAGE
from weights.stages import Recording

Change = Callable[[StageSpec], StageSpec | None]
Changes = Mapping[str, Change]  # by stage
Candidate = tuple[str, str, Changes]  # the cause's name, its words, and what it changes

# Mistakes that people make together. Only these are tried in pairs where stages were not recorded.
COMMON_MISTAKES = (
    "SAME padding",
    "batch norm eps",
    "train or evaluation mode",
    "channel order of the image",
    "gamma and beta swapped",
    "missing bias",
)


@dataclass(frozen=True)
class Judge:
    """Judges one recording.

    config, arrays: what the model should be. x: its input. given: the input of its first stage.
    right: the oracle's own recording; its stages have the shapes of the model's. rows: the
    differences between the two.
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

    def findings(self) -> Iterator[Finding]:
        """Every stage that differs, in the order of execution."""
        yield from (finding for finding in self._image_findings if finding.explanations)
        for name, stage in self._evaluation.stages.items():
            if name in self._values and name != IMAGE:
                yield from self._judge_stage(name, stage)
            if stage.kind == "batch_norm" and self._training:
                yield from self._judge_statistics(stage)

    @property
    def has_prefix(self) -> bool:
        """Whether the model changes its input before the first stage, in a way that no known
        mistake explains.
        """
        return self.given.shape != self.x.shape or any(
            not finding.explanations for finding in self._image_findings
        )

    @property
    def _training(self) -> bool:
        return self.mode == "train"

    @property
    def _limit(self) -> float:
        return tolerance(self.dtype, "eval output")

    @cached_property
    def _values(self) -> dict[str, Array]:
        """The recorded values of the stages that the oracle has, too."""
        return {
            name: array
            for name, array in self.recording.values.items()
            if name in self.right.values
        }

    @cached_property
    def _evaluation(self) -> Evaluation:
        """The oracle's pass that follows the recording."""
        return self._follow(self.given, {})

    @cached_property
    def _stage_names(self) -> dict[int, str]:
        """The stage that has each value as its output, by the value's id."""
        return {id(stage.output): name for name, stage in self._evaluation.stages.items()}

    def _follow(
        self, image: Array, altered: Mapping[str, Callable[[Stage], Array]], skip: str = ""
    ) -> Evaluation:
        """A pass of the oracle that takes the recorded values, except that of the stage `skip`."""
        taken = {name: self._take_recorded for name in self._values if name not in (skip, IMAGE)}
        return reference.stages(
            self.config, self.arrays, image, training=self._training, altered={**taken, **altered}
        )

    def _take_recorded(self, stage: Stage) -> Array:
        return self._values[stage.name].astype(np.float64)

    @cached_property
    def _image_findings(self) -> list[Finding]:
        """How the input of the first stage differs from that of the model, if it has its shape."""
        if self.given.shape != self.x.shape:
            return []
        spec, x = StageSpec(IMAGE, {}, {"channels": self.x.shape[1]}), self.x.astype(np.float64)
        return list(self._judge_output(IMAGE, spec, (x,), self.given, x, self._limit))

    def _judge_stage(self, name: str, stage: Stage) -> Iterator[Finding]:
        unrecorded = self._find_unrecorded(name)
        spec = self._specify(stage)
        actual, right = self._values[name], stage.computed.value
        # A stage is not to blame for a NaN that comes from its inputs or that the oracle has, too.
        undefined = ~np.isfinite(actual) | ~np.isfinite(right)
        read = [node.value for node in stage.inputs] + list(spec.parameters.values())
        if all(np.isfinite(array).all() for array in read):
            undefined = ~np.isfinite(actual) & ~np.isfinite(right)
        actual, right = (np.where(undefined, 0, array) for array in (actual, right))
        if not unrecorded:
            inputs = tuple(node.value for node in stage.inputs)
            yield from self._judge_output(name, spec, inputs, actual, right, self._limit)
            return
        apart = self._compare(name, actual, right, self._limit)
        if not apart.ok:
            self.progress(f"{self.model}: try causes in {len(unrecorded) + 1} stages up to {name}")
            yield self._make_finding(
                name, apart, actual, right, self._explain_group(name, unrecorded)
            )

    def _judge_statistics(self, stage: Stage) -> Iterator[Finding]:
        """The running statistics of a batch norm, from its input in the model."""
        x = stage.inputs[0].value
        count = np.asarray(x.size / x.shape[1])
        for leaf, kind, batch in (
            ("running_mean", "running mean", x.mean(ALL_BUT_CHANNELS)),
            ("running_var", "running variance", x.var(ALL_BUT_CHANNELS)),
        ):
            name = f"{stage.module}.{leaf}"
            if name in self.recording.statistics:
                spec = StageSpec(kind, {}, {"decay": stage.settings["decay"]})
                inputs = (self.arrays[name].astype(np.float64), batch, count)
                actual, right = self.recording.statistics[name], compute(spec, inputs)
                limit = tolerance(self.dtype, "train statistics")
                yield from self._judge_output(name, spec, inputs, actual, right, limit)

    def _judge_output(
        self,
        name: str,
        spec: StageSpec,
        inputs: Inputs,
        actual: Array,
        right: Array,
        limit: float,
    ) -> Iterator[Finding]:
        apart = self._compare(name, actual, right, limit)
        if not apart.ok:
            self.progress(f"{self.model}: try causes at {name}")
            found = find_explanations(spec, inputs, actual, limit)
            yield self._make_finding(name, apart, actual, right, found)

    def _make_finding(
        self,
        name: str,
        apart: Difference,
        actual: Array,
        right: Array,
        found: Iterable[CauseExplanation],
    ) -> Finding:
        agrees = None
        for row in self.rows if name != IMAGE else ():
            if row.tensor == name:
                break
            agrees = (row.tensor, row.relative) if row.ok else agrees
        part = locate(actual, right, apart.tolerance)
        return Finding(self.model, self.mode, name, agrees, apart, part, tuple(found))

    def _compare(self, name: str, actual: Array, right: Array, limit: float) -> Difference:
        quantity = f"{self.mode} forward"
        names = (self.model, ORACLE)
        axes = name_axes(actual.shape)
        return difference(
            actual, right, tolerance=limit, quantity=quantity, tensor=name, names=names, axes=axes
        )

    def _specify(self, stage: Stage) -> StageSpec:
        """What a stage of the oracle computes, as data."""
        leaves = {
            name.rpartition(".")[2]: array.astype(np.float64)
            for name, array in self.arrays.items()
            if name.rpartition(".")[0] == stage.module
        }
        of_image = any(self._stage_names.get(id(node)) == IMAGE for node in stage.inputs)
        known: dict[str, Any] = {"of_image": of_image, "training": self._training}
        if stage.kind == IMAGE:
            known["channels"] = stage.computed.shape[1]
        return StageSpec(stage.kind, leaves, {**stage.settings, **known})

    def _find_unrecorded(self, name: str) -> list[str]:
        """The stages between a stage and the recorded ones before it, in the order of execution."""
        found: set[str] = set()
        seen: set[int] = set()
        waiting = [source for source, _ in self._evaluation.stages[name].computed.sources]
        while waiting:
            node = waiting.pop()
            stage = self._stage_names.get(id(node))
            known_image = stage == IMAGE and self.recording.received is not None
            if id(node) in seen or stage in self._values or known_image:
                continue
            seen.add(id(node))
            if stage and self._evaluation.stages[stage].kind in FORMULAS:
                found.add(stage)
            waiting += [source for source, _ in node.sources]
        return [stage for stage in self._evaluation.stages if stage in found]

    # Where only the last of several stages was recorded

    def _explain_group(self, name: str, unrecorded: list[str]) -> list[CauseExplanation]:
        """Causes in all of the stages that can have them, or in one of them; pairs of common
        causes if no single one explains the difference.
        """
        everywhere, somewhere = self._list_candidates([*unrecorded, name])
        found = self._try_candidates(name, everywhere) or self._try_candidates(name, somewhere)
        if unrecorded == [IMAGE]:
            stage = self._evaluation.stages[name]
            inputs = tuple(node.value for node in stage.inputs)
            known = {each.cause for each in found}
            spec = self._specify(stage)
            here = find_explanations(spec, inputs, self._values[name], self._limit)
            found += [each for each in here if each.cause not in known]
        if not found and isinstance(self.config, BlockConfig):
            common = [each for each in (*everywhere, *somewhere) if each[0] in COMMON_MISTAKES]
            pairs = (
                (f"{a[0]} and {b[0]}", f"{a[1]}; {b[1]}", {**a[2], **b[2]})
                for a, b in combinations(common, 2)
                if a[0] != b[0] and not set(a[2]) & set(b[2])
            )
            found = self._try_candidates(name, pairs)
        return found

    def _list_candidates(self, stages: list[str]) -> tuple[list[Candidate], list[Candidate]]:
        """The causes that the stages can have: each in all of its stages, and each in one."""
        offered: dict[tuple[str, str], list[str]] = {}
        for name in stages:
            for cause, words, _ in apply_causes(self._specify(self._evaluation.stages[name])):
                offered.setdefault((cause.name, words), []).append(name)
        everywhere: list[Candidate] = []
        somewhere: list[Candidate] = []
        for (known, words), places in offered.items():
            change = _repeat_change(known, words)
            if places == [IMAGE]:
                everywhere.append((known, f"{words}, in the input", {IMAGE: change}))
                continue
            if len(places) > 1:
                words_for_all = f"{words}, in all of {_join_places(places)}"
                everywhere.append((known, words_for_all, dict.fromkeys(places, change)))
            somewhere += [(known, f"{words}, at {place}", {place: change}) for place in places]
        return everywhere, somewhere

    def _try_candidates(self, name: str, candidates: Iterable[Candidate]) -> list[CauseExplanation]:
        best: dict[str, CauseExplanation] = {}
        screen = self._on_one_image if len(self._values[name]) > 1 and not self._training else None
        for number, (cause, words, changes) in enumerate(candidates):
            if number % 20 == 19:
                self.progress(f"{self.model}: {number + 1} causes tried up to {name}")
            if screen is not None and "mode" not in cause and not screen.may_explain(name, changes):
                continue
            found = self._explain(name, cause, words, changes)
            if found is not None and (cause not in best or found.left < best[cause].left / 4):
                best[cause] = found
        return sorted(best.values(), key=lambda each: each.left)

    def _explain(
        self, name: str, cause: str, words: str, changes: Changes
    ) -> CauseExplanation | None:
        """Changes as an explanation of what a stage computed; None if they explain too little."""
        outcome = self._apply_changes(name, changes)
        if outcome is None:
            return None
        actual = self._values[name]
        off = _relative_difference(self._evaluation.stages[name].computed.value, actual)
        spec, y = outcome
        plain = spec if name in changes else StageSpec(spec.kind)
        left = measure_misfit(plain, y, actual, self._limit)
        if left is not None and left > off / 4:
            return None
        if left is None:
            left = _relative_difference(y, actual)
            if not spec["format"] or left >= 0.05 * off:
                return None
            words += (
                f" (accounts for {1 - left / off:.0%} of it; rounding cannot be repeated exactly)"
            )
        return CauseExplanation(cause, words, spec, left)

    @cached_property
    def _on_one_image(self) -> Judge:
        """The same for the first image alone, which in evaluation shows whether a cause can
        explain the difference.
        """
        values = {name: array[:1] for name, array in self.recording.values.items()}
        received = None if self.recording.received is None else self.recording.received[:1]
        return replace(self, recording=Recording(values, received=received), given=self.given[:1])

    def may_explain(self, name: str, changes: Changes) -> bool:
        """Whether changes bring the output of a stage near to the recorded one."""
        outcome = self._apply_changes(name, changes)
        if outcome is None:
            return False
        spec, y = outcome
        actual = self._values[name]
        off = _relative_difference(self._evaluation.stages[name].computed.value, actual)
        near = measure_misfit(spec, y, actual, 4 * self._limit) is not None
        return near or _relative_difference(y, actual) < 0.5 * off

    def _apply_changes(self, name: str, changes: Changes) -> tuple[StageSpec, Array] | None:
        """The last changed specification, and the output of a stage after all changes; None if one
        of them is impossible.
        """
        specs: list[StageSpec] = []

        def compute_changed(name: str, inputs: Inputs) -> Array:
            spec = changes[name](self._specify(self._evaluation.stages[name]))
            if spec is None:
                raise _ImpossibleChange
            specs.append(spec)
            return compute(spec, inputs)

        def alter(stage: Stage) -> Array:
            y = compute_changed(stage.name, tuple(node.value for node in stage.inputs))
            if y.shape != stage.computed.shape:
                raise _ImpossibleChange
            return y

        image = self.given.astype(np.float64)
        others = {stage: alter for stage in changes if stage != IMAGE}
        try:
            if IMAGE in changes:
                image = compute_changed(IMAGE, (image,))
            y = self._follow(image, others, skip=name).stages[name].output.value
        except _ImpossibleChange:
            return None
        return specs[-1], y


class _ImpossibleChange(Exception):  # noqa: N818  (not an error: a stage cannot have the cause)
    """A change that a stage cannot have."""


def _join_places(places: list[str], most: int = 4) -> str:
    if len(places) <= most:
        return ", ".join(places)
    return f"the {len(places)} that can have it ({places[0]} to {places[-1]})"


def _repeat_change(cause: str, words: str) -> Change:
    """The change that a cause makes in these words, for any stage; None where it has none."""
    vary = next(each for each in CAUSES if each.name == cause).vary

    def change(spec: StageSpec) -> StageSpec | None:
        return next((changed for found, changed in vary(spec) if found == words), None)

    return change


def _relative_difference(y: Array, actual: Array) -> float:
    return difference(y, actual, tolerance=0).relative


def name_axes(shape: tuple[int, ...]) -> str:
    """The names of a tensor's axes, as a report shows them."""
    names = {1: "channel", 2: "batch feature", 4: "batch channel row col"}
    return names.get(len(shape), " ".join(f"axis{number}" for number in range(len(shape))))

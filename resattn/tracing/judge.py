"""Which stages of a recorded model compute something else than they should, and why.

The oracle makes a pass that follows the model: after each recorded stage it continues with the
value that the model computed. So every stage is compared on the inputs that it had in the model,
and an error shows at the stage that makes it and nowhere else. Where stages were not recorded, the
oracle computes them too, and the error can be in any stage between two recorded ones.

Of a sampled stage the model's value is not known. Where its sample agrees, the pass goes on with
what the oracle computes; where it differs, with what explains it, if anything does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from resattn.checking.crosscheck import ORACLE
from resattn.oracle import evaluation as reference
from resattn.oracle.evaluation import Evaluation, Stage
from resattn.oracle.kinks import Kinks
from resattn.oracle.node import Array
from resattn.tracing.computation import ALL_BUT_CHANNELS, Inputs, StageSpec, compute
from resattn.tracing.explanations import CauseExplanation, find_explanations
from resattn.tracing.findings import Finding, locate
from resattn.tracing.limits import Spread, measure_spread, rounding_limit
from resattn.tracing.sampling import Sample, compare_recorded, list_samples
from resattn.tracing.search import Search
from resattn.tracing.steps import GIVEN, Program, TracedStep
from weights import Difference
from weights.config import Config
from weights.graph import IMAGE
from weights.language import say
from weights.stages import Recording


@dataclass(frozen=True)
class Judge:
    """Judges one recording.

    config, arrays: what the model should be. x: its input. given: the input of its first stage.
    right: the oracle's own recording; its stages have the shapes of the model's. rows: the
    differences between the two.
    progress: called with a line now and then.
    explain: whether to search for causes.
    restored: the values of sampled stages that differ, as an explanation gives them. moved: how far
    rounding can move each stage, where that was measured before.
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
    explain: bool = True
    restored: Mapping[str, Array] = field(default_factory=dict)
    moved: Spread | None = None

    def findings(self) -> Iterator[Finding]:
        """Every stage that differs, in the order of execution."""
        yield from (finding for finding in self._image_findings if finding.explanations)
        judge: Judge | None = self
        done: set[str] = {IMAGE}
        while judge is not None:
            judge = yield from judge._judge_rest(done)

    def _judge_rest(self, done: set[str]) -> Generator[Finding, None, Judge | None]:
        """The stages that are not done yet. Returns the judge that goes on after a sampled stage
        that differs, or None at the end.
        """
        for name, stage in self._evaluation.stages.items():
            if name in done:
                continue
            done.add(name)
            sampled = name in self._samples
            found: list[Finding] = []
            if name in self._values or sampled:
                found = list(self._judge_stage(name, stage))
            yield from found
            if stage.kind == "batch_norm" and self._training:
                yield from self._judge_statistics(stage)
            if found and sampled:
                return self._restore(name, found[0])
        return None

    def _restore(self, name: str, finding: Finding) -> Judge | None:
        """The judge that takes what an explanation gives for the value of a stage."""
        if not finding.explanations:
            return None
        found = finding.explanations[0]
        if found.change is None:
            step = self._program.steps[name]
            value = compute(found.spec, tuple(self._program.values[each] for each in step.inputs))
        else:
            program = self._limit_program(name)
            value = program.evaluate_whole(found.change(program), name)
        return replace(self, restored={**self.restored, name: value}, moved=self._spread)

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

    def _limit(self, name: str = "") -> float:
        """Of a recorded stage: what rounding explains since the recorded ones before it."""
        return rounding_limit(self.dtype, "eval output", self._spread[name] if name else 0.0)

    @cached_property
    def _spread(self) -> Spread:
        if self.moved is not None:
            return self.moved
        made = self._evaluation
        right = {name: stage.computed.value for name, stage in made.stages.items()}

        def run(kinks: Kinks) -> dict[str, Array]:
            moved = self._follow(self.given, {}, kinks=kinks).stages
            return {name: stage.computed.value for name, stage in moved.items()}

        return measure_spread(right, made.state.kinks.distances, self.dtype, run)

    @cached_property
    def _values(self) -> dict[str, Array]:
        """The recorded and restored values of the stages that the oracle has, too."""
        held = {**self.recording.values, **self.restored}
        return {name: array for name, array in held.items() if name in self.right.values}

    @cached_property
    def _samples(self) -> dict[str, Sample]:
        """The stages of which only a sample is known."""
        held = list_samples(self.recording)
        return {
            name: sample
            for name, sample in held.items()
            if name in self.right.values and name not in self.restored
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
        self,
        image: Array,
        altered: Mapping[str, Callable[[Stage], Array]],
        skip: str = "",
        kinks: Kinks | None = None,
    ) -> Evaluation:
        """A pass of the oracle that takes the recorded values, except that of the stage `skip`."""
        taken = {name: self._take_recorded for name in self._values if name not in (skip, IMAGE)}
        return reference.stages(
            self.config,
            self.arrays,
            image,
            training=self._training,
            altered={**taken, **altered},
            kinks=kinks,
        )

    def _take_recorded(self, stage: Stage) -> Array:
        return self._values[stage.name].astype(np.float64)

    @cached_property
    def _image_findings(self) -> list[Finding]:
        """How the input of the first stage differs from that of the model, if it has its shape."""
        if self.given.shape != self.x.shape:
            return []
        spec, x = StageSpec(IMAGE, {}, {"channels": self.x.shape[1]}), self.x.astype(np.float64)
        return list(self._judge_output(IMAGE, spec, (x,), self.given, x, self._limit()))

    def _judge_stage(self, name: str, stage: Stage) -> Iterator[Finding]:
        spec, sample = self._specify(stage), self._samples.get(name)
        actual, right = self._values.get(name), stage.computed.value
        if sample is not None:
            actual, right = sample.held, sample.observe(right)
        assert actual is not None
        # A stage is not to blame for a NaN that comes from its inputs or that the oracle has, too.
        undefined = ~np.isfinite(actual) | ~np.isfinite(right)
        read = [node.value for node in stage.inputs] + list(spec.parameters.values())
        if all(np.isfinite(array).all() for array in read):
            undefined = ~np.isfinite(actual) & ~np.isfinite(right)
        actual, right = (np.where(undefined, 0, array) for array in (actual, right))
        limit = self._limit(name)
        apart = self._compare(name, actual, right, limit)
        if apart.ok:
            return
        if not self.explain:
            yield self._make_finding(name, apart, actual, right, ())
            return
        self.progress(say("{model}: try causes at {stage}", model=self.model, stage=name))
        program = self._limit_program(name)
        region = program.reach(name)
        search = self._search(name, actual, program)
        if len(region) > 1:
            found = search.explain_many()
        else:
            inputs = tuple(node.value for node in stage.inputs)
            found = find_explanations(spec, inputs, actual, limit, False, sample)
            found = search.explain_connections(found)
            found = found or find_explanations(spec, inputs, actual, limit, True, sample)
            found = found or search.solve_rest()
        yield self._make_finding(name, apart, actual, right, found, region)

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
                limit = rounding_limit(self.dtype, "train statistics")
                if self._samples:  # the input in the model is only known up to its rounding errors
                    limit = max([limit, *(r.tolerance for r in self.rows if r.tensor == name)])
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
            self.progress(say("{model}: try causes at {stage}", model=self.model, stage=name))
            found = find_explanations(spec, inputs, actual, limit) if self.explain else []
            yield self._make_finding(name, apart, actual, right, found)

    def _make_finding(
        self,
        name: str,
        apart: Difference,
        actual: Array,
        right: Array,
        causes: Iterable[CauseExplanation],
        region: Sequence[str] = (),
    ) -> Finding:
        agrees = None
        for row in self.rows if name != IMAGE else ():
            if row.tensor == name:
                break
            agrees = (row.tensor, row.relative) if row.ok else agrees
        bound, explanations = self._bound(region), tuple(causes)
        if name in self._samples:
            bound = say(
                "{bound}; only a sample of it was recorded: more is found if it is recorded whole",
                bound=bound,
            )
            share = np.abs(actual - right) > apart.tolerance * (np.abs(right).max() or 1)
            part = say("in {share:.0%} of its sample", share=share.mean())
        else:
            part = locate(actual, right, apart.tolerance)
        found = (self.model, self.mode, name, agrees, apart, part, explanations, bound)
        return Finding(*found, searched=self.explain)

    def _bound(self, region: Sequence[str]) -> str:
        """The smallest part of the model that holds a difference."""
        if not region:
            return ""
        steps = self._program.steps
        before = {x for name in region for x in steps[name].inputs if x not in region}
        ends = ", ".join(name for name in steps if name in before and name != GIVEN) or say(
            "the image"
        )
        if len(region) == 1:
            return say(
                "its inputs ({ends}) are those of the model, so it is in {stage} itself",
                ends=ends,
                stage=region[0],
            )
        return say(
            "it is in one or more of the {count} steps between {ends} and {last}",
            count=len(region),
            ends=ends,
            last=region[-1],
        )

    def _compare(self, name: str, actual: Array, right: Array, limit: float) -> Difference:
        quantity = f"{self.mode} forward"
        names = (self.model, ORACLE)
        sample = self._samples.get(name)
        return compare_recorded(
            actual if sample is None else replace(sample, held=actual),
            right if sample is None else replace(sample, held=right),
            axes=name_axes(actual.shape if sample is None else sample.shape),
            tolerance=limit,
            quantity=quantity,
            tensor=name,
            names=names,
        )

    def _specify(self, stage: Stage) -> StageSpec:
        of_image = any(self._stage_names.get(id(node)) == IMAGE for node in stage.inputs)
        return specify_stage(stage, self.arrays, self._training, of_image)

    def _list_steps(self) -> dict[str, TracedStep]:
        """The steps of the model that the oracle computes."""
        steps = {GIVEN: TracedStep(StageSpec("input"), ())}
        for name, stage in self._evaluation.stages.items():
            inputs = stage.operation.inputs or ((GIVEN,) if name == IMAGE else ())
            steps[name] = TracedStep(self._specify(stage), inputs, stage.operation)
        return steps

    @cached_property
    def _program(self) -> Program:
        made = self._evaluation.stages
        known = {IMAGE} if self.recording.received is not None else set()
        given = {GIVEN: self.given.astype(np.float64)}
        return Program(
            steps=self._list_steps(),
            values={**given, **{name: stage.output.value for name, stage in made.items()}},
            computed={**given, **{name: stage.computed.value for name, stage in made.items()}},
            fixed=frozenset((*self._values, GIVEN, *known)),
            arrays={name: array.astype(np.float64) for name, array in self.arrays.items()},
            training=self._training,
        )

    def _limit_program(self, name: str) -> Program:
        """The program in which a stage is searched. Where there are samples, what comes after the
        stage is not known yet, and sampled stages before it are as the oracle computes them.
        """
        program = self._program
        if not self._samples:
            return program
        order = list(program.steps)
        known = {*program.fixed, *self._samples} & {*order[: order.index(name)]}
        samples = {each: s for each, s in self._samples.items() if each not in known}
        return replace(program, fixed=frozenset(known), samples=samples)

    def _list_observed(self, program: Program) -> dict[str, Array]:
        """What is known of the stages, each as far as the program can be compared with it."""
        if not self._samples:
            return self._values
        before = {
            name: program.values[name] for name in program.fixed if name not in (IMAGE, GIVEN)
        }
        after = {name: sample.held for name, sample in self._samples.items()}
        return {**self._values, **after, **before}

    def _search(self, name: str, actual: Array, program: Program) -> Search:
        return Search(
            program=program,
            config=self.config,
            target=name,
            actual=actual,
            limit=self._limit,
            recorded=self._list_observed(program),
            progress=lambda line: self.progress(f"{self.model}: {line}"),
        )


def specify_stage(
    stage: Stage, arrays: Mapping[str, Array], training: bool, of_image: bool = False
) -> StageSpec:
    """What a stage of the oracle computes, as data. of_image: whether it takes the image."""
    leaves = {
        name.rpartition(".")[2]: array.astype(np.float64)
        for name, array in arrays.items()
        if name.rpartition(".")[0] == stage.module
    }
    known: dict[str, Any] = {"of_image": of_image, "training": training}
    if stage.kind == IMAGE:
        known["channels"] = stage.computed.shape[1]
    return StageSpec(stage.kind, leaves, {**stage.settings, **known})


def name_axes(shape: tuple[int, ...]) -> str:
    """The names of a tensor's axes, as a report shows them."""
    names = {1: "channel", 2: "batch feature", 4: "batch channel row col"}
    return names.get(len(shape), " ".join(f"axis{number}" for number in range(len(shape))))

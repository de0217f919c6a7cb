"""Runs the processes of the frameworks, one of them at a time, in rounds.

Each round measures every case once, so that a machine that slows down slows all of them; and every
other round goes backwards, so that no case always comes after the same one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cache
from math import prod
from pathlib import Path
from statistics import median

import numpy as np

from resattn.benchmarks.cases import BenchCase, list_cases, list_models, name_program
from resattn.benchmarks.channels import (
    ABSENT,
    Ask,
    OpenChannel,
    describe_machine,
    open_worker,
)
from resattn.benchmarks.groups import GROUPS, MEASURED_GROUPS, Effort, list_programs
from resattn.benchmarks.timings import BenchReport, Timing
from resattn.checking.crosscheck import judge_output
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.problem import Problem, pose
from weights.checks import at_least, one_of
from weights.frameworks import FRAMEWORKS
from weights.stored import count_cores

# Of one image. The oracle would need minutes for more; the same functions are checked on less.
MOST_CHECKED = 1e9
# TF32 keeps more digits than bfloat16, so its rounding is less.
JUDGED_AS = {"float32": "float32", "tf32": "mixed_bfloat16", "bfloat16": "bfloat16"}
Progress = Callable[[str], None]


@dataclass(frozen=True)
class BenchPlan:
    """What to measure, and how long.

    rounds: turns of each case. seconds: of each turn. quick: small models. full: resnet50 as well.
    references: whether to measure other implementations as well.
    Raises ArgumentError for names and numbers that cannot be used.
    """

    groups: tuple[str, ...] = GROUPS
    frameworks: tuple[str, ...] = tuple(FRAMEWORKS)
    devices: tuple[str, ...] = ("cpu",)
    batches: tuple[int, ...] = (1, 8)
    rounds: int = 15
    seconds: float = 0.2
    quick: bool = False
    full: bool = False
    references: bool = True

    def __post_init__(self) -> None:
        known = {"groups": GROUPS, "frameworks": tuple(FRAMEWORKS), "devices": ("cpu", "cuda")}
        for name, choices in known.items():
            for value in getattr(self, name):
                one_of(name, value, choices)
        for batch in self.batches:
            at_least("batch", batch, 1)
        at_least("rounds", self.rounds, 1)

    @property
    def cases(self) -> list[BenchCase]:
        """The cases of the groups that the runner interleaves."""
        models = list_models(self.groups, self.batches, quick=self.quick, full=self.full)
        return list_cases(
            models, self.groups, self.frameworks, self.devices, references=self.references
        )


@dataclass
class _Turns:
    """A case, its number in the process of its framework, and the seconds of its turns so far.

    missing: why it cannot be measured.
    """

    case: BenchCase
    number: int = -1
    missing: str = ""
    seconds: list[float] = field(default_factory=list)

    @property
    def timing(self) -> Timing:
        case = self.case
        return Timing(
            case.part, case.label, case.framework, case.by, tuple(self.seconds), case.device,
            case.form, case.batch, _count_flop(case), missing=self.missing,
        )  # fmt: skip


def run_bench(
    plan: BenchPlan, progress: Progress = lambda line: None, open_channel: OpenChannel = open_worker
) -> BenchReport:
    """Measures everything in a plan. What is not installed is missing in the report; a function
    whose output is wrong raises RuntimeError.

    progress: called with a line before each step. open_channel: starts the process of a framework.
    """
    machine, threads = describe_machine(), count_cores()
    turns = [_Turns(case) for case in plan.cases]
    measured = [group for group in plan.groups if group in MEASURED_GROUPS]
    programs = dict.fromkeys(turn.case.framework for turn in turns)
    for group in measured:
        programs |= dict.fromkeys(list_programs(group, plan.frameworks))
    with ExitStack() as stack:
        channels: dict[str, Ask] = {}
        absent: dict[str, str] = {}
        for program in programs:
            progress(f"start {name_program(program)}")
            ask = stack.enter_context(open_channel(program, threads))
            described = ask("describe")
            channels[program] = ask
            machine[name_program(program)] = described.get("versions", ABSENT)
            if "missing" in described:
                absent[program] = described["missing"]
            for device in plan.devices:
                if device not in described.get("devices", (device,)):
                    absent[f"{program} {device}"] = f"{name_program(program)} sees no {device} here"
        _prepare_all(turns, channels, absent, progress)
        _take_turns(turns, channels, plan, progress)
        timings = [turn.timing for turn in turns]
        for group in measured:
            timings += _measure_group(group, plan, channels, absent, progress)
    return BenchReport(machine, tuple(timings))


def _prepare_all(
    turns: Sequence[_Turns],
    channels: Mapping[str, Ask],
    absent: Mapping[str, str],
    progress: Progress,
) -> None:
    """Makes every function, and checks what it computes."""
    with tempfile.TemporaryDirectory() as folder:
        for index, turn in enumerate(turns):
            case = turn.case
            turn.missing = absent.get(case.framework) or absent.get(
                f"{case.framework} {case.device}", ""
            )
            if turn.missing:
                continue
            progress(f"make {index + 1} of {len(turns)}: {name_case(case)}")
            file = Path(folder) / f"{index}.npy"
            answer = channels[case.framework]("prepare", case=case.to_dict(), output=str(file))
            turn.missing = answer.get("missing", "")
            turn.number = answer.get("number", -1)
            if file.exists():
                check_output(case, np.load(file), progress)


def check_output(
    case: BenchCase, output: np.ndarray, progress: Progress = lambda line: None
) -> None:
    """Raises RuntimeError for an output that is not what the oracle computes for the first image.

    A model with more than `MOST_CHECKED` multiply-adds is not checked, and a matrix product is none
    of ours.
    """
    if case.by == "product" or case.model.multiply_adds > MOST_CHECKED:
        return
    progress(f"check {name_case(case)}")
    row = judge_output(_pose(case.config, case.size, JUDGED_AS[case.form]), output, case.by)
    if not row.ok:
        raise RuntimeError(f"{name_case(case)} computes something else than the oracle: {row}")


@cache
def _pose(config: str, size: tuple[int, int], dtype: str) -> Problem:
    """The oracle's problem for the first image that a worker draws."""
    model = BenchCase("", "", "torch", "plain", config=config, size=size).model
    x = random_input(model.config, model.size, 1, "float32")
    return pose(model.config, random_arrays(model.config), x, dtype=dtype)


def order_round(count: int, number: int) -> Iterator[int]:
    """The order of the cases in a round."""
    return iter(range(count)) if number % 2 == 0 else reversed(range(count))


def _take_turns(
    turns: Sequence[_Turns], channels: Mapping[str, Ask], plan: BenchPlan, progress: Progress
) -> None:
    ready = [turn for turn in turns if not turn.missing]
    for number in range(plan.rounds if ready else 0):
        progress(f"round {number + 1} of {plan.rounds}")
        for index in order_round(len(ready), number):
            turn = ready[index]
            answer = channels[turn.case.framework]("time", number=turn.number, seconds=plan.seconds)
            turn.seconds.append(median(answer["seconds"]))


def _measure_group(
    group: str,
    plan: BenchPlan,
    channels: Mapping[str, Ask],
    absent: Mapping[str, str],
    progress: Progress,
) -> Iterator[Timing]:
    """The timings of a group that has a function of its own."""
    effort = Effort(plan.rounds, plan.quick, plan.full, plan.frameworks)
    for framework in list_programs(group, plan.frameworks):
        for device in plan.devices:
            missing = absent.get(framework) or absent.get(f"{framework} {device}", "")
            if not missing:
                progress(f"{group} in {name_program(framework)}")
                answer = channels[framework](
                    "measure", group=group, device=device, effort=asdict(effort)
                )
                missing = answer.get("missing", "")
                for row in answer.get("timings", ()):
                    yield Timing.from_dict(row)
            if missing:
                yield Timing(group, group, framework, "plain", device=device, missing=missing)


def _count_flop(case: BenchCase) -> float:
    """Two for each multiply-add of a call."""
    if case.by == "product":
        return 2.0 * case.size[0] * prod(case.size)
    return 2.0 * case.batch * case.model.multiply_adds


def name_case(case: BenchCase) -> str:
    """A case in words."""
    batch = "" if case.by == "product" else f", batch {case.batch}"
    return f"{case.label}{batch}: {name_program(case.framework)} {case.by}, {case.form}"

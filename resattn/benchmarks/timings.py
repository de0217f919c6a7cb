"""What was measured, and what follows from it: medians, rates, ratios, goals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from statistics import geometric_mean, median, quantiles
from typing import Any

# Other implementations that ours are compared with, and what is said of them in tables.
REFERENCES = {
    "onnxruntime": "ONNX Runtime",
    "timm": "timm",
    "native": "native",
    "copy": "plain copy",
}
LOAD = "load before the run"  # of the machine: how many programs wanted to compute
# Labels of commands that have goals of their own.
INSPECT, LARGE_CHECK = "resattn inspect FILE", "resattn check --config resnet50"
_IN_EACH_FRAMEWORK = ("native", "copy")


@dataclass(frozen=True)
class Timing:
    """The seconds of one function in each round.

    part: the section of the table, such as "blocks" or "attention". label: what was computed.
    framework, by, device, form, batch: as in `BenchCase`.
    seconds: one for each round, the median of the calls in it. Rounds with the same number were
    measured one after another, in all timings of a part.
    work: how much one call does, in `unit`: "FLOP" or "byte"; 0 where nobody counts it.
    memory: the most bytes that a call takes, None where nobody looked.
    cpu_seconds: what all cores together worked for a call, None where nobody looked.
    missing: why there are no seconds, "" if there are.
    """

    part: str
    label: str
    framework: str
    by: str
    seconds: tuple[float, ...] = ()
    device: str = "cpu"
    form: str = "float32"
    batch: int = 1
    work: float = 0.0
    unit: str = "FLOP"
    memory: int | None = None
    cpu_seconds: float | None = None
    missing: str = ""

    def __post_init__(self) -> None:
        # Six digits: no clock measures more, and files stay small.
        object.__setattr__(self, "seconds", tuple(float(f"{each:.6g}") for each in self.seconds))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Timing:
        """From its fields as JSON holds them, and others, which are not read."""
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        return cls(**{**known, "seconds": tuple(known["seconds"])})

    @property
    def median(self) -> float:
        """Of the seconds."""
        return median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between them are half of the rounds."""
        if len(self.seconds) < 2:
            return self.median, self.median
        first, _, last = quantiles(self.seconds, n=4, method="inclusive")
        return first, last

    @property
    def rate(self) -> float | None:
        """Work in each second, in units of 1e9."""
        return self.work / self.median / 1e9 if self.work and self.seconds else None

    @property
    def task(self) -> tuple[str, ...]:
        """What was computed. Timings of one task can be compared."""
        return self.part, self.label, self.device, self.form, str(self.batch)


def ratio(one: Timing, other: Timing) -> float:
    """How many times as long one takes as the other: the median over the rounds, so that a machine
    that is slow in some rounds, for both, changes nothing.
    """
    return median(a / b for a, b in zip(one.seconds, other.seconds, strict=False))


@dataclass(frozen=True)
class BenchReport:
    """Everything that one run of `resattn bench` found.

    machine: what it ran on, and the versions, in the order in which to show them.
    """

    machine: Mapping[str, str]
    timings: tuple[Timing, ...] = field(default=())

    @property
    def is_busy(self) -> bool:
        """Whether the machine did other work when the run began."""
        return float(self.machine.get(LOAD, 0)) > 1

    @property
    def measured(self) -> list[Timing]:
        """The timings that there are."""
        return [timing for timing in self.timings if timing.seconds]

    def reference(self, timing: Timing, by: str) -> Timing | None:
        """The timing of another implementation of the same task, if it was measured. "native" and
        "copy" are in the same framework.
        """
        for other in self.measured:
            same = by not in _IN_EACH_FRAMEWORK or other.framework == timing.framework
            if other.task == timing.task and other.by == by and same and other != timing:
                return other
        return None

    def ratio_to(self, timing: Timing, by: str) -> float | None:
        """How many times as long a function takes as that implementation."""
        other = self.reference(timing, by)
        return ratio(timing, other) if other and timing.seconds else None

    def peak(self, device: str, form: str) -> float | None:
        """The greatest rate that was measured in this run, in GFLOP/s: of a matrix product, or of
        a model whose library has better kernels for this machine. None without a product.
        """
        here = [
            timing for timing in self.measured if (timing.device, timing.form) == (device, form)
        ]
        if not any(timing.part == "peak" for timing in here):
            return None
        rates = (timing.rate for timing in here if timing.unit == "FLOP")
        return max((rate for rate in rates if rate), default=None)

    def share_of_peak(self, timing: Timing) -> float | None:
        """The part of the peak that a function reaches."""
        peak = self.peak(timing.device, timing.form)
        return timing.rate / peak if timing.rate and peak and timing.unit == "FLOP" else None

    def select(self, **fields: object) -> list[Timing]:
        """The timings whose fields have these values."""
        return [
            timing for timing in self.measured
            if all(getattr(timing, name) == value for name, value in fields.items())
        ]  # fmt: skip

    def mean_ratio(self, reference: str, /, **fields: object) -> float | None:
        """The geometric mean of the ratios of some timings to another implementation."""
        return _mean(self.ratio_to(timing, reference) for timing in self.select(**fields))

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: the timings, and what follows from them."""
        rows = []
        for timing in self.timings:
            row = {**asdict(timing), "seconds": list(timing.seconds)}
            if timing.seconds:
                row |= {"median": timing.median, "quartiles": list(timing.quartiles)}
                row |= {"rate": timing.rate, "share_of_peak": self.share_of_peak(timing)}
                ratios = {by: self.ratio_to(timing, by) for by in REFERENCES}
                row["ratios"] = {by: found for by, found in ratios.items() if found is not None}
            rows.append(row)
        goals = [asdict(goal) for goal in list_goals(self)]
        return {"machine": dict(self.machine), "timings": rows, "goals": goals}

    def to_json(self) -> str:
        """The same as text, with a line for each timing."""
        values = self.to_dict()
        parts = [f'"machine": {json.dumps(values["machine"], indent=1)}']
        for name in ("goals", "timings"):
            lines = ",\n".join(json.dumps(row) for row in values[name])
            parts.append(f'"{name}": [\n{lines}\n]')
        return "{{\n{}\n}}\n".format(",\n".join(parts))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BenchReport:
        """The inverse of `to_dict`."""
        return cls(values["machine"], tuple(map(Timing.from_dict, values["timings"])))


@dataclass(frozen=True)
class Goal:
    """A figure that was wished for.

    least: whether it is to be at least the limit, instead of at most. figure: None if it was not
    measured.
    """

    words: str
    limit: float
    figure: float | None
    least: bool = False

    @property
    def met(self) -> bool | None:
        """None if it was not measured."""
        if self.figure is None:
            return None
        return self.figure >= self.limit if self.least else self.figure <= self.limit


_DEPLOY_LIMITS = {"torch": ("PyTorch", 1.05), "tf": ("Keras", 1.4), "jax": ("Flax", 1.5)}


def list_goals(report: BenchReport) -> list[Goal]:
    """The goals of the project on CPU, with what this run says of them."""
    found = [
        Goal(
            f"{label} deploy() / ONNX Runtime, blocks, geometric mean",
            limit,
            report.mean_ratio(
                "onnxruntime", part="blocks", framework=framework, by="deploy", device="cpu"
            ),
        )
        for framework, (label, limit) in _DEPLOY_LIMITS.items()
    ]
    networks = [
        timing for timing in report.select(part="networks", framework="jax", by="deploy")
        if timing.device == "cpu" and timing.label.startswith("se-resnet18")
    ]  # fmt: skip
    for timing in networks:
        others = report.select(framework="torch", by="deploy")
        figure = next((ratio(timing, each) for each in others if each.task == timing.task), None)
        images = "image" if timing.batch == 1 else "images"
        words = f"Flax deploy() / PyTorch deploy(), {timing.label}, {timing.batch} {images}"
        found.append(Goal(words, 3.0, figure))
    more = (_training_goals, _attention_goals, _copy_goals, _command_goals)
    return [*found, *(goal for goals in more for goal in goals(report))]


def _training_goals(report: BenchReport) -> Iterator[Goal]:
    for framework, by in (("torch", "timm"), ("jax", "native"), ("tf", "native")):
        for timing in report.select(part="training", framework=framework, by="plain"):
            words = f"{_DEPLOY_LIMITS[framework][0]} / {by}, {timing.label}"
            yield Goal(words, 1.05, report.ratio_to(timing, by))


def _attention_goals(report: BenchReport) -> Iterator[Goal]:
    """Beside the fastest version of the same framework: timm's modules are PyTorch's."""
    for framework, (label, _) in _DEPLOY_LIMITS.items():
        timings = report.select(part="attention", framework=framework, by="plain")
        others = ("timm", "native") if framework == "torch" else ("native",)
        ratios = [
            (found, timing.label) for timing in timings for by in others
            if (found := report.ratio_to(timing, by))
        ]  # fmt: skip
        if ratios:
            figure, worst = max(ratios)
            name = f"{label} attention / {' or '.join(others)}, worst kind ({worst})"
            yield Goal(name, 1.1, figure)


# The ways between files and models that have goals, by the start of their labels.
_WAYS = ("file to model", "model to file", "safetensors to safetensors", "npz to npz")
_UNCHECKED = "without checksums"


def _copy_goals(report: BenchReport) -> Iterator[Goal]:
    """The rates of the slowest ways as parts of that of a plain copy, and the memory."""
    timings = report.select(part="converter", by="plain")
    for framework in dict.fromkeys(timing.framework for timing in timings):
        where = _DEPLOY_LIMITS[framework][0] if framework in _DEPLOY_LIMITS else "file to file"
        own = [timing for timing in timings if timing.framework == framework]
        for unchecked in (False, True):
            rates = [
                1 / found for timing in own
                if timing.label.startswith(_WAYS) and (_UNCHECKED in timing.label) == unchecked
                and (found := report.ratio_to(timing, "copy"))
            ]  # fmt: skip
            if rates:
                how = _UNCHECKED if unchecked else "with checksums"
                words = f"{where}, {how}: slowest rate / plain copy"
                yield Goal(words, 0.5, min(rates), least=True)
        used = [(timing, timing.memory) for timing in own if timing.memory is not None]
        if framework not in _DEPLOY_LIMITS:
            yield Goal(f"{where}: memory, MB", 200, max(memory for _, memory in used) / 1e6)
            continue
        for timing, memory in used:
            if timing.label.startswith("file to new model"):
                yield Goal(f"{where}, file to new model: memory / weights", 1.1,
                           memory / timing.work)  # fmt: skip


def _command_goals(report: BenchReport) -> Iterator[Goal]:
    for timing in report.select(part="commands"):
        label = timing.label
        if label.startswith(INSPECT) and timing.memory is not None:
            yield Goal(f"{label}: s", 0.3, timing.median)
            yield Goal(f"{label}: memory, MB", 100, timing.memory / 1e6)
        elif label == LARGE_CHECK:
            yield Goal(f"{label}, three frameworks: s", 120, timing.median)
        else:
            alone = timing.framework in _DEPLOY_LIMITS
            words = label if alone else f"{label}, three frameworks"
            yield Goal(f"{words}: CPU, s", 5 if alone else 10, timing.cpu_seconds)


def _mean(ratios: Iterable[float | None]) -> float | None:
    known = [each for each in ratios if each is not None]
    return geometric_mean(known) if known else None

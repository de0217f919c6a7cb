"""A report of benchmarks in words: Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from resattn.benchmarks.cases import name_program
from resattn.benchmarks.channels import ABSENT
from resattn.benchmarks.timings import REFERENCES, BenchReport, Goal, Timing, list_goals
from weights.frameworks import FRAMEWORKS

PART_TITLES = {
    "blocks": "Blocks with squeeze-and-excitation",
    "networks": "Networks",
    "training": "A training step",
    "attention": "Attention modules",
    "converter": "Files and live models",
    "commands": "Commands",
    "peak": "A matrix product",
}
NOTHING = "-"


def format_tables(report: BenchReport) -> str:
    """The whole report: the machine, the goals, a table for each part."""
    lines = [*warn(report), describe_setting(report), "", *format_goals(list_goals(report))]
    parts = [part for part in PART_TITLES if any(each.part == part for each in report.timings)]
    for part in parts:
        timings = [timing for timing in report.timings if timing.part == part]
        lines += ["", f"**{PART_TITLES[part]}**", "", *_format_part(report, timings)]
    return "\n".join(lines)


def warn(report: BenchReport) -> list[str]:
    """A warning, where other programs have slowed down the run."""
    words = (
        "**The machine did other work during this run, which slows some functions down more than "
        "others: trust none of the figures.**"
    )
    return [words, ""] if report.is_busy else []


def describe_setting(report: BenchReport) -> str:
    """Where, and with what, the figures were measured, in a sentence."""
    machine = dict(report.machine)
    cpu, cores = machine.pop("CPU", "unknown"), machine.pop("cores", "unknown")
    rest = "; ".join(
        text if name in _SAID_BY_ITSELF and text != ABSENT else f"{name} {text}"
        for name, text in machine.items()
    )
    return f"CPU: {cpu}; {cores}; {rest}."


_SAID_BY_ITSELF = {name_program(name) for name in FRAMEWORKS} | {"NumPy", "ONNX Runtime", "timm"}


def format_goals(goals: Sequence[Goal]) -> list[str]:
    """A table of the goals that were measured."""
    rows = [
        (
            goal.words,
            f"{'>=' if goal.least else '<='} {goal.limit:g}",
            format_ratio(goal.figure),
            "met" if goal.met else "missed",
        )
        for goal in goals
        if goal.figure is not None
    ]
    return _format_table(("goal", "limit", "measured", ""), rows) if rows else []


def _format_part(report: BenchReport, timings: Sequence[Timing]) -> list[str]:
    """A table of one part; columns that would be empty are left out."""
    header = ["what", "function", "ms", "quartiles", "rate", "of the peak"]
    header += [f"/ {name}" for name in REFERENCES.values()]
    header += ["CPU, ms", "memory, MB"]
    rows = [_make_row(report, timing) for timing in timings if timing.seconds]
    for before, row in reversed(list(pairwise(rows))):
        if row[0] == before[0]:
            row[0] = ""
    kept = [index for index in range(len(header)) if any(row[index] != NOTHING for row in rows)]
    lines = _format_table([header[i] for i in kept], [[row[i] for i in kept] for row in rows])
    missing = dict.fromkeys(
        f"Not measured: {_describe_task(each)}, {name_function(each)}: {each.missing}."
        for each in timings if each.missing
    )  # fmt: skip
    return [*(lines if rows else []), *(("", *missing) if missing else ())]


def _make_row(report: BenchReport, timing: Timing) -> list[str]:
    first, last = timing.quartiles
    units = {"FLOP": "GFLOP/s", "byte": "GB/s"}
    rate, share = timing.rate, report.share_of_peak(timing)
    ratios = (report.ratio_to(timing, by) for by in REFERENCES)
    return [
        _describe_task(timing),
        name_function(timing),
        format_ms(timing.median),
        f"{format_ms(first)} to {format_ms(last)}",
        NOTHING if rate is None else f"{rate:.3g} {units[timing.unit]}",
        NOTHING if share is None or timing.part == "peak" else f"{share:.0%}",
        *map(format_ratio, ratios),
        NOTHING if timing.cpu_seconds is None else format_ms(timing.cpu_seconds),
        NOTHING if timing.memory is None else f"{timing.memory / 1e6:.0f}",
    ]


def _describe_task(timing: Timing) -> str:
    """What was computed, with what is not the usual of it."""
    without_images = timing.part in ("peak", "converter", "commands")
    words = timing.label if without_images else describe_task(timing)
    usual = (timing.device, timing.form) == ("cpu", "float32")
    return words if usual else f"{words}, {timing.form} on {timing.device}"


def describe_task(timing: Timing) -> str:
    """The model and the number of images."""
    images = "1 image" if timing.batch == 1 else f"{timing.batch} images"
    return f"{timing.label}, {images}"


def name_function(timing: Timing) -> str:
    """Whose function it is, as in "PyTorch deploy()"."""
    name = name_program(timing.framework)
    ways = {
        "plain": name,
        "deploy": f"{name} deploy()",
        "native": f"{name}, native",
        "timm": "timm",
        "onnxruntime": name,
        "product": name,
        "copy": f"{name}, plain copy",
        "command": "command line",
    }
    return ways.get(timing.by, f"{name}, {timing.by}")


def format_ms(seconds: float) -> str:
    """Milliseconds with three digits."""
    value = seconds * 1000
    decimals = 0 if value >= 99.95 else 1 if value >= 9.995 else 2 if value >= 0.9995 else 3
    return f"{value:.{decimals}f}"


def format_ratio(value: float | None) -> str:
    """A ratio with two decimals."""
    return NOTHING if value is None else f"{value:.2f}"


def _format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def format_summary(report: BenchReport) -> str:
    """The three lines that say most, for docs/deploy.md."""
    blocks = {"part": "blocks", "device": "cpu"}
    lines = {
        "blocks, `deploy()`, times ONNX Runtime's time": {
            name: format_ratio(
                report.mean_ratio("onnxruntime", framework=name, by="deploy", **blocks)
            )
            for name in FRAMEWORKS
        },
        "blocks as they are, times the obvious native block's": {
            name: format_ratio(report.mean_ratio("native", framework=name, by="plain", **blocks))
            for name in FRAMEWORKS
        },
        "`se-resnet18`, 8 images of 64 x 64, `deploy()`, milliseconds": {
            name: _find_network(report, name) for name in FRAMEWORKS
        },
    }
    rows = [(words, *cells.values()) for words, cells in lines.items()]
    return "\n".join(
        [*warn(report), *_format_table(("", *(row.label for row in FRAMEWORKS.values())), rows)]
    )


def _find_network(report: BenchReport, framework: str) -> str:
    found = [
        timing for timing in report.select(part="networks", framework=framework, by="deploy")
        if timing.label.startswith("se-resnet18") and timing.batch == 8 and timing.device == "cpu"
    ]  # fmt: skip
    return format_ms(found[0].median) if found else NOTHING

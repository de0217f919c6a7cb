"""`resattn check --golden`: the golden vectors, which an installed package can check by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resattn.cli.terminal import print_line, status
from resattn.cli.words import say

if TYPE_CHECKING:
    from weights import Report


def golden_check(
    frameworks: tuple[str, ...] | None, devices: tuple[str, ...], dtype: str, every: bool
) -> list[Report]:
    """Computes the golden vectors, compares with the stored answers, and prints the result.

    frameworks: None for those that are installed. dtype: "float32" or "float64", to compute in.
    Raises MissingFramework, and ArgumentError for a device that a framework does not see.
    """
    from resattn.checking import golden
    from resattn.checking.backends import backends, precise
    from resattn.checking.crosscheck import check_model
    from resattn.checking.progress import StepCounter

    used = backends(installed_frameworks() if frameworks is None else frameworks, devices)
    reports = []
    with status(say("golden vectors")) as show_step:
        tell = StepCounter(show_step, len(used) * len(golden.CASES))
        for backend in used:
            for case in golden.CASES:
                tell(f"{backend.name}, {case}")
                problem = golden.read_problem(case, dtype)
                with precise((backend.framework,), dtype):
                    model = backend.build(problem.config, problem.arrays)
                report = check_model(backend, model, problem)
                reports.append(replace(report, title=f"{case}: {report.title}"))
    print_line(
        say(
            "golden vectors in {dtype}: {count} cases with the oracle's answers",
            dtype=dtype,
            count=len(golden.CASES),
        )
    )
    for backend in used:
        print_line(f"  {backend.name}: {backend.adapter.versions()}")
    print_line("")
    print_golden(reports, every)
    return reports


def print_golden(reports: list[Report], every: bool) -> None:
    """Prints a line for each report with its worst excess, then the failures."""
    from weights.compare import columns

    table = [("case", "framework", say("x rounding"), "", say("worst comparison"))]
    for report in reports:
        worst, case = report.worst(), report.title.partition(":")[0]
        verdict = "ok" if report.ok else "OVER"
        place = f"{worst.quantity} {worst.tensor}"
        table.append((case, worst.actual, f"{worst.times:.2f}", verdict, place))
    for line, shown in zip(columns(table), (None, *reports), strict=True):
        print_line(line, "bad" if shown and not shown.ok else "")
        for row in shown.rows if shown and every else ():
            print_line(f"    {row}")
    print_line(say("x rounding: in units of what rounding explains; a case fails above 5\n"))
    for report in reports:
        for row in report.failures[:3]:
            print_line(f"  {report.title.partition(':')[0]}: {row}", "bad")
    count = sum(len(report.rows) for report in reports)
    over = sum(len(report.failures) for report in reports)
    if over:
        print_line(
            say(
                "FAILED: {over} of {count} comparisons are over what rounding explains.",
                over=over,
                count=count,
            ),
            "bad",
        )
    else:
        print_line(
            say("All {count} comparisons are within what rounding explains.", count=count), "good"
        )


def installed_frameworks() -> tuple[str, ...]:
    """The frameworks that are installed. Prints a line for each that is not.

    Raises MissingFramework when there is none.
    """
    from weights.errors import MissingFramework
    from weights.frameworks import FRAMEWORKS
    from weights.live import adapter

    found, missing = [], []
    for framework in FRAMEWORKS:
        try:
            adapter(framework)
        except MissingFramework as error:
            missing.append(str(error))
        else:
            found.append(framework)
    if not found:
        raise MissingFramework("\n".join([say("no framework is installed:"), *missing]))
    for line in missing:
        print_line(say("not checked: {line}", line=line), "warning")
    return tuple(found)

"""`resattn check --device cuda`: a verdict on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resattn.cli.terminal import print_line, status
from resattn.cli.words import say

if TYPE_CHECKING:
    from resattn.checking.verdict import Verdict


def device_check(device: str, frameworks: tuple[str, ...] | None) -> Verdict:
    """Makes the verdict on a device and prints it. frameworks: None for those that are installed.

    Raises ArgumentError for a device that no framework sees, and MissingFramework.
    """
    from resattn.checking.verdict_run import give_verdict
    from resattn.checking.verdict_table import (
        conclude,
        describe_repeats,
        describe_verdict,
        list_disagreements,
        list_first,
        tabulate_verdict,
    )
    from weights.compare import columns

    with status(say("verdict on {device}", device=device)) as show_step:
        verdict = give_verdict(device, frameworks, progress=show_step)
    for line in describe_verdict(verdict):
        print_line(line)
    print_line("")
    for line in columns(tabulate_verdict(verdict)):
        print_line(line, "bad" if "OVER" in line or "FAILED" in line else "")
    print_line(say("worst case, in units of what rounding explains (greatest relative error)\n"))
    for line in describe_repeats(verdict):
        print_line(line)
    for line in list_first(list_disagreements(verdict)):
        print_line(f"  {line}", "bad")
    print_line(conclude(verdict), "good" if verdict.ok else "bad")
    return verdict

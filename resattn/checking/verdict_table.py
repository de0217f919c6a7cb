"""A verdict as a table: for the terminal, and for docs/gpu.md.

`python -m resattn.checking.verdict_table FILE.json docs/gpu.md` puts the table of a verdict between
the marks of the document.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from resattn.checking.crosscheck import LIMIT
from resattn.checking.verdict import DeviceMeasurement, Verdict, count_sentence
from weights.errors import FileError

TABLE_START, TABLE_END = "<!-- verdict: start -->\n", "<!-- verdict: end -->"
NOT_THERE = "-"
MOST_SHOWN = 20
FORM_LABELS = {"float32": "float32, TF32 off", "tf32": "float32, TF32 on"}


def list_columns(verdict: Verdict) -> list[tuple[str, str]]:
    """The columns of the table: a device and a way each, the CPU last."""
    places = dict.fromkeys(
        (each.device, each.way) for each in verdict.measurements if not each.failed
    )
    order = ["eager", "compiled", "channels_last"]
    known = [place for place in places if place[1] in order]
    return sorted(known, key=lambda place: (place[0] != verdict.device, order.index(place[1])))


def tabulate_verdict(verdict: Verdict) -> list[tuple[str, ...]]:
    """The rows of the table, its heads first: for each participant and format the worst case."""
    columns = list_columns(verdict)
    heads = ("", "format", *(f"{device}, {way.replace('_', ' ')}" for device, way in columns))
    rows: list[tuple[str, ...]] = [heads]
    for participant in verdict.list_values("participant"):
        shown = participant
        for form in sorted(verdict.list_values("form", participant=participant), key=_order):
            place = {"participant": participant, "form": form}
            cells = (
                describe_worst(verdict.select(**place, device=device, way=way))
                for device, way in columns
            )
            rows.append((shown, FORM_LABELS.get(form, form), *cells))
            shown = ""
    return rows


def _order(form: str) -> int:
    forms = ("float64", "float32", "tf32", "mixed_bfloat16", "bfloat16", "mixed_float16", "float16")
    return forms.index(form) if form in forms else len(forms)


def describe_worst(measurements: Sequence[DeviceMeasurement]) -> str:
    """A cell: the worst of some cases, in units of what rounding explains, and the greatest
    relative error.
    """
    if not measurements:
        return NOT_THERE
    failed = [each for each in measurements if each.failed]
    if failed:
        return f"FAILED in {len(failed)} of {len(measurements)}"
    times = max(each.times for each in measurements)
    distance = max(each.distance for each in measurements)
    over = any(each.over for each in measurements)
    return f"{times:.2g} ({distance:.0e}){' OVER' if over else ''}"


def describe_verdict(verdict: Verdict) -> list[str]:
    """Where it was made, and with what, a line each."""
    setting = "; ".join(f"{name} {text}" for name, text in verdict.setting.items())
    models = verdict.list_values("case", device=verdict.device)
    lines = [f"{setting}.", f"{len(models)} models: {', '.join(models)}."]
    for participant, versions in verdict.versions.items():
        lines.append(f"{participant}: {versions}, {verdict.seconds[participant]:.0f} s.")
    return [*lines, *(f"{label}: {why}." for label, why in verdict.missing.items())]


def describe_repeats(verdict: Verdict) -> list[str]:
    """Whether each participant computes the same bits each time, a line each."""
    lines = []
    for participant in verdict.list_values("participant"):
        own = verdict.select(participant=participant)
        lines.append(f"{participant}: {count_sentence(own)}.")
        lines += [
            f"{participant}, {each.assignment}: {each.refused}; ten runs are apart by up to "
            f"{each.spread:.2g} times what rounding explains"
            for each in own
            if each.refused
        ]
    return lines


def list_disagreements(verdict: Verdict) -> list[str]:
    """What is not right, a line each."""
    lines = []
    for each in verdict.measurements:
        place = f"{each.participant}, {each.assignment}"
        if each.failed:
            lines.append(f"{place}: {each.failed}")
        if each.changed:
            count = len(each.changed)
            lines.append(f"{place}: {count} tensors have other bits in a second run, such as "
                         f"{each.changed[0]}")  # fmt: skip
        if each.over:
            lines.append(
                f"{place}: {each.over} of {each.comparisons} comparisons are over the limit, the "
                f"worst {each.where}: {each.times:.3g} times what rounding explains"
            )
        if not each.ok and not (each.failed or each.changed or each.over):
            lines.append(f"{place}: was not measured")
    return lines


def conclude(verdict: Verdict) -> str:
    """The verdict in a sentence."""
    own = verdict.select(device=verdict.device)
    count = sum(each.comparisons for each in verdict.measurements)
    if verdict.ok:
        return (
            f"All {count:,} comparisons on {verdict.device} and the CPU are within {LIMIT} times "
            "what rounding explains, and every second run gives the same bits where they were "
            "asked for."
        ).replace("on cpu and the CPU", "on the CPU")
    if not own:
        return f"FAILED: nothing was measured on {verdict.device}."
    return f"FAILED: {len(list_disagreements(verdict))} disagreements."


def format_markdown(verdict: Verdict) -> str:
    """Everything, as Markdown."""
    name = verdict.setting["device"]
    heading = (
        f"## Verdict on {name}" if verdict.device == "cuda"
        else f"## Verdict on a CPU: no GPU was there ({verdict.setting['machine']})"
    )  # fmt: skip
    rows = tabulate_verdict(verdict)
    lines = [rows[0], ("---",) * len(rows[0]), *rows[1:]]
    wrong = list_disagreements(verdict)
    parts = [
        [heading],
        [f"- {line}" for line in describe_verdict(verdict)],
        [conclude(verdict)],
        [f"- {line}" for line in list_first(wrong)],
        [f"| {' | '.join(cells)} |" for cells in lines],
        ["Determinism:"],
        [f"- {line}" for line in describe_repeats(verdict)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def list_first(lines: Sequence[str]) -> Iterator[str]:
    """The first lines, and how many more there are."""
    yield from lines[:MOST_SHOWN]
    if len(lines) > MOST_SHOWN:
        yield f"and {len(lines) - MOST_SHOWN} more, which are in the file"


def put_table(text: str, body: str, name: str) -> str:
    """A document with another table between its marks. name: of the document.

    Raises FileError for one without the marks.
    """
    before, start, rest = text.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not start or not end:
        raise FileError(
            f"{name}: expected the lines {TABLE_START.strip()} and {TABLE_END}, in this order"
        )
    return f"{before}{start}\n{body}\n\n{end}{after}"


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    verdict = Verdict.from_dict(json.loads(source.read_text(encoding="utf-8")))
    body = format_markdown(verdict)
    text = put_table(target.read_text(encoding="utf-8"), body, target.name)
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

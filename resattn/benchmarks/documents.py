"""`python -m resattn.benchmarks.documents`: puts the figures of docs/speed.json into docs/speed.md
and docs/deploy.md, and makes docs/speed.svg.

`make bench` measures them first. The text around the figures is written by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

from resattn.benchmarks.chart import save_chart
from resattn.benchmarks.tables import format_summary, format_tables
from resattn.benchmarks.timings import BenchReport
from weights.errors import FileError

FIGURES, PAGE, SUMMARY = Path("docs/speed.json"), Path("docs/speed.md"), Path("docs/deploy.md")
START, END = "<!-- speed: start -->\n", "<!-- speed: end -->"


def read_report(path: Path) -> BenchReport:
    """The report that `resattn bench --json` wrote."""
    return BenchReport.from_dict(json.loads(path.read_text(encoding="utf-8")))


def put_between_marks(text: str, body: str, name: str) -> str:
    """A document with other words between its marks. name: of the document.

    Raises FileError for one without the marks.
    """
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise FileError(f"{name}: expected the lines {START.strip()} and {END}, in this order")
    return f"{before}{start}{body}\n{end}{after}"


def update_documents(folder: Path) -> None:
    """Rewrites the documents in the folder of the project."""
    report = read_report(folder / FIGURES)
    for path, body in ((PAGE, format_tables(report)), (SUMMARY, format_summary(report))):
        file = folder / path
        text = put_between_marks(file.read_text(encoding="utf-8"), body, path.name)
        file.write_text(text, encoding="utf-8")
    save_chart(report, folder / FIGURES.with_suffix(".svg"))


if __name__ == "__main__":
    update_documents(Path())

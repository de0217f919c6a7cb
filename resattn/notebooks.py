"""How models, drawings, explanations and reports show themselves in a notebook.

`import resattn` in IPython registers them; in a notebook that has imported only one of the three
packages, `%load_ext resattn.notebooks` does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from html import escape
from importlib import import_module
from itertools import product
from typing import Any

from weights.errors import ResattnError

# Colours that can be read on a light page and on a dark one: a notebook says nowhere which it is.
TEXT_COLOURS = {
    "bad": "#dc3545",
    "good": "#1e8a40",
    "warning": "#a06e00",
    "title": "#2176d9",
    "heading": "#8a5ce6",
    "code": "#1e8a40",
}
_BOLD = ("title", "heading", "step")
_WIDTH = 80  # longer lines are broken where the page is narrow
_ROW = re.compile(r"\S {2,}\S")  # of a table

_PACKAGES = ("pytorch_impl", "jax_impl", "tf_impl")
_MODELS = (
    ("block", "ResidualBlockWithAttention"),
    ("bottleneck", "ResidualBottleneckWithAttention"),
    ("network", "ResidualAttentionNetwork"),
)
# Classes whose `lines()` are their text: plain lines, or pairs of a line and its style.
_TEXTS = (
    ("weights.compare", "Report"),
    ("resattn.tracing.findings", "Trace"),
    ("resattn.training.drift", "Trajectory"),
    ("resattn.tracing.parallel", "StepTrace"),
    ("resattn.recording.comparison", "Comparison"),
    ("resattn.explaining.explanation", "Explanation"),
    ("resattn.explaining.executed.explanation", "ExecutedExplanation"),
)


def load_ipython_extension(shell: Any) -> None:
    """Registers the pictures and pages of our classes. None of them is imported for that."""
    formatters = shell.display_formatter.formatters
    pictures, texts = formatters["image/svg+xml"], formatters["text/html"]
    for package, (module, name) in product(_PACKAGES, _MODELS):
        pictures.for_type_by_name(f"{package}.{module}", name, show_model)
    pictures.for_type_by_name("resattn.drawing.scene", "Scene", draw_scene)
    for module, name in _TEXTS:
        texts.for_type_by_name(module, name, show_lines)


def register_in_notebook() -> None:
    """The same, if this is a notebook or another shell of IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        load_ipython_extension(shell)


def show_model(model: Any) -> str | None:
    """A model of ours as SVG. None for one that was changed, which its config does not draw."""
    try:
        import_module("weights.live").look_into_unchanged(model)
    except ResattnError:
        return None
    pictures = import_module("resattn.drawing.pictures")
    return draw_scene(pictures.scene_of(model.config))


def draw_scene(scene: Any) -> str:
    """A drawing as SVG, in colours for the page that it is on."""
    drawn: str = import_module("resattn.drawing.svg").svg(scene)
    return drawn


def show_lines(found: Any) -> str:
    """A report as HTML: its text with colours. Sentences are broken, rows of tables are not."""
    styled = getattr(found, "styled_lines", found.lines)
    text = "\n".join(_style(styled()))
    return f'<pre style="line-height: 1.3; overflow-x: auto">{text}</pre>'


def _style(lines: Iterable[str | tuple[str, str]]) -> Iterable[str]:
    for number, each in enumerate(lines):
        line, style = (each, "") if isinstance(each, str) else each
        style = style or ("title" if number == 0 else "")
        marks = [f"color: {TEXT_COLOURS[style]}"] if style in TEXT_COLOURS else []
        marks += ["font-weight: bold"] if style in _BOLD else []
        marks += ["white-space: pre-wrap"] if len(line) > _WIDTH and not _ROW.search(line) else []
        text = escape(line)
        yield f'<span style="{"; ".join(marks)}">{text}</span>' if marks else text

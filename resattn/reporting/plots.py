"""Curves of training runs: their losses, and how far they drift apart. Drawn with Matplotlib.

A file has English words, since its font has no other ones. In a page the words are text, in the
fonts and the colours of the page.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resattn.drawing.printing import check_drawn_suffix
from weights.checks import printable
from weights.errors import MissingFramework
from weights.files.atomic import write_atomically
from weights.language import in_english, say, translate_with

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLOT_SUFFIXES = (".svg", ".png", ".pdf")
# Colours of Okabe and Ito, dark enough for a light page; a page replaces them by its own. Lines
# differ in their dashes as well, and later ones are thinner, so that equal ones are all seen.
_COLOURS = ("#a06a00", "#0072b2", "#008561", "#a3477b", "#c65300", "#1f2328")
_DASHES = ("-", (0, (5, 2)), (0, (1.2, 1.2)), (0, (6, 2, 1.5, 2)))
_INK, _LINE, _BAD = "#24292f", "#d0d7de", "#a3000f"
_WIDTHS = (3.4, 2.4, 1.8, 1.4)
# Inches: the height of a panel and of an entry of a legend, and the least width for two columns.
_PANEL, _ENTRY, _COLUMN = 2.3, 0.17, 5.0
_LONGEST = 40  # characters of a name
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with Matplotlib
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "svg.hashsalt": "resattn",  # the same ids each time
    "text.parse_math": False,  # a name may hold dollar signs
}
_UNDATED: dict[str, dict[str, Any]] = {
    "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
    "pdf": {"CreationDate": None},
    "png": {},
}


@dataclass(frozen=True)
class Curves:
    """What is plotted of training runs.

    steps: the numbers of the steps. losses: by the name of a run. apart: the greatest relative
    differences between two runs, by the names of both. limit: for those. Each curve has a value for
    each of the first steps, as many as there are.
    """

    steps: Sequence[int]
    losses: Mapping[str, Sequence[float]]
    apart: Mapping[str, Sequence[float]] = field(default_factory=dict)
    limit: float | None = None

    @property
    def complete(self) -> bool:
        """Whether a logarithmic axis can show all: differences of 0 and what is not finite are not
        drawn.
        """
        drawn = [*self.losses.values(), *self.apart.values()]
        positive = all(min(each, default=1.0) > 0 for each in self.apart.values())
        return positive and all(np.isfinite(each).all() for each in drawn)


def check_plotting(what: str) -> None:
    """Raises MissingFramework if Matplotlib is missing. what: is drawn with it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingFramework(
            say(
                '{what} is drawn with Matplotlib; install it with: pip install "resattn[draw]"',
                what=what,
            ),
            "matplotlib",
        ) from None


def check_plot(target: Path) -> None:
    """Raises ArgumentError for the name of a file that is no picture of ours, and what
    `check_plotting` raises.
    """
    check_drawn_suffix(target, PLOT_SUFFIXES)
    check_plotting(target.name)


def save_plot(curves: Curves, target: Path) -> None:
    """Writes the picture in the format of the suffix of `target`, for a light page. The same
    curves give the same file.

    Raises what `check_plot` and `write_atomically` raise.
    """
    check_plot(target)
    form = target.suffix.lower().removeprefix(".")
    with translate_with(str, "en"):
        style = {"svg.fonttype": "path", "figure.facecolor": "w"}
        content = _print_figure(_in_english(curves), form, 7.0, style)
    write_atomically(target, lambda temporary: temporary.write_bytes(content))


def _in_english(curves: Curves) -> Curves:
    """With the names that were made in another language in English again."""
    named = {"losses": in_english(dict(curves.losses)), "apart": in_english(dict(curves.apart))}
    return replace(curves, **named)


def plot_for_page(curves: Curves, name: str, width: float) -> str:
    """The picture as an SVG to be put into a page, in the colours of the page's style sheet.

    name: is put before the ids in the picture. width: in inches. Raises what `check_plotting`
    raises.
    """
    check_plotting(say("A plot"))
    style = {"svg.fonttype": "none", "figure.facecolor": "none", "axes.facecolor": "none"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the fonts of the browser may have it
        text = _print_figure(curves, "svg", width, style).decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    title = escape(_say_title(curves))
    return _use_page_colours(text.replace("xlink:href", "href")).replace(
        "<svg ", f'<svg role="img" aria-label="{title}" ', 1
    )


def _use_page_colours(text: str) -> str:
    named = {colour: f"var(--curve{number})" for number, colour in enumerate(_COLOURS)}
    named |= {_INK: "var(--ink)", _LINE: "var(--line)", _BAD: "var(--bad)"}
    for colour, variable in named.items():
        text = text.replace(colour, variable)
    return text


def _say_title(curves: Curves) -> str:
    if curves.apart:
        return say("Losses of the runs, and differences between them, by step")
    return say("Losses of the runs by step")


def _print_figure(curves: Curves, form: str, width: float, style: Mapping[str, Any]) -> bytes:
    from matplotlib.style import context

    held = BytesIO()
    with context(["default", {**_STYLE, **style}]):  # whatever the settings of the user are
        figure = _draw_figure(curves, width)
        figure.savefig(held, format=form, dpi=200, metadata=_UNDATED[form])
    return held.getvalue()


def _draw_figure(curves: Curves, width: float) -> Figure:
    """The legends are below the panels, so that they cover nothing."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels, columns = 1 + bool(curves.apart), 1 if width < _COLUMN else 2
    lines = len(curves.losses) + len(curves.apart) + 1
    figure = Figure((width, _PANEL * panels + _ENTRY * (lines / columns + 1)), layout="constrained")
    axes = figure.subplots(panels, sharex=True, squeeze=False)[:, 0]
    _draw_lines(axes[0], curves.steps, curves.losses, _WIDTHS)
    axes[0].set_title(say("loss"))
    legend: dict[str, Any] = {"loc": "upper left", "ncols": columns, "borderaxespad": 0.2}
    if curves.apart:
        axes[0].legend(bbox_to_anchor=(0, -0.04), **legend)
        _draw_apart(axes[1], curves)
    figure.legend(*axes[-1].get_legend_handles_labels(), **{**legend, "loc": "outside lower left"})
    axes[-1].set_xlabel(say("step"))
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _draw_apart(axes: Axes, curves: Curves) -> None:
    from matplotlib.ticker import NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    if curves.limit is not None:
        words = say("limit {limit:.0e}", limit=curves.limit)
        axes.axhline(curves.limit, color=_BAD, linewidth=1.2, linestyle=(0, (2, 2)), label=words)
    drawn = {name: [x if x > 0 else np.nan for x in y] for name, y in curves.apart.items()}
    _draw_lines(axes, curves.steps, drawn, _WIDTHS[-1:])
    axes.set_title(say("greatest relative difference"))
    least, greatest = axes.get_ylim()  # to whole powers of ten, so that each end has a number
    axes.set_ylim(10 ** np.floor(np.log10(least)), 10 ** np.ceil(np.log10(greatest)))


def _draw_lines(
    axes: Axes,
    steps: Sequence[int],
    lines: Mapping[str, Sequence[float]],
    widths: Sequence[float],
) -> None:
    looks = zip(cycle(_COLOURS), cycle(_DASHES), cycle(widths), strict=False)
    for (name, values), (colour, dashes, width) in zip(lines.items(), looks, strict=False):
        y = np.array(values, float)
        y[~np.isfinite(y)] = np.nan
        axes.plot(
            steps[: len(y)],
            y,
            color=colour,
            linestyle=dashes,
            linewidth=width,
            marker="o" if len(y) == 1 else "",
            label=_shorten_name(name),
        )


def _shorten_name(name: str) -> str:
    name, half = printable(name), _LONGEST // 2 - 1
    name = name if len(name) <= _LONGEST else f"{name[:half]}…{name[-half:]}"
    return f" {name}" if name.startswith("_") else name  # Matplotlib would leave it out

"""Training runs that drift apart, as curves and as a page: `resattn drift --to --html`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from resattn.checking.tolerances import TRAINING_TOLERANCE
from resattn.reporting.page import describe_origin
from resattn.reporting.plots import Curves
from resattn.reporting.rendering import fill_template
from resattn.reporting.tables import CellTable, draw_plots, tabulate_curves
from resattn.reporting.wording import join_words, name_backend
from resattn.training.drift import Point, RunPair, Trajectory
from resattn.training.runs import DRIFT_QUANTITIES, JUDGED
from weights.language import say


@dataclass(frozen=True)
class DriftPage:
    """The contents of the page. command: the words of the command, for repeating it. made: the
    time; by default now.
    """

    found: Trajectory
    command: Sequence[str] = ()
    made: datetime | None = None

    def html(self) -> str:
        """The whole page. Raises MissingFramework without Matplotlib."""
        found, curves = self.found, collect_curves(self.found)
        kind, headline = _judge(found)
        return fill_template(
            "drift.html",
            kind=kind,
            headline=headline,
            subject=found.title,
            verdict=" ".join(_describe_worst(found)),
            plots=draw_plots(curves),
            caption=_describe_curves(found),
            complete=curves.complete,
            worst=_tabulate_worst(found),
            traces=[trace.lines() for trace in found.traces],
            numbers=tabulate_curves(curves),
            origin=describe_origin(self.command, found.environment, self.made),
        )


def collect_curves(found: Trajectory) -> Curves:
    """The loss of each run, and how far every two runs are apart: the greatest difference of a
    parameter, a running statistic or a moment.
    """
    return Curves(
        steps=found.steps,
        losses={name_backend(name): losses for name, losses in found.losses.items()},
        apart={
            _name_runs(pair): np.max([found.curve(each, pair) for each in JUDGED], axis=0)
            for pair in found.pairs
        },
        limit=TRAINING_TOLERANCE if found.dtype == "float64" else None,
    )


def _name_runs(pair: RunPair) -> str:
    return join_words([name_backend(name) for name in pair])


def _judge(found: Trajectory) -> tuple[str, str]:
    if found.dtype != "float64":
        return "", say("How far the runs drift apart in {dtype}", dtype=found.dtype)
    if found.ok:
        return "good", say("✓ The runs stay together")
    return "bad", say("✗ The runs part")


def _describe_worst(found: Trajectory) -> Iterator[str]:
    points = [found.worst(quantity) for quantity in JUDGED if found.of(quantity)]
    if points:
        worst = max(points, key=lambda point: point.relative)
        yield say(
            "The greatest relative difference is {relative:.1e}, in {tensor} after step {step}, "
            "between {pair}.",
            relative=worst.relative,
            tensor=worst.tensor,
            step=worst.step,
            pair=_name_runs(worst.pair),
        )
    if found.dtype == "float64":
        yield say("The limit is {limit:.0e}.", limit=TRAINING_TOLERANCE)
    else:
        yield say("There is a limit in float64 alone.")


def _describe_curves(found: Trajectory) -> str:
    above = say("Above: the loss of each run in each step.")
    below = say(
        "Below: the greatest relative difference of a parameter, a running statistic or a moment "
        "between two runs, on a logarithmic scale."
    )
    return f"{above} {below}"


def _tabulate_worst(found: Trajectory) -> CellTable:
    heads = (say("quantity"), say("greatest"), say("tensor"), say("step"), say("between"))
    rows = [
        _list_worst(found.worst(quantity)) for quantity in DRIFT_QUANTITIES if found.of(quantity)
    ]
    return CellTable(heads, rows, len(rows))


def _list_worst(point: Point) -> tuple[str, ...]:
    words = {
        "parameters": say("parameters"),
        "statistics": say("running statistics"),
        "moments": say("moments of the optimizer"),
        "loss": say("loss"),
        "free": say("biases without influence, absolute"),
    }
    return (
        words[point.quantity],
        f"{point.relative:.1e}",
        point.tensor,
        str(point.step),
        _name_runs(point.pair),
    )

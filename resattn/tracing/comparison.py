"""What a recording should be, and how far each stage of a model is from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from resattn.checking.crosscheck import ORACLE
from resattn.checking.draws import random_cotangent
from resattn.oracle import evaluation as reference
from resattn.oracle.kinks import Kinks
from resattn.oracle.node import backward
from resattn.tracing.judge import name_axes
from resattn.tracing.limits import Spread, measure_spread, rounding_limit
from resattn.tracing.sampling import compare_recorded, list_recorded
from weights import Difference
from weights.config import Config
from weights.graph import IMAGE
from weights.stages import Recording

# For each way, what of a recording it is.
RECORDED = {"forward": "values", "statistics": "statistics", "backward": "slopes"}
# For each way, the quantity in the table of tolerances.
TOLERANCE_QUANTITIES = {
    "forward": "eval output",
    "backward": "eval gradient",
    "statistics": "train statistics",
}


@dataclass(frozen=True)
class Target:
    """What the models should be. seed: of the cotangent of the output."""

    config: Config
    arrays: Mapping[str, np.ndarray]
    dtype: str
    seed: int


@dataclass(frozen=True)
class Right:
    """The oracle's recording, how far rounding could move it, and how near it came to a kink."""

    recording: Recording
    spread: Spread
    margin: float


def record_oracle(target: Target, x: np.ndarray, mode: str) -> Right:
    """The oracle's own recording, and how far rounding could move it."""

    def record(kinks: Kinks) -> Recording:
        made = reference.stages(
            target.config, target.arrays, x, training=mode == "train", kinks=kinks
        )
        cotangent = random_cotangent(made.output.shape, target.dtype, target.seed)
        backward(made.output, cotangent.astype(np.float64))
        nodes = {name: stage.computed for name, stage in made.stages.items()}
        slopes = {name: node.slope for name, node in nodes.items() if node.slope is not None}
        values = {name: node.value for name, node in nodes.items()}
        return Recording(values, slopes, made.state.statistics)

    exact = Kinks()
    recording = record(exact)
    spread = measure_spread(
        _flatten(recording), exact.distances, target.dtype, lambda kinks: _flatten(record(kinks))
    )
    return Right(recording, spread, exact.margin)


def _flatten(recording: Recording) -> dict[str, np.ndarray]:
    """Everything in a recording, as "way stage"."""
    return {
        f"{way} {stage}": array
        for way, kind in RECORDED.items()
        for stage, array in getattr(recording, kind).items()
    }


def compare_stages(
    model: str,
    mode: str,
    dtype: str,
    recording: Recording,
    known: Right,
    others: Mapping[str, Recording],
) -> list[Difference]:
    """One row for each stage: the difference from the oracle or, if that has no such stage, from
    the first model that has it.
    """
    rows = []
    for way, kind in RECORDED.items():
        if way == "statistics" and mode != "train":
            continue
        mine = list_recorded(recording, kind)
        sources = {
            ORACLE: list_recorded(known.recording, kind),
            **{name: list_recorded(other, kind) for name, other in others.items()},
            model: mine,
        }
        for stage, array in mine.items():
            first = next(
                name
                for name, held in sources.items()
                if stage in held and held[stage].shape == array.shape
            )
            if first != model and 0 not in array.shape and (stage, way) != (IMAGE, "forward"):
                rows.append(
                    compare_recorded(
                        array,
                        sources[first][stage],
                        tolerance=rounding_limit(
                            dtype,
                            TOLERANCE_QUANTITIES[way],
                            known.spread.get(f"{way} {stage}", 0.0),
                        ),
                        quantity=f"{mode} {way}",
                        tensor=stage,
                        names=(model, first),
                        axes=name_axes(array.shape),
                    )
                )
    return rows

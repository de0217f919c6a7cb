"""From a finding of a trace to the smallest case that still fails, and its script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from resattn.checking.tolerances import tolerance
from resattn.oracle import evaluation as reference
from resattn.reducing.case import FailingCase, make_case
from resattn.reducing.script import write_script
from resattn.reducing.shrinking import shrink
from resattn.tracing.findings import Finding, Trace
from resattn.tracing.judge import specify_stage
from weights.config import Config
from weights.errors import ArgumentError
from weights.language import in_english

CLEARLY = 30  # times the tolerance: nobody takes such a difference for rounding


@dataclass(frozen=True)
class Reduction:
    """finding: what was reduced. case: the smallest one that was found. script: its text."""

    finding: Finding
    case: FailingCase
    script: str

    @property
    def count(self) -> int:
        """How many numbers the case has."""
        return sum(array.size for array in self.case.numbers.values())


def reduce_trace(
    found: Trace,
    config: Config,
    arrays: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    framework: str,
    dtype: str = "float32",
) -> Reduction:
    """The first stage that a trace explains, with the smallest inputs and parameters with which
    the model still computes something else, as a script in a framework.

    config, arrays, inputs: those of the trace. dtype: float32 or float64.
    Raises ArgumentError where nothing was found, or nothing that a script can show: a stage that no
    known cause explains, a gradient, or an operation that is none in one line.
    """
    if found.ok:
        raise ArgumentError("there is nothing to reduce: every stage computes what it should")
    reasons = []
    for finding in found.findings:
        case = _find_case(finding, config, arrays, inputs, dtype)
        if isinstance(case, str):
            reasons.append(f"{finding.stage} ({finding.model}): {case}")
            continue
        smallest = shrink(case, _fails)
        explanation = finding.explanations[0]
        described = in_english(config.describe())
        cause = f"{in_english(explanation.cause)}: {in_english(explanation.words)}"
        heading = f"{finding.stage} of {described}, {finding.model}, {finding.mode}"
        scale = max(1.0, float(np.abs(smallest.outputs[0]).max()))
        allowed = tolerance(dtype, "eval output") * scale
        script = write_script(smallest, framework, heading, cause, allowed)
        if script is not None:
            return Reduction(finding, smallest, script)
        reasons.append(f"{finding.stage} ({finding.model}): is no operation of {framework} alone")
    raise ArgumentError(f"cannot be reduced to a script: {'; '.join(dict.fromkeys(reasons))}")


def _find_case(
    finding: Finding,
    config: Config,
    arrays: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    dtype: str,
) -> FailingCase | str:
    """The stage as it should be and as it is; or why that is no case."""
    if finding.backward:
        return "only its gradient differs"
    if not finding.explanations:
        return "no known cause explains it"
    training = finding.mode == "train"
    stages = reference.stages(config, arrays, inputs, training=training).stages
    if finding.stage not in stages:
        return "is a running statistic"
    stage = stages[finding.stage]
    right = specify_stage(stage, arrays, training)
    given = tuple(node.value for node in stage.inputs)
    case = make_case(right, finding.explanations[0].spec, given, dtype)
    if not _fails(case):
        return "its cause is in another stage"
    return case


def _fails(case: FailingCase) -> bool:
    """Whether both sides differ clearly, relative to the right side."""
    limit = CLEARLY * tolerance(case.dtype, "eval output")
    try:
        with np.errstate(all="ignore"):
            right, wrong = case.outputs
    except (ValueError, IndexError, ZeroDivisionError):  # of arrays that do not fit any more
        return False
    if right.shape != wrong.shape or not right.size:
        return False
    finite = bool(np.isfinite(right).all() and np.isfinite(wrong).all())
    return finite and float(np.abs(right - wrong).max()) > limit * float(np.abs(right).max())

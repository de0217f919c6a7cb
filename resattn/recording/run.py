"""A recorded run: what a model computed, where, and how far that is from the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from resattn.tracing.comparison import RECORDED
from resattn.tracing.findings import Trace
from resattn.tracing.sampling import Sample, SampledRecording, is_small, list_recorded
from weights.config import Config
from weights.fingerprint import fingerprint, fingerprint_all
from weights.graph import IMAGE
from weights.recipe import Recipe
from weights.stages import Recording

RECORDED_MODEL = "model"  # its name in the trace of its own run
LOSS = "loss"  # the name of the losses among what training is compared by
RecordedTensor = np.ndarray | Sample


@dataclass(frozen=True)
class TrainingSteps:
    """Some steps of training on the inputs of the run.

    labels: (batch,). losses: (steps,), each before its step. tensors: each parameter and running
    statistic after each step, (steps, ...), whole or a sample. apart, limits: for each of them and
    for the losses, the relative difference from the oracle after each step, and what it may be; the
    limit is infinite for parameters without influence on the loss, whose gradient is noise.
    """

    recipe: Recipe
    labels: np.ndarray
    losses: np.ndarray
    tensors: Mapping[str, RecordedTensor]
    apart: Mapping[str, tuple[float, ...]]
    limits: Mapping[str, tuple[float, ...]]

    @property
    def steps(self) -> int:
        return len(self.losses)


@dataclass(frozen=True)
class Run:
    """What `record` made. `write_run` and `read_run` of `resattn.recording.file` write
    and read it.

    config: of what the model should be. dtype: in which it computed. seed: of the gradient of the
    output and of the labels. inputs: (batch, channels, height, width). drawn: how they were made.
    prints: the fingerprint of each parameter. environment: see `describe_environment`.
    modes: what was recorded in each mode. trace: how far that is from the oracle, and which stages
    differ, without causes. hashes: the fingerprint of every stage, by "mode way stage".
    training: None if it was not recorded. arrays: the weights, if they were recorded.
    """

    config: Config
    dtype: str
    seed: int
    inputs: np.ndarray
    drawn: str
    prints: Mapping[str, str]
    environment: Mapping[str, str]
    modes: Mapping[str, SampledRecording]
    trace: Trace
    hashes: Mapping[str, str]
    training: TrainingSteps | None = None
    arrays: Mapping[str, np.ndarray] | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def weights_hash(self) -> str:
        return fingerprint_all(self.prints)

    @property
    def inputs_hash(self) -> str:
        return fingerprint(self.inputs)


def sample_recording(recording: Recording, last: str, full: bool) -> SampledRecording:
    """A recording with samples of its large stages. last: the stage that is kept whole as well.

    full: whether all stages are kept whole.
    """

    def split(held: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, Sample]]:
        whole = {
            name: array
            for name, array in held.items()
            if full or name in (last, IMAGE) or is_small(array.shape)
        }
        return whole, {
            name: Sample.of(array, name) for name, array in held.items() if name not in whole
        }

    values, sampled_values = split(recording.values)
    slopes, sampled_slopes = split(recording.slopes)
    order = tuple(dict.fromkeys((*recording.values, *recording.slopes)))
    return SampledRecording(
        values, slopes, recording.statistics, recording.received, recording.notes, sampled_values,
        sampled_slopes, order,
    )  # fmt: skip


def list_held(run: Run) -> dict[str, RecordedTensor]:
    """Everything recorded of the stages, by "mode way stage"; the images are `run.inputs`."""
    return {
        f"{mode} {way} {stage}": held
        for mode, recording in run.modes.items()
        for way, kind in RECORDED.items()
        for stage, held in list_recorded(recording, kind).items()
        if (way, stage) != ("forward", IMAGE)
    }

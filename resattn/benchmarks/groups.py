"""The groups of `resattn bench`, and those that measure by a function of their own.

A function of a group runs in the process of a framework, alternates between our implementation and
another one, and returns timings of both. Of commands there is no other one. To add a group, write
such a function and add a line to `MEASURED_GROUPS` and to `GROUP_DEVICES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from resattn.benchmarks.attention import time_attention
from resattn.benchmarks.cases import MODEL_GROUPS, NUMPY
from resattn.benchmarks.commands import list_commands, time_command
from resattn.benchmarks.converter import measure_converter, measure_files, write_random
from resattn.benchmarks.other_models import require_library
from resattn.benchmarks.plain_attention import PASSES
from resattn.benchmarks.timings import LARGE_CHECK, Timing
from resattn.benchmarks.training_step import STEP_CASES, time_training_steps
from weights.frameworks import FRAMEWORKS
from weights.graph import multiply_adds
from weights.live import adapter
from weights.presets import preset

MOST_RUNS = 3  # of a command, which takes seconds


@dataclass(frozen=True)
class Effort:
    """How much to measure. rounds: of each function. quick: little, to try whether it runs. full:
    also what takes minutes. frameworks: all that the run measures.
    """

    rounds: int
    quick: bool = False
    full: bool = False
    frameworks: tuple[str, ...] = tuple(FRAMEWORKS)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Effort:
        """From its fields as JSON holds them."""
        return cls(**{**values, "frameworks": tuple(values["frameworks"])})


def measure_attention(framework: str, device: str, effort: Effort) -> Iterator[Timing]:
    """Attention modules alone, beside timm's or native ones."""
    _require_timm(framework)
    kinds: Sequence[str] = ("se", "cbam") if effort.quick else tuple(PASSES)
    batch, channels, size = (2, 16, (8, 8)) if effort.quick else (8, 128, (28, 28))
    for found in time_attention(framework, kinds, batch, channels, size, effort.rounds):
        label = f"{found.kind}, {channels} channels, {size[0]} x {size[1]}, {found.direction}"
        options = {"size": size} if found.kind == "mhsa" else {}
        counted = multiply_adds(found.kind, channels, size, options) or 0
        flop = 2.0 * batch * counted if found.direction == "forward" else 0.0
        other = "timm" if found.theirs == "timm" else "native"
        for by, times in (("plain", found.ours_ms), (other, found.theirs_ms)):
            yield Timing(
                "attention", label, framework, by, _to_seconds(times), device, batch=batch,
                work=flop,
            )  # fmt: skip


def measure_training(framework: str, device: str, effort: Effort) -> Iterator[Timing]:
    """Steps of `make_train_step`, beside those that users of timm, Flax and Keras write."""
    _require_timm(framework)
    cases = STEP_CASES[1:] if effort.quick else STEP_CASES
    shapes = {case.name: case.shape for case in cases}
    for found in time_training_steps(framework, cases, effort.rounds):
        batch, _, rows, cols = shapes[found.case]
        label = f"training step of {found.case}, {rows} x {cols}"
        other = "timm" if framework == "torch" else "native"
        for by, times in (("plain", found.ours_ms), (other, found.theirs_ms)):
            yield Timing("training", label, framework, by, _to_seconds(times), device, batch=batch)


def measure_weights(framework: str, device: str, effort: Effort) -> Iterator[Timing]:
    """Weights between files and live models, beside plain copies; with NumPy, from file to file."""
    config = preset("resnet20" if effort.quick else "resnet152")
    with TemporaryDirectory() as folder:
        if framework == NUMPY:
            measured = measure_files(config, Path(folder), effort.rounds)
        else:
            measured = measure_converter(framework, config, Path(folder), effort.rounds)
    for found in measured:
        size = float(found.nbytes)
        label = f"{found.name}, {size / 1e6:.0f} MB"
        for by, times in (("plain", found.seconds), ("copy", found.plain_seconds)):
            memory = found.memory if by == "plain" else None
            yield Timing(
                "converter", label, framework, by, times, device, work=size, unit="byte",
                memory=memory,
            )  # fmt: skip


def measure_commands(framework: str, device: str, effort: Effort) -> Iterator[Timing]:
    """`resattn check` in a framework; with NumPy, in all of them, and `resattn inspect`."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "weights.safetensors"
        if framework == NUMPY:
            write_random(preset("resnet20" if effort.quick else "resnet152"), file)
        commands = list_commands(framework, effort.frameworks, file, full=effort.full)
        for label, arguments in commands:
            rounds = 1 if label == LARGE_CHECK else min(effort.rounds, MOST_RUNS)
            yield time_command(label, arguments, framework, rounds)


def _require_timm(framework: str) -> None:
    """Raises MissingFramework where the other implementation in PyTorch is missing."""
    if framework == "torch":
        require_library("timm")


def _to_seconds(milliseconds: Iterable[float]) -> tuple[float, ...]:
    return tuple(each / 1000 for each in milliseconds)


# By name: framework, device, effort -> timings. Raises MissingFramework.
MEASURED_GROUPS: dict[str, Callable[[str, str, Effort], Iterable[Timing]]] = {
    "training": measure_training,
    "attention": measure_attention,
    "converter": measure_weights,
    "commands": measure_commands,
}
# The only device of a group; "" for the one that the framework takes by itself.
GROUP_DEVICES = {"training": "cpu", "attention": "", "converter": "cpu", "commands": "cpu"}

GROUPS = (*MODEL_GROUPS, *MEASURED_GROUPS)


def list_programs(group: str, frameworks: Sequence[str]) -> tuple[str, ...]:
    """The programs in whose processes a group measures."""
    alone = group in ("converter", "commands")  # measure something without a framework, too
    return (*frameworks, NUMPY) if alone else tuple(frameworks)


def measure_group(group: str, framework: str, device: str, effort: Effort) -> list[Timing]:
    """The timings of a group in a framework. What it cannot measure on a device is missing."""
    only = GROUP_DEVICES[group] or adapter(framework).devices()[-1]
    if device != only:
        missing = f"is measured on {only} alone here"
        return [Timing(group, group, framework, "plain", device=device, missing=missing)]
    return list(MEASURED_GROUPS[group](framework, device, effort))

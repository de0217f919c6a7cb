"""The parts of a model that mistakes in its connections are about, and what such a mistake is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from resattn.tracing.computation import StageSpec
from resattn.tracing.steps import Program, Steps, TracedStep
from weights.checks import Pair
from weights.config import BottleneckConfig, Config
from weights.language import say


@dataclass(frozen=True)
class Edit:
    """One way in which a model can be another than it should be.

    cause, words: as those of an explanation. change: the steps that are other ones, of a program.
    join: the step after which the model goes on as it should; "" if unknown. Two edits at one
    join are evaluated together.
    """

    cause: str
    words: str
    change: Callable[[Program], Steps]
    join: str = ""


@dataclass(frozen=True)
class BlockParts:
    """The parts of one residual block: names of steps."""

    prefix: str
    x: str
    main: str
    short: str
    total: str
    out: str
    inner: str  # the input of the attention module
    gate: tuple[str, ...]  # its steps, the output last
    norm: str  # the last one of the main path
    convolutions: tuple[str, ...]  # those of the main path
    pool: str  # what has the stride of the main path instead of a convolution, "" if nothing
    stride: Pair
    stride_place: str  # the name of the convolution that has the stride, "" if none has
    is_named: bool = True  # in the words of a mistake

    def path(self, name: str) -> str:
        return f"{self.prefix}.{name}".strip(".")

    @property
    def other_stride(self) -> str:
        """The name of the convolution that could have the stride."""
        return "conv2" if self.stride_place == "conv1" else "conv1"

    @property
    def words(self) -> str:
        return say(" in {block}", block=self.prefix) if self.prefix and self.is_named else ""


def list_blocks(program: Program, config: Config) -> list[BlockParts]:
    """The blocks of a model, in the order of execution."""
    found = []
    for prefix, block in config.named_blocks().items():
        path = f"{prefix}.".lstrip(".")
        count = 3 if isinstance(block, BottleneckConfig) else 2
        total, norm = f"{path}sum", f"{path}{block.last_layer}"
        inner = f"{path}relu {count}" if block.relu_before_attention else norm
        convolutions = tuple(f"{path}conv{number}" for number in range(1, count + 1))
        pool = f"{path}{block.antialias}_pool" if block.pools else ""
        strided = (name for name, step in block.main_stride.items() if step != (1, 1))
        stride_place = next(strided, "")
        main, short = program.steps[total].inputs
        gate = [name for name in program.steps if f"{name}.".startswith(f"{path}attention.")]
        x = _before_padding(program, program.steps[f"{path}conv1"].inputs[0])
        out = prefix or "output"
        whole = tuple(gate) if main in gate else ()
        found.append(
            BlockParts(
                prefix, x, main, short, total, out, inner, whole, norm, convolutions, pool,
                block.stride, stride_place,
            )
        )  # fmt: skip
    return found


def _before_padding(program: Program, name: str) -> str:
    step = program.steps[name]
    return step.inputs[0] if step.spec.kind == "pad" else name


UNCHANGED = StageSpec("relu", {}, {"activation": "identity"})
RELU = StageSpec("relu")


def redirect(program: Program, names: tuple[str, ...], old: str, new: str) -> dict[str, TracedStep]:
    """Steps that read another value."""
    return {
        name: replace(
            program.steps[name],
            inputs=tuple(new if x == old else x for x in program.steps[name].inputs),
        )
        for name in names
        if old in program.steps[name].inputs
    }

"""What `compare` found, as data and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from resattn.tracing.findings import Trace
from weights import Difference
from weights.checks import printable
from weights.compare import columns, plain_values
from weights.config import Config
from weights.language import in_english, join_texts, mark, say

# The names of facts about environments. What is said of them comes from the recordings.
FACT_NAMES = (
    *(mark("weights"), mark("inputs"), mark("origin of the inputs"), mark("dtype")),
    *(mark("framework"), mark("device"), mark("precision"), mark("threads"), mark("variables")),
    *(mark("machine"), mark("system"), mark("code")),
)
MOST_COLUMNS = 40  # of a value in the table of the environments; longer ones come below it


@dataclass(frozen=True)
class EnvironmentDifference:
    """One fact about the environments. what: a short name. values: one for each run."""

    what: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class PairwiseDifference:
    """Two runs that should be equal. equal: how many of `count` stages are, to the last bit. worst:
    the greatest difference, as far as it was recorded.
    """

    names: tuple[str, str]
    equal: int
    count: int
    worst: Difference

    def __str__(self) -> str:
        names = join_texts(self.names, say(" and "))
        head = say(
            "{names}: {equal} of {count} tensors are equal to the last bit",
            names=names,
            equal=self.equal,
            count=self.count,
        )
        if not self.worst.absolute:
            return head
        return say(
            "{head}; the greatest relative difference is {apart:.1e}, {quantity} {tensor}",
            head=head,
            apart=self.worst.relative,
            quantity=say(self.worst.quantity),
            tensor=self.worst.tensor,
        )


@dataclass(frozen=True)
class Parting:
    """The first step of training after which a run is farther from the oracle than rounding
    explains. tensor: the worst one. apart: its relative difference. limit: for that.
    """

    name: str
    step: int
    tensor: str
    apart: float
    limit: float

    def __str__(self) -> str:
        return say(
            "{name}: training parts from the oracle at step {step}: {tensor} "
            "differs by {apart:.1e}, and rounding explains {limit:.0e}",
            name=self.name,
            step=self.step,
            tensor=self.tensor,
            apart=self.apart,
            limit=self.limit,
        )


@dataclass(frozen=True)
class Comparison:
    """The outcome. `print(comparison)` shows it.

    names: of the runs. config: of the first of them. apart: what differs and makes the outputs
    differ: configs, weights, inputs. environment: all that was recorded of it. trace: each run
    against the oracle. pairs: runs against each other. doubts: where runs do not fit what they say
    of themselves, and the weights that could tell are not known. partings: in training. losses: of
    each run, before each step.
    """

    names: tuple[str, ...]
    config: Config
    title: str
    apart: tuple[str, ...]
    environment: tuple[EnvironmentDifference, ...]
    trace: Trace
    pairs: tuple[PairwiseDifference, ...]
    doubts: tuple[str, ...]
    partings: tuple[Parting, ...]
    losses: Mapping[str, tuple[float, ...]]

    @property
    def ok(self) -> bool:
        """Whether all runs are of the same weights and inputs and compute what they should."""
        return not self.apart and self.trace.ok and not self.doubts and not self.partings

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "title": in_english(self.title),
            "ok": self.ok,
            "names": list(self.names),
            "apart": in_english(list(self.apart)),
            "environment": {
                in_english(each.what): in_english(list(each.values)) for each in self.environment
            },
            "trace": self.trace.to_dict(),
            "pairs": [
                {
                    "names": list(each.names),
                    "equal": each.equal,
                    "count": each.count,
                    "worst": plain_values(each.worst),
                }
                for each in self.pairs
            ],
            "doubts": in_english(list(self.doubts)),
            "partings": [vars(each) for each in self.partings],
            "losses": {name: list(each) for name, each in self.losses.items()},
        }

    def __str__(self) -> str:
        return "\n".join(line for line, _ in self.lines())

    def __repr__(self) -> str:
        return f"<Comparison of {' and '.join(self.names)}: {'ok' if self.ok else 'different'}>"

    def lines(self, every: bool = False, width: int | None = None) -> list[tuple[str, str]]:
        """The report as text: each line with its kind, "bad", "good" or "".

        every: whether to show all stages and all of the environment. width: of the tables. What
        does not print is shown as its escape, since texts come from files.
        """
        lines = self._list_lines(every, width)
        return [
            (printable(line).replace("\n", r"\n").replace("\t", r"\t"), kind)
            for line, kind in lines
        ]

    def _list_lines(self, every: bool, width: int | None) -> list[tuple[str, str]]:
        traced = self.trace.lines(every, width)[1:]  # without its title
        return [
            (f"{', '.join(self.names)}: {self.title}", ""),
            *((line, "bad") for line in self.apart),
            *((line, "") for line in self.list_environment(every)),
            *traced,
            *((line, "") for line in self._list_losses()),
            *((str(each), "bad") for each in self.partings),
            *((str(each), "") for each in self.pairs),
            *((line, "bad") for line in self.doubts),
            self._verdict(),
        ]

    def list_environment(self, every: bool) -> Iterator[str]:
        """What differs in the environments, and the names of what does not. every: all values."""
        shown = [each for each in self.environment if each.differs or every]
        if shown:
            yield ""
            yield (
                say("the environments:") if every else say("what differs between the environments:")
            )
            short = [each for each in shown if max(map(len, each.values)) <= MOST_COLUMNS]
            yield from columns(
                [("", *self.names), *((say(each.what), *each.values) for each in short)]
            )
            for each in shown:
                if each not in short:
                    yield f"  {say(each.what)}"
                    pairs = zip(self.names, each.values, strict=True)
                    yield from columns([("", f"{name}:", value) for name, value in pairs])
        same = [say(each.what) for each in self.environment if not each.differs]
        if same and not every:
            yield say("the same: {names}", names=", ".join(same))

    def _list_losses(self) -> Iterator[str]:
        steps = max(map(len, self.losses.values()), default=0)
        if steps:
            yield ""
            yield say("steps of training: the loss before each")
            heads = ("", *(say("step {step}", step=step + 1) for step in range(steps)))
            rows = [
                (name, *(f"{loss:.7g}" for loss in losses), *[""] * (steps - len(losses)))
                for name, losses in self.losses.items()
            ]
            yield from columns([heads, *rows])

    def _verdict(self) -> tuple[str, str]:
        if self.ok:
            return say(
                "The same: {names} compute what the weights say.", names=", ".join(self.names)
            ), "good"
        if self.apart:
            return say("FAILED: the runs are not of the same model and inputs."), "bad"
        firsts = {
            each.name: say("in training, step {step}", step=each.step) for each in self.partings
        }
        for finding in reversed(self.trace.findings):
            firsts[finding.model] = say("first at {stage}", stage=finding.stage)
        if not firsts:
            return say("FAILED: the runs do not fit what they say of themselves."), "bad"
        wrong = ", ".join(f"{name} ({where})" for name, where in firsts.items())
        return say(
            "FAILED: {models} computed something else than the weights say.", models=wrong
        ), "bad"

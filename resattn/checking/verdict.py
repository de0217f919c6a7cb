"""What a verdict on a device holds: every measurement, with where and how it was made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from weights.frameworks import FRAMEWORKS

LAID_OUT_LAST = "channels_last"
BACKEND_LABELS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


@dataclass(frozen=True)
class Participant:
    """A framework, for Keras on one of its backends. It computes in a process of its own."""

    framework: str
    backend: str = ""

    @property
    def label(self) -> str:
        on = f" on {BACKEND_LABELS[self.backend]}" if self.backend else ""
        return f"{FRAMEWORKS[self.framework].label}{on}"

    @property
    def packages(self) -> tuple[str, ...]:
        """What must be installed."""
        own = {"torch": ("torch",), "jax": ("jax", "flax"), "tf": ("keras",)}[self.framework]
        return (*own, self.backend) if self.backend else own


PARTICIPANTS = (
    Participant("torch"),
    Participant("jax"),
    *(Participant("tf", backend) for backend in BACKEND_LABELS),
)


@dataclass(frozen=True)
class Assignment:
    """What to measure. case: of `resattn.checking.verdict_cases`. form: of `FORMATS`.

    device: "cpu" or "cuda". way: "eager", "compiled" or "channels_last".
    """

    case: str
    form: str
    device: str
    way: str

    def __str__(self) -> str:
        return f"{self.case}, {self.form} on {self.device}, {self.way}"


@dataclass(frozen=True)
class DeviceMeasurement:
    """How far a participant is from the oracle in an assignment, and whether it repeats itself.

    distance: the greatest root mean square error of a tensor, over its greatest magnitude.
    times: the greatest in units of what rounding explains. where: the quantity and the tensor
    nearest to the limit, or farthest over it. over: how many of the comparisons are over it.
    changed: the tensors whose bits are others in a second run. refused: why the bits cannot be the
    same, as the framework says it; then spread says how far apart ten runs were, in units of what
    rounding explains. failed: why nothing could be measured.
    """

    participant: str
    case: str
    form: str
    device: str
    way: str
    distance: float = 0.0
    times: float = 0.0
    where: str = ""
    over: int = 0
    comparisons: int = 0
    changed: tuple[str, ...] = ()
    refused: str = ""
    spread: float = 0.0
    failed: str = ""

    @property
    def assignment(self) -> Assignment:
        return Assignment(self.case, self.form, self.device, self.way)

    @property
    def ok(self) -> bool:
        return not (self.over or self.changed or self.failed) and self.comparisons > 0

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> DeviceMeasurement:
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in plain.items() if name in known}
        for name in ("distance", "times", "spread"):
            values[name] = float(values[name])  # infinities are strings in JSON
        return cls(**{**values, "changed": tuple(values["changed"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain = {**asdict(self), "changed": list(self.changed), "ok": self.ok}
        return {
            name: str(value)
            if isinstance(value, float) and not abs(value) < float("inf")
            else value
            for name, value in plain.items()
        }


@dataclass(frozen=True)
class Verdict:
    """device: "cpu" or "cuda". setting: what to know of the machine, by a short name.

    versions: of each participant. seconds: that each took. missing: why others did not take part.
    """

    device: str
    setting: dict[str, str]
    versions: dict[str, str]
    seconds: dict[str, float]
    missing: dict[str, str]
    measurements: tuple[DeviceMeasurement, ...]

    @property
    def ok(self) -> bool:
        """True when something was measured on the device and nothing disagrees."""
        return bool(self.select(device=self.device)) and all(each.ok for each in self.measurements)

    def select(self, **where: str) -> list[DeviceMeasurement]:
        """The measurements whose fields equal `where`."""
        return [
            each
            for each in self.measurements
            if all(getattr(each, name) == value for name, value in where.items())
        ]

    def list_values(self, name: str, **where: str) -> list[str]:
        """The values of a field, in the order of the measurements."""
        return list(dict.fromkeys(getattr(each, name) for each in self.select(**where)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "device": self.device,
            "ok": self.ok,
            "setting": self.setting,
            "versions": self.versions,
            "seconds": self.seconds,
            "missing": self.missing,
            "measurements": [each.to_dict() for each in self.measurements],
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Verdict:
        held = {field.name: plain[field.name] for field in fields(cls)}
        held["measurements"] = tuple(map(DeviceMeasurement.from_dict, plain["measurements"]))
        return cls(**held)


def count_sentence(measurements: Iterable[DeviceMeasurement]) -> str:
    """How many measurements repeat themselves bit for bit, in a sentence."""
    found = list(measurements)
    compared = [each for each in found if not each.refused and not each.failed]
    same = sum(not each.changed for each in compared)
    refused = len([each for each in found if each.refused])
    words = f"{same} of {len(compared)} are equal bit for bit in two runs"
    return f"{words}; in {refused} an operation refused" if refused else words

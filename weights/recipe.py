"""How a model is trained: optimizer, schedule of the rate, loss, and the order of the data. Frozen,
validated, JSON.

Every argument means what it means in PyTorch, and has PyTorch's default; each docstring holds the
formula. In them w is a parameter, g the gradient of the loss with respect to it, t = 1, 2, ... the
number of the step being taken, and rate the learning rate times the schedule's factor at t - 1, the
number of steps taken before.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from weights.checks import at_least, is_integer, is_number, positive, truth
from weights.config import _Config


def _from_zero(name: str, value: object, below: float = math.inf) -> float:
    """A number of at least zero and under `below`."""
    if not is_number(value) or not 0 <= value < below:  # type: ignore[operator]
        limit = "" if below == math.inf else f" and under {below:g}"
        raise ValueError(f"{name}: expected a number of at least 0{limit}, got {value!r}")
    return float(value)  # type: ignore[arg-type]


class _Named(_Config):
    """A part of a recipe; JSON holds it with the name of its class."""

    def to_named(self) -> dict[str, Any]:
        return {"name": type(self).__name__, **self.to_dict()}


# Optimizers


@dataclass(frozen=True)
class SGD(_Named):
    """Stochastic gradient descent with momentum (Sutskever et al. 2013, as PyTorch writes it).

        g = g + weight_decay w                  coupled: decay goes through the momentum
        momentum_buffer = momentum momentum_buffer + g                              starts with 0 g
        = g + momentum momentum_buffer if nesterov else momentum_buffer w = w - rate g
        the momentum holds gradients, not steps: a new rate applies to all of it

    Raises ValueError, naming the argument; Nesterov's form needs a momentum.
    """

    learning_rate: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        truth("nesterov", self.nesterov)
        self._set(
            learning_rate=positive("learning_rate", self.learning_rate),
            momentum=_from_zero("momentum", self.momentum, 1),
            weight_decay=_from_zero("weight_decay", self.weight_decay),
        )
        if self.nesterov and not self.momentum:
            raise ValueError(
                "nesterov: expected a momentum over 0 with it, as in SGD(0.1, momentum=0.9, "
                "nesterov=True)"
            )

    @property
    def moments(self) -> tuple[str, ...]:
        """What it keeps for each parameter, by PyTorch's names."""
        return ("momentum_buffer",) if self.momentum else ()


@dataclass(frozen=True)
class Adam(_Named):
    """Adam (Kingma & Ba 2015, algorithm 1), its weight decay coupled: part of the gradient.

        g = g + weight_decay w exp_avg = betas[0] exp_avg + (1 - betas[0]) g
        starts with 0 exp_avg_sq = betas[1] exp_avg_sq + (1 - betas[1]) g^2
        starts with 0 m = exp_avg / (1 - betas[0]^t), v = exp_avg_sq / (1 - betas[1]^t)
        bias correction w = w - rate m / (sqrt(v) + eps)        eps outside of the root and behind
        the bias correction

    Raises ValueError, naming the argument.
    """

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise ValueError(f"betas: expected two numbers, as in (0.9, 0.999), got {self.betas!r}")
        self._set(
            learning_rate=positive("learning_rate", self.learning_rate),
            betas=tuple(_from_zero("betas", beta, 1) for beta in self.betas),
            eps=_from_zero("eps", self.eps),
            weight_decay=_from_zero("weight_decay", self.weight_decay),
        )


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2, the decay times the
    rate as in PyTorch).

        w = w - rate weight_decay w             beside the step of Adam, whose moments see no decay

    Everything else is as in `Adam`.
    """

    weight_decay: float = 1e-2


Optimizer = SGD | Adam | AdamW


# Schedules


@dataclass(frozen=True)
class Constant(_Named):
    """The same rate at every step."""

    def at(self, step: int) -> float:
        """What the learning rate is multiplied by after `step` steps."""
        return 1.0


@dataclass(frozen=True)
class Cosine(_Named):
    """Half a cosine from 1 at step 0 down to `final` at step `steps`, and `final` behind it
    (Loshchilov & Hutter 2017, equation 5, without restarts).

        final + (1 - final) (1 + cos(pi step / steps)) / 2

    Raises ValueError, naming the argument.
    """

    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        self._set(steps=at_least("steps", self.steps, 1), final=_from_zero("final", self.final))

    def at(self, step: int) -> float:
        """What the learning rate is multiplied by after `step` steps."""
        return (
            self.final
            + (1 - self.final) * (1 + math.cos(math.pi * min(step, self.steps) / self.steps)) / 2
        )


@dataclass(frozen=True)
class Step(_Named):
    """Multiplied by `factor` at each milestone: the step with that number, counted from 0, is the
    first with the new rate.

    Raises ValueError, naming the argument.
    """

    milestones: tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        given = self.milestones
        if not isinstance(given, (tuple, list)) or not all(
            is_integer(each) and each > 0 for each in given
        ):
            raise ValueError(
                f"milestones: expected positive integers, as in (30, 60), got {given!r}"
            )
        if not given:
            raise ValueError(
                "milestones: expected one or more, got none; Constant() is the schedule without any"
            )
        if any(later <= sooner for sooner, later in pairwise(given)):
            raise ValueError(
                f"milestones: expected each to be later than the one before, got {given!r}"
            )
        self._set(milestones=tuple(map(int, given)), factor=positive("factor", self.factor))

    def at(self, step: int) -> float:
        """What the learning rate is multiplied by after `step` steps."""
        return self.factor ** sum(step >= milestone for milestone in self.milestones)


Schedule = Constant | Cosine | Step

OPTIMIZERS: dict[str, type[Optimizer]] = {kind.__name__: kind for kind in (SGD, Adam, AdamW)}
SCHEDULES: dict[str, type[Schedule]] = {kind.__name__: kind for kind in (Constant, Cosine, Step)}


@dataclass(frozen=True)
class Recipe(_Config):
    """Everything that decides a training run besides the model and the data.

    optimizer: SGD, Adam or AdamW; it updates every trainable parameter, weight decay included.
    schedule: Constant, Cosine or Step. label_smoothing: the part of the target that is spread over
    all classes (Szegedy et al. 2016, section 7).
    batch_size: images a step. seed: of the order of the data, see `batch`.
    Raises ValueError, naming the argument, what was expected and what came.
    """

    optimizer: Optimizer
    schedule: Schedule = field(default=Constant())
    label_smoothing: float = 0.0
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kinds in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if not isinstance(getattr(self, name), tuple(kinds.values())):
                raise ValueError(
                    f"{name}: expected one of {', '.join(kinds)}, got {getattr(self, name)!r}"
                )
        seed = at_least("seed", self.seed, 0)
        if seed >= 2**32:
            raise ValueError(f"seed: expected an integer under 2^32, got {seed}")
        smoothing = _from_zero("label_smoothing", self.label_smoothing, 1)
        self._set(
            batch_size=at_least("batch_size", self.batch_size, 1),
            seed=seed,
            label_smoothing=smoothing,
        )

    def rate(self, step: int) -> float:
        """The learning rate of the update that follows `step` updates."""
        return self.optimizer.learning_rate * self.schedule.at(step)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            **values,
            "optimizer": self.optimizer.to_named(),
            "schedule": self.schedule.to_named(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The recipe that `to_dict` wrote. Raises ValueError."""
        named: dict[str, Mapping[str, type[Any]]] = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
        made = {
            name: _part(name, values[name], kinds)
            for name, kinds in named.items()
            if name in values
        }
        return super().from_dict({**values, **made})

    def to_json(self) -> str:
        return json.dumps(self.to_dict())


def _part(role: str, value: Any, kinds: Mapping[str, type[Any]]) -> Any:
    """An optimizer or a schedule from what `to_named` made of it."""
    if isinstance(value, tuple(kinds.values())):
        return value
    name = value.get("name") if isinstance(value, Mapping) else None
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(
            f'{role}: expected an object whose "name" is one of {", ".join(kinds)}, got {value!r}'
        )
    return kinds[name].from_dict({key: item for key, item in value.items() if key != "name"})


# The order of the data


def batch(recipe: Recipe, examples: int, step: int) -> np.ndarray:
    """Which of `examples` images the step uses that follows `step` others: (batch_size,) indices.

    Each epoch is a permutation of its own, drawn from (seed, number of the epoch) alone, so that
    the number of steps is the position in the data. What remains of an epoch is left out.
    RandomState, since NumPy promises that its numbers never change. Raises ValueError when there
    are fewer images than one batch.
    """
    each = steps_an_epoch(recipe, examples)
    epoch, position = divmod(step, each)
    start = position * recipe.batch_size
    return _permutation(recipe.seed, epoch, examples)[start : start + recipe.batch_size].copy()


def steps_an_epoch(recipe: Recipe, examples: int) -> int:
    """How many batches there are in an epoch. Raises ValueError when there is none."""
    if examples < recipe.batch_size:
        raise ValueError(
            f"batch_size: expected at most the number of images, {examples}, got "
            f"{recipe.batch_size}; there would be no whole batch in an epoch"
        )
    return examples // recipe.batch_size


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, examples: int) -> np.ndarray:
    return np.random.RandomState([seed, epoch]).permutation(examples)

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
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np

from weights.checks import (
    MOST,
    at_least,
    at_most,
    below,
    from_zero,
    is_integer,
    positive,
    quote,
    truth,
)
from weights.errors import ArgumentError
from weights.fields import Checked, Plain

_under_one = partial(from_zero, below=1)


def _betas(name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ArgumentError(f"{name}: expected two numbers, as in (0.9, 0.999), got {quote(value)}")
    return _under_one(name, value[0]), _under_one(name, value[1])


def _milestones(name: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or not all(is_integer(v) and v > 0 for v in value):
        raise ArgumentError(
            f"{name}: expected positive integers, as in (30, 60), got {quote(value)}"
        )
    if not value:
        raise ArgumentError(
            f"{name}: expected one or more, got none; Constant() is the schedule without any"
        )
    at_most(name, len(value), 1000, "milestones")
    below(name, max(value))
    if any(later <= sooner for sooner, later in pairwise(value)):
        raise ArgumentError(
            f"{name}: expected each to be later than the one before, got {quote(value)}"
        )
    return tuple(map(int, value))


def _seed(name: str, value: object) -> int:
    seed = at_least(name, value, 0, limit=2**63)
    if seed >= 2**32:
        raise ArgumentError(f"{name}: expected an integer under 2^32, got {quote(seed)}")
    return seed


class _Named(Plain):
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

    Raises ArgumentError, naming the argument; Nesterov's form needs a momentum.
    """

    learning_rate: Checked[float, float] = Checked(positive, 1e-3)
    momentum: Checked[float, float] = Checked(_under_one, 0.0)
    nesterov: Checked[bool, bool] = Checked(truth, False)
    weight_decay: Checked[float, float] = Checked(from_zero, 0.0)

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ArgumentError(
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

    Raises ArgumentError, naming the argument.
    """

    moments: ClassVar[tuple[str, ...]] = ("exp_avg", "exp_avg_sq")

    learning_rate: Checked[float, float] = Checked(positive, 1e-3)
    betas: Checked[tuple[float, float], tuple[float, float]] = Checked(_betas, (0.9, 0.999))
    eps: Checked[float, float] = Checked(from_zero, 1e-8)
    weight_decay: Checked[float, float] = Checked(from_zero, 0.0)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2, the decay times the
    rate as in PyTorch).

        w = w - rate weight_decay w             beside the step of Adam, whose moments see no decay

    Everything else is as in `Adam`.
    """

    weight_decay: Checked[float, float] = Checked(from_zero, 1e-2)


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

    Raises ArgumentError, naming the argument.
    """

    steps: Checked[int, int] = Checked(partial(at_least, least=1))
    final: Checked[float, float] = Checked(from_zero, 0.0)

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

    Raises ArgumentError, naming the argument.
    """

    milestones: Checked[tuple[int, ...], tuple[int, ...]] = Checked(_milestones)
    factor: Checked[float, float] = Checked(positive, 0.1)

    def __post_init__(self) -> None:
        if len(self.milestones) * math.log(self.factor) > math.log(MOST):
            raise ArgumentError(
                f"factor: {self.factor:g} at each of {len(self.milestones)} milestones makes a "
                "rate that float32 cannot hold; use a smaller factor"
            )

    def at(self, step: int) -> float:
        """What the learning rate is multiplied by after `step` steps."""
        return self.factor ** sum(step >= milestone for milestone in self.milestones)


Schedule = Constant | Cosine | Step

OPTIMIZERS: dict[str, type[Optimizer]] = {kind.__name__: kind for kind in (SGD, Adam, AdamW)}
SCHEDULES: dict[str, type[Schedule]] = {kind.__name__: kind for kind in (Constant, Cosine, Step)}


@dataclass(frozen=True)
class Recipe(Plain):
    """Everything that decides a training run besides the model and the data.

    optimizer: SGD, Adam or AdamW; it updates every trainable parameter, weight decay included.
    schedule: Constant, Cosine or Step. label_smoothing: the part of the target that is spread over
    all classes (Szegedy et al. 2016, section 7).
    batch_size: images a step. seed: of the order of the data, see `batch`.
    Raises ArgumentError, naming the argument, what was expected and what came.
    """

    optimizer: Optimizer
    schedule: Schedule = field(default=Constant())
    label_smoothing: Checked[float, float] = Checked(_under_one, 0.0)
    batch_size: Checked[int, int] = Checked(partial(at_least, least=1), 64)
    seed: Checked[int, int] = Checked(_seed, 0)

    def __post_init__(self) -> None:
        for name, kinds in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if not isinstance(getattr(self, name), tuple(kinds.values())):
                raise ArgumentError(
                    f"{name}: expected one of {', '.join(kinds)}, got {quote(getattr(self, name))}"
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
        """The recipe that `to_dict` wrote. Raises ArgumentError."""
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
        raise ArgumentError(
            f'{role}: expected an object whose "name" is one of {", ".join(kinds)}, got '
            f"{quote(value)}"
        )
    return kinds[name].from_dict({key: item for key, item in value.items() if key != "name"})


# The order of the data


def batch(recipe: Recipe, examples: int, step: int) -> np.ndarray:
    """Which of `examples` images the step uses that follows `step` others: (batch_size,) indices.

    Each epoch is a permutation of its own, drawn from (seed, number of the epoch) alone, so that
    the number of steps is the position in the data. What remains of an epoch is left out.
    RandomState, since NumPy promises that its numbers never change. Raises ArgumentError when there
    are fewer images than one batch.
    """
    each = steps_an_epoch(recipe, examples)
    epoch, position = divmod(step, each)
    start = position * recipe.batch_size
    return _permutation(recipe.seed, epoch, examples)[start : start + recipe.batch_size].copy()


def steps_an_epoch(recipe: Recipe, examples: int) -> int:
    """How many batches there are in an epoch. Raises ArgumentError when there is none."""
    if examples < recipe.batch_size:
        raise ArgumentError(
            f"batch_size: expected at most the number of images, {examples}, got "
            f"{recipe.batch_size}; there would be no whole batch in an epoch"
        )
    return examples // recipe.batch_size


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, examples: int) -> np.ndarray:
    return np.random.RandomState([seed, epoch]).permutation(examples)

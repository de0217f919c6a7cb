"""Some steps of training, recorded and compared with the oracle's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from resattn.checking.rounding import FORMATS
from resattn.oracle.kinks import Kinks
from resattn.oracle.node import Array, disturbed
from resattn.oracle.training import ReferenceTrainer
from resattn.recording.run import LOSS, RecordedTensor, TrainingSteps
from resattn.tracing.comparison import Target
from resattn.tracing.limits import RUNS, training_limit
from resattn.tracing.sampling import Sample, is_small
from resattn.training.trainer import Trainer
from weights.config import Config, NetworkConfig
from weights.live import LiveModel
from weights.recipe import Recipe, batch


def draw_labels(config: Config, count: int, seed: int) -> Array:
    """Random labels for images that have none, (count,)."""
    classes = config.classes if isinstance(config, NetworkConfig) else config.out_channels
    return np.random.RandomState([seed, 3]).randint(0, classes, count)


def record_training(
    model: Any,
    x: Array,
    target: Target,
    recipe: Recipe,
    steps: int,
    full: bool,
    progress: Callable[[str], None],
) -> TrainingSteps:
    """Trains a model of ours on images for some steps; afterwards it has its weights of before.

    target: what the model should be, which the oracle trains.
    Raises what `Trainer` raises.
    """
    live = LiveModel.of(model)
    before = live.export()
    labels = draw_labels(target.config, len(x), target.seed)
    trainer = Trainer(model, recipe, len(x))
    losses, snapshots = [], []
    try:
        for step in range(steps):
            progress(f"training, step {step + 1} of {steps}")
            losses.append(float(trainer.train(x, labels, 1)[0]))
            snapshots.append(live.export())
    finally:
        live.load(before)
    stacks = {name: np.stack([each[name] for each in snapshots]) for name in before}
    oracle = _Oracle(target, recipe)
    apart: dict[str, list[float]] = {LOSS: [], **{name: [] for name in before}}
    limits: dict[str, list[float]] = {name: [] for name in apart}
    for step in range(steps):
        progress(f"training, step {step + 1} of {steps}, oracle")
        chosen = batch(recipe, len(x), step)
        right, spread, free = oracle.advance(x[chosen], labels[chosen])
        made = {LOSS: np.array([losses[step]]), **snapshots[step]}
        for name, array in right.items():
            apart[name].append(oracle.measure(name, made[name], array))
            limit = training_limit(target.dtype, spread[name])
            limits[name].append(np.inf if name in free else limit)
    held = {name: _sample(name, stack, full) for name, stack in stacks.items()}
    return TrainingSteps(
        recipe, labels, np.array(losses), held, _freeze(apart), _freeze(limits)
    )  # fmt: skip


def _freeze(numbers: Mapping[str, list[float]]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(each) for name, each in numbers.items()}


def _sample(name: str, stack: Array, full: bool) -> RecordedTensor:
    return stack if full or is_small(stack.shape) else Sample.of(stack, name)


class _Oracle:
    """The oracle's training, and how far rounding can move it: the same steps with errors."""

    def __init__(self, target: Target, recipe: Recipe):
        self.exact, *self.moved = (
            ReferenceTrainer(target.config, target.arrays, recipe) for _ in range(1 + RUNS)
        )
        form = FORMATS[target.dtype]
        self.noise = [form.noise(np.random.default_rng([7, number])) for number in range(RUNS)]

    def advance(
        self, images: Array, labels: Array
    ) -> tuple[dict[str, Array], dict[str, float], frozenset[str]]:
        """One step: what it gives, how far rounding moves each of that, relative to its greatest
        magnitude, and the parameters without influence on the loss.
        """
        kinks = Kinks()
        right = self._step(self.exact, images, labels, kinks)
        spread = dict.fromkeys(right, 0.0)
        for number, (trainer, noise) in enumerate(zip(self.moved, self.noise, strict=True)):
            coin = np.random.default_rng([8, trainer.step])
            own = Kinks(kinks.distances, coin, inverted=number == 1, unit=noise.unit)
            with disturbed(noise), np.errstate(all="ignore"):
                found = self._step(trainer, images, labels, own)
            for name, array in found.items():
                spread[name] = max(spread[name], self.measure(name, array, right[name]))
        return right, spread, self.exact.free

    def measure(self, name: str, actual: Array, right: Array) -> float:
        """The greatest difference relative to the greatest magnitude, of a loss to that of the
        logits.
        """
        scale = float(np.abs(right).max(initial=0))
        scale = max(scale, self.exact.magnitude) if name == LOSS else scale
        return float(np.abs(actual.astype(np.float64) - right).max(initial=0)) / (scale or 1.0)

    def _step(
        self, trainer: ReferenceTrainer, images: Array, labels: Array, kinks: Kinks
    ) -> dict[str, Array]:
        loss = trainer.train_step(images, labels, kinks)
        return {LOSS: np.array([loss]), **trainer.arrays}

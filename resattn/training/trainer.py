"""Training by a recipe, in any framework: what was done can be saved and go on in another."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from weights.checks import at_least
from weights.errors import ArgumentError
from weights.files.training import TrainingState
from weights.live import LiveModel, build, part
from weights.recipe import Recipe, batch, steps_an_epoch


class Trainer:
    """Trains a live model of any of the three packages by a recipe.

    model: a ResidualAttentionNetwork, or a block alone, which is trained with the averages of its
        channels over positions as logits.
    examples: images in the training data.
    Its optimizer is the framework's own, from `<package>.training`; `model` and `optimizer` are
    there to be used.
    Raises ModelError for another object, ArgumentError for a model with parameters that are frozen:
    no file would say which.
    """

    def __init__(self, model: Any, recipe: Recipe, examples: int):
        self.live = LiveModel.of(model)
        steps_an_epoch(recipe, examples)
        self.model = model
        self.recipe = recipe
        self.examples = examples
        frozen = self._module.frozen(model)
        if frozen:
            raise ArgumentError(
                "the model: expected every parameter to be trainable, got "
                f"{len(frozen)} that are frozen ({frozen[0]}); a training state does not say which. "
                f"Train such a model with {self.live.framework.package}.training"
            )
        self.optimizer = self._module.optimizer(model, recipe)

    @property
    def _module(self) -> ModuleType:
        return part(self.live.name, "training")

    @property
    def step(self) -> int:
        """Updates made so far: also the position in the schedule and in the order of the data."""
        return int(self._module.steps_taken(self.optimizer))

    def train(self, images: np.ndarray, labels: np.ndarray, steps: int) -> np.ndarray:
        """Makes `steps` updates on the batches whose turn it is.

        Returns the loss of each, (steps,), before its update.

        images: (examples, channels, height, width), all of the training data, the same every time.
        labels: (examples,) integers.
        The model is left in the mode it was in.
        Raises ArgumentError for data that do not fit, and for float64 parameters where the
        framework would not compute in it.
        """
        if len(images) != self.examples or len(labels) != self.examples:
            raise ArgumentError(
                f"the training data: expected the {self.examples} images that this run began with, "
                f"and as many labels, got {len(images)} and {len(labels)}"
            )
        self._check_dtype(images)
        losses = np.empty(at_least("steps", steps, 0))
        first = self.step
        for number in range(len(losses)):
            chosen = batch(self.recipe, self.examples, first + number)
            losses[number] = self._module.train_step(
                self.model, self.optimizer, self.recipe, images[chosen], labels[chosen]
            )
        return losses

    def _check_dtype(self, images: np.ndarray) -> None:
        module = self.live.adapter
        name, held = next(iter(self.live.dtypes().items()))
        if held == "float64" and not module.holds_float64():
            raise ArgumentError(f"cannot train in float64: {module.FLOAT64_HELP}")
        if images.dtype.name != held:
            raise ArgumentError(
                f"images: expected {held}, the dtype of the model ({name}), got {images.dtype.name}"
            )

    def state(self) -> TrainingState:
        """A copy of everything that decides how this run goes on."""
        return TrainingState(
            self.model.config,
            self.recipe,
            self.live.export(),
            self.live.moments(self.optimizer),
            self.step,
            self.examples,
        )


def resume(state: TrainingState, framework: str, device: str | None = None) -> Trainer:
    """A run that goes on from a state, in any framework: "torch", "jax" or "tf".

    device: "cpu" or "cuda"; by default where the framework puts new models.
    Raises MissingFramework, and WeightsError for float64 where the framework is not set up for it.
    """
    model = build(state.config, state.arrays, framework, device)
    trainer = Trainer(model, state.recipe, state.examples)
    trainer.live.restore(trainer.optimizer, state.step, state.moments)
    return trainer

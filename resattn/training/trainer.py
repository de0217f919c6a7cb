"""Training by a recipe in any framework. A saved run can go on in another one."""

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

    model: a ResidualAttentionNetwork, or a block alone; the logits of a block are the averages of
        its channels over all positions.
    examples: the number of images in the training data.
    The optimizer is the framework's own, from `<package>.training`. You may use `model` and
    `optimizer` directly.
    Raises ModelError for another object, and ArgumentError for a model with frozen parameters,
    because a training state does not say which are frozen.
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
                f"{len(frozen)} that are frozen ({frozen[0]}); a training state does not say "
                f"which. Train such a model with {self.live.framework.package}.training"
            )
        self.optimizer = self._module.optimizer(model, recipe)

    @property
    def _module(self) -> ModuleType:
        return part(self.live.name, "training")

    @property
    def step(self) -> int:
        """The number of updates, which is also the position in the schedule and in the data."""
        return int(self._module.steps_taken(self.optimizer))

    def train(self, images: np.ndarray, labels: np.ndarray, steps: int) -> np.ndarray:
        """Makes `steps` updates on the next batches. Returns the losses before each, (steps,).

        images: (examples, channels, height, width), all of the training data, the same in each
            call.
        labels: (examples,) integers.
        The mode of the model does not change.
        Raises ArgumentError for data that do not fit, and for float64 parameters if the framework
        would not compute in float64.
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
        """A copy of everything that is needed to continue this run."""
        return TrainingState(
            self.model.config,
            self.recipe,
            self.live.export(),
            self.live.moments(self.optimizer),
            self.step,
            self.examples,
        )


def resume(state: TrainingState, framework: str, device: str | None = None) -> Trainer:
    """Continues a run from a state.

    framework: "torch", "jax" or "tf", whichever the run was in before. device: "cpu" or "cuda"; by
    default, the one on which the framework puts new models.
    Raises MissingFramework, and WeightsError for float64 if the framework is not set up for it.
    """
    model = build(state.config, state.arrays, framework, device)
    trainer = Trainer(model, state.recipe, state.examples)
    trainer.live.restore(trainer.optimizer, state.step, state.moments)
    return trainer

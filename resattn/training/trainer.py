"""Training by a recipe in any framework. A saved run can go on in another one."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any, Self

import numpy as np

from weights.checks import at_least
from weights.errors import ArgumentError
from weights.files.training import TrainingState
from weights.frameworks import framework_key
from weights.labelled import check_labelled
from weights.live import LiveModel, adapter, build, part
from weights.recipe import Recipe, batch, steps_an_epoch
from weights.shards import Shards


class Trainer:
    """Trains a live model of any of the three packages by a recipe.

    model: a ResidualAttentionNetwork, or a block alone; the logits of a block are the averages of
        its channels over all positions.
    examples: the number of images in the training data.
    devices: on how many each batch is computed, in parts. PyTorch starts a process for each, unless
        this process was started by torchrun; in Keras the model must be made within
        `tf_impl.distributed.scope`, as `resume` does. See docs/distributed.md.
    statistics: "global" if batch norms normalise with mean and variance of the whole batch, as on
        one device; "local" if each device takes those of its part. See `weights.shards.Shards`.
    The optimizer is the framework's own, from `<package>.training`. You may use `model` and
    `optimizer` directly, between two calls of `train`. `close`, or the end of a `with` block, ends
    the processes.
    Raises ModelError for another object, and ArgumentError for a model with frozen parameters,
    because a training state does not say which are frozen, and for more devices than there are.
    """

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        examples: int,
        *,
        devices: int = 1,
        statistics: str = "global",
    ):
        self.shards = Shards(at_least("devices", devices, 1), statistics)
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
        self._parallel = self._distribute() if self.shards.count > 1 else None

    def _distribute(self) -> Any:
        module = part(self.live.name, "distributed")
        return module.DataParallel(self.model, self.optimizer, self.recipe, self.shards)

    def close(self) -> None:
        """Ends the processes that compute on several devices, if there are any. A later call of
        `train` starts new ones.
        """
        if self._parallel is not None:
            self._parallel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

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
        would not compute in float64; ProcessError if a process of another device ends, and the
        model is then as it was before the call.
        """
        if len(images) != self.examples or len(labels) != self.examples:
            raise ArgumentError(
                f"the training data: expected the {self.examples} images that this run began with, "
                f"and as many labels, got {len(images)} and {len(labels)}"
            )
        self._check_dtype(images)
        labels = check_labelled(images, labels, self.model.config)
        first = self.step
        every = range(first, first + at_least("steps", steps, 0))
        chosen = (batch(self.recipe, self.examples, step) for step in every)
        batches = ((images[each], labels[each]) for each in chosen)
        if self._parallel is not None:
            return np.array(self._parallel.train(batches))
        train_step = self._module.train_step
        return np.array(
            [train_step(self.model, self.optimizer, self.recipe, *each) for each in batches]
        )

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
            self.shards if self.shards.count > 1 else Shards(),
        )


def resume(
    state: TrainingState, framework: str, device: str | None = None, *, devices: int | None = None
) -> Trainer:
    """Continues a run from a state.

    framework: "torch", "jax" or "tf", whichever the run was in before. device: "cpu" or "cuda"; by
    default, the one on which the framework puts new models.
    devices: how many to compute on, as in `Trainer`: with global statistics any number, by default
    one; with local statistics the number that the run had.
    Raises MissingFramework, WeightsError for float64 if the framework is not set up for it, and
    ArgumentError for another number of devices than that of a run with local statistics.
    """
    framework = framework_key(framework)
    count = state.shards.count if devices is None else devices
    shards = Shards(at_least("devices", count, 1), state.shards.statistics)
    if shards.is_local and count != state.shards.count:
        raise ArgumentError(
            f"devices: expected {state.shards.count}, on which this run with local statistics "
            f"began, got {count}; on another number of devices it would be another run. Start a "
            "new one from its weights: Trainer(model, recipe, examples, devices=...)"
        )
    with scope_of(framework, shards, device):
        model = build(state.config, state.arrays, framework, device)
        trainer = Trainer(
            model,
            state.recipe,
            state.examples,
            devices=shards.count,
            statistics=shards.statistics,
        )
    trainer.live.restore(trainer.optimizer, state.step, state.moments)
    return trainer


def scope_of(
    framework: str, shards: Shards, device: str | None = None
) -> AbstractContextManager[Any]:
    """Within it, a model of a framework is made so that it can be trained on these devices.

    device: "cpu" or "cuda"; by default, where the framework puts new models.
    """
    if shards.count == 1:
        return nullcontext()
    if device is None:  # Flax and Keras take a GPU if there is one
        device = "cpu" if framework == "torch" else adapter(framework).devices()[-1]
    scope: AbstractContextManager[Any] = part(framework, "distributed").scope(shards, device)
    return scope

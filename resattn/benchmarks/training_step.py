"""How fast a training step is beside the one that users write: timm's network in PyTorch, native
networks in Flax and Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np

from resattn.benchmarks.other_models import make_native, make_timm
from resattn.benchmarks.rounds import time_rounds
from resattn.checking.backends import Backend
from resattn.checking.draws import random_arrays
from weights import BlockConfig, preset
from weights.config import Config
from weights.convert import Arrays
from weights.live import part
from weights.recipe import SGD, Recipe

RECIPE = Recipe(SGD(0.01, 0.9))


@dataclass(frozen=True)
class StepCase:
    """What is trained. shape: of a batch, channels first."""

    name: str
    config: Config
    shape: tuple[int, int, int, int]

    @property
    def classes(self) -> int:
        """The channels of a block take the place of classes."""
        if isinstance(self.config, BlockConfig):
            return self.config.out_channels
        return self.config.classes


STEP_CASES = (
    StepCase("se-resnet18", preset("se-resnet18"), (8, 3, 64, 64)),
    StepCase("block", BlockConfig(64, 64, conv_bias=False), (8, 64, 56, 56)),
)


@dataclass(frozen=True)
class StepTiming:
    """The milliseconds of each round, in the order of the rounds."""

    case: str
    framework: str
    ours_ms: tuple[float, ...]
    theirs_ms: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """Our median by theirs."""
        return median(self.ours_ms) / median(self.theirs_ms)


def time_training_steps(
    framework: str, cases: Sequence[StepCase] = STEP_CASES, rounds: int = 20
) -> list[StepTiming]:
    """One timing for each case: SGD with momentum, in float32, until the loss is a number.

    Ours is `make_train_step`. Theirs is a loop of PyTorch, `nnx.jit` of `nnx.value_and_grad` and
    an `nnx.Optimizer`, or `train_on_batch` of a compiled Keras model.
    """
    theirs = {"torch": _torch_step, "jax": _flax_step, "tf": _keras_step}[framework]
    training = part(framework, "training")
    found = []
    for case in cases:
        rng = np.random.default_rng(0)
        images = rng.normal(size=case.shape).astype("float32")
        labels = rng.integers(0, case.classes, case.shape[0])
        arrays = random_arrays(case.config, "float32")
        model = Backend(framework, "cpu").build(case.config, arrays)
        step = training.make_train_step(model, training.optimizer(model, RECIPE), RECIPE)
        to_native = part(framework, "bridge.native").to_native
        batch = to_native(model, images), to_native(model, labels)
        their_step = theirs(case, arrays, *batch)
        works = {"ours": _waiting(step, *batch), "theirs": their_step}
        times = time_rounds(works, rounds)
        ours_ms, theirs_ms = (tuple(1000 * each for each in times[name]) for name in works)
        found.append(StepTiming(case.name, framework, ours_ms, theirs_ms))
    return found


def _waiting(step: Callable[[Any, Any], Any], images: Any, labels: Any) -> Callable[[], object]:
    return lambda: float(step(images, labels))


def _torch_step(case: StepCase, arrays: Arrays, images: Any, labels: Any) -> Callable[[], object]:
    torch: Any = import_module("torch")
    model = make_timm(case.config, arrays, "cpu").train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)

    def step(images: Any, labels: Any) -> Any:
        y = model(images)
        y = y.mean((2, 3)) if y.ndim == 4 else y
        loss = torch.nn.functional.cross_entropy(y, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return _waiting(step, images, labels)


def _flax_step(case: StepCase, arrays: Arrays, images: Any, labels: Any) -> Callable[[], object]:
    nnx, optax = import_module("flax.nnx"), import_module("optax")
    model = make_native("jax", case.config, arrays, "cpu")
    model.train()
    optimizer = nnx.Optimizer(model, optax.sgd(0.01, 0.9), wrt=nnx.Param)

    def step(model: Any, optimizer: Any, images: Any, labels: Any) -> Any:
        def compute(model: Any) -> Any:
            y = model(images)
            y = y.mean((1, 2)) if y.ndim == 4 else y
            return optax.softmax_cross_entropy_with_integer_labels(y, labels).mean()

        loss, slopes = nnx.value_and_grad(compute)(model)
        optimizer.update(model, slopes)
        return loss

    compiled = nnx.jit(step)
    return _waiting(lambda *batch: compiled(model, optimizer, *batch), images, labels)


def _keras_step(case: StepCase, arrays: Arrays, images: Any, labels: Any) -> Callable[[], object]:
    keras: Any = import_module("keras")
    inputs = keras.Input(images.shape[1:])
    y = make_native("tf", case.config, arrays, "cpu")(inputs)
    y = keras.layers.GlobalAveragePooling2D()(y) if len(y.shape) == 4 else y
    model = keras.Model(inputs, y)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, 0.9), loss)
    return _waiting(model.train_on_batch, images, labels)

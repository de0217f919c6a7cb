"""What the tests of training share: a network, recipes, the digits, and two fixtures."""

from __future__ import annotations

import sys
from functools import cache

import numpy as np
import pytest

from resattn.checking.backends import Backend
from resattn.checking.draws import random_arrays
from resattn.training.digits import split
from resattn.training.trainer import Trainer
from weights import NetworkConfig
from weights.files.training import TrainingState, trainable
from weights.live import adapter, part
from weights.recipe import SGD, Adam, AdamW, Cosine, Recipe, Step

NETWORK = NetworkConfig(
    1, 10, (6,), (1,), strides=((2, 1),), stem_channels=4, attention_options={"reduction": 2}
)

RECIPES = {
    "plain": Recipe(SGD(0.1), batch_size=16),
    "momentum-step": Recipe(
        SGD(0.05, 0.9, weight_decay=1e-2), Step((3, 6), 0.3), batch_size=16, seed=3
    ),
    "nesterov-cosine": Recipe(SGD(0.1, 0.9, True, 5e-4), Cosine(100), 0.1, 16),
    "adam-cosine": Recipe(Adam(1e-2, (0.8, 0.99), 1e-3, 0.1), Cosine(6, 0.2), batch_size=16),
    "adamw-step": Recipe(AdamW(1e-2, weight_decay=0.1), Step((30, 60)), 0.05, 16, seed=1),
}


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = split()
    return data.training_images.astype(np.float64), data.training_labels


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch's threads wait for each other in steps of such small networks, for seconds on a busy
    machine.
    """
    if "torch" not in sys.modules:
        yield
        return
    torch = sys.modules["torch"]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def short(monkeypatch):
    """For tests of a few steps: Keras' step on TensorFlow is not compiled, because that takes as
    long as ten steps.
    """
    if "keras" in sys.modules and adapter("tf").BACKEND == "tensorflow":
        monkeypatch.setattr(
            part("tf", "training"), "compile_update", lambda update, variables: update
        )


def make_trainer(framework, recipe, config=NETWORK, dtype="float64") -> Trainer:
    """Call it within `precise`."""
    return Trainer(
        Backend(framework, "cpu").build(config, random_arrays(config, dtype)),
        recipe,
        len(digits()[0]),
    )


def measure_farthest(actual: TrainingState, expected: TrainingState) -> float:
    """The greatest relative difference of any array or moment."""
    pairs = [(actual.arrays[name], array) for name, array in expected.arrays.items()]
    pairs += [
        (actual.moments[moment][name], array)
        for moment, held in expected.moments.items()
        for name, array in held.items()
    ]
    return max(float(abs(first - second).max() / abs(second).max()) for first, second in pairs)


def make_state(
    recipe: Recipe = RECIPES["adamw-step"], step: int = 7, seed: int = 0, config=NETWORK
) -> TrainingState:
    rng = np.random.default_rng(seed)
    moments = {
        moment: {p.name: rng.uniform(0.1, 1, p.shape).astype("float32") for p in trainable(config)}
        for moment in recipe.optimizer.moments
    }
    return TrainingState(config, recipe, random_arrays(config, seed=seed), moments, step, 500)

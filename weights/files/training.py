"""Training that moves: the whole state of a run, in one file, and the runs that begin from it in
any framework.

A file is the model's own safetensors file with more in it: the moments under
`optimizer.<moment>.<parameter>`, and in the config's JSON one more key, "training", with the
recipe, the number of steps taken and the number of images. `weights.read` reads the model from it.
The number of steps is also the position in the schedule and in the order of the data.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from safetensors.numpy import save as safetensors_bytes

from weights.checks import at_least, is_integer
from weights.config import Config, config_from_json
from weights.convert import Arrays, WeightsError, faults, layout, reorder
from weights.files.store import METADATA, MOMENTS, TRAINING, read_safetensors, write_atomically
from weights.live import adapter, build, export, framework_of, leaves, part
from weights.parameters import Parameters
from weights.recipe import Recipe, batch, steps_an_epoch
from weights.schema import schema

VERSION = 1  # of the meaning of "training" in a file

Moments = dict[
    str, Arrays
]  # {moment: {canonical name of the parameter: array in canonical layout}}


@dataclass(frozen=True)
class TrainingState:
    """A training run at rest: everything that decides how it goes on.

    config: of the model. recipe: how it is trained. arrays: parameters and running statistics,
    canonical. moments: what the optimizer keeps, `{"exp_avg": {"conv1.weight": array, ...}, ...}`,
    by PyTorch's names, in each parameter's own shape, axis order and dtype. step: updates made so
    far. examples: images in the training data.
    Raises WeightsError with every fault of arrays and moments, ValueError for the numbers.
    """

    config: Config
    recipe: Recipe
    arrays: Mapping[str, np.ndarray]
    moments: Mapping[str, Mapping[str, np.ndarray]]
    step: int
    examples: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", at_least("step", self.step, 0))
        object.__setattr__(self, "examples", at_least("examples", self.examples, 1))
        steps_an_epoch(self.recipe, self.examples)
        found = _state_faults(self)
        if found:
            count = f"{len(found)} {'fault' if len(found) == 1 else 'faults'}"
            raise WeightsError(
                f"the arrays and moments do not fit the config and the recipe ({count}):", found
            )


def _state_faults(state: TrainingState) -> list[str]:
    found = faults(schema(state.config), state.arrays)
    trained = trainable(state.config)
    dtypes = {
        p.name: getattr(state.arrays.get(p.name), "dtype", np.dtype("float32")).name
        for p in trained
    }
    wanted = state.recipe.optimizer.moments
    found += [f"{MOMENTS}{moment}: unexpected" for moment in set(state.moments) - set(wanted)]
    for moment in wanted:
        found += [
            f"{MOMENTS}{moment}.{fault}"
            for fault in faults(trained, state.moments.get(moment, {}), dtypes)
        ]
    return found


def trainable(config: Config) -> Parameters:
    """The parameters that an optimizer updates."""
    return tuple(parameter for parameter in schema(config) if parameter.trainable)


def write_training(path: str | os.PathLike[str], state: TrainingState) -> None:
    """Writes a training state to a .safetensors file; the same state makes the same bytes.

    Until the new file is complete, what stood at `path` stays. Raises ValueError for another
    suffix.
    """
    target = _safetensors(path, "write")
    arrays = {p.name: reorder(state.arrays[p.name], p.axes, p.axes) for p in schema(state.config)}
    for moment in state.recipe.optimizer.moments:
        for p in trainable(state.config):
            arrays[f"{MOMENTS}{moment}.{p.name}"] = reorder(
                state.moments[moment][p.name], p.axes, p.axes
            )
    training = {
        "version": VERSION, "recipe": state.recipe.to_dict(), "step": state.step, "examples": state.examples,
    }  # fmt: skip
    text = json.dumps({**json.loads(state.config.to_json()), TRAINING: training})
    content = safetensors_bytes(arrays, metadata={METADATA: text})
    write_atomically(target, lambda temporary: temporary.write_bytes(content))


def read_training(path: str | os.PathLike[str]) -> TrainingState:
    """The training state in a file.

    Raises FileNotFoundError, WeightsError for a file that is broken or whose arrays do not fit,
    ValueError for one that holds no training state, or one that this version cannot read.
    """
    source = _safetensors(path, "read")
    if not source.is_file():
        raise FileNotFoundError(f"{source}: there is no such file")
    text, training, arrays = read_safetensors(source)
    if text is None or training is None:
        raise ValueError(
            f"{source.name}: holds no training state, only weights; start a new run from them: "
            f"Trainer(model, recipe, examples)"
        )
    values = _training(training, source.name)
    config = config_from_json(text, f"the config in {source.name}")
    try:
        recipe = Recipe.from_dict(values["recipe"])
        return TrainingState(
            config, recipe, *_separated(arrays), values["step"], values["examples"]
        )
    except WeightsError as error:
        raise WeightsError(
            f"{source.name}: {str(error).splitlines()[0]}", list(error.faults)
        ) from None
    except ValueError as error:
        raise ValueError(f"the training state in {source.name}: {error}") from None


def _safetensors(path: str | os.PathLike[str], verb: str) -> Path:
    target = Path(path)
    if target.suffix.lower() != ".safetensors":
        raise ValueError(
            f"{target.name}: cannot {verb} a training state there; expected a .safetensors file"
        )
    return target


def _training(values: Any, source: str) -> dict[str, Any]:
    """What stands under "training", its version and its keys checked."""
    version: Any = values.get("version") if isinstance(values, dict) else None
    if not is_integer(version) or version < 1:
        raise ValueError(
            f'the training state in {source}: expected an object with a "version", got {values!r}'
        )
    if version > VERSION:
        raise ValueError(
            f"the training state in {source}: has version {version}, and this is version "
            f"{VERSION}; read it with a newer resattn"
        )
    known = {"version", "recipe", "step", "examples"}
    if set(values) != known:
        odd = ", ".join(sorted(set(values) ^ known))
        raise ValueError(
            f"the training state in {source}: expected {', '.join(sorted(known))}; missing or "
            f"unknown: {odd}"
        )
    if not isinstance(values["recipe"], dict):
        raise ValueError(
            f"the training state in {source}: expected an object as recipe, got "
            f"{values['recipe']!r}"
        )
    return dict(values)


def _separated(arrays: Arrays) -> tuple[Arrays, Moments]:
    """The model's arrays, and the moments among them."""
    moments: Moments = {}
    for name, array in arrays.items():
        if name.startswith(MOMENTS):
            moment, _, parameter = name.removeprefix(MOMENTS).partition(".")
            moments.setdefault(moment, {})[parameter] = array
    return {name: array for name, array in arrays.items() if not name.startswith(MOMENTS)}, moments


class Trainer:
    """Trains a live model of any of the three packages by a recipe; what it does can be saved and
    go on in another.

    model: a ResidualAttentionNetwork, or a block alone, which is trained with the averages of its
        channels over positions as logits. examples: images in the training data.
    Its optimizer is the framework's own, from `<package>.training`; `model` and `optimizer` are
    there to be used.
    Raises TypeError for another object, ValueError for a model with parameters that are frozen: no
    file would say which.
    """

    def __init__(self, model: Any, recipe: Recipe, examples: int):
        self.framework = framework_of(model)
        steps_an_epoch(recipe, examples)
        self.model = model
        self.recipe = recipe
        self.examples = examples
        frozen = self._module.frozen(model)
        if frozen:
            raise ValueError(
                f"the model: expected every parameter to be trainable, got {len(frozen)} that are "
                f"frozen ({frozen[0]}); a training state does not say which. Train such a model "
                f"with {layout(self.framework).package}.training"
            )
        self.optimizer = self._module.optimizer(model, recipe)

    @property
    def _module(self) -> ModuleType:
        return part(self.framework, "training")

    @property
    def step(self) -> int:
        """Updates made so far: also the position in the schedule and in the order of the data."""
        return int(self._module.steps_taken(self.optimizer))

    def train(self, images: np.ndarray, labels: np.ndarray, steps: int) -> np.ndarray:
        """Makes `steps` updates on the batches whose turn it is; the loss of each, (steps,), before
        its update.

        images: (examples, channels, height, width), all of the training data, every time the same.
        labels: (examples,) integers. The model is left in the mode it was in.
        Raises ValueError for data that do not fit, and for float64 parameters where the framework
        would not compute in it.
        """
        if len(images) != self.examples or len(labels) != self.examples:
            raise ValueError(
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
        module = adapter(self.framework)
        name, leaf = next(iter(leaves(self.model).items()))
        held = module.dtype_name(leaf)
        if held == "float64" and not module.holds_float64():
            raise ValueError(f"cannot train in float64: {module.FLOAT64_HELP}")
        if images.dtype.name != held:
            raise ValueError(
                f"images: expected {held}, the dtype of the model ({name}), got {images.dtype.name}"
            )

    def state(self) -> TrainingState:
        """A copy of everything that decides how this run goes on."""
        own, held = layout(self.framework), self._module.moments(self.optimizer, self._trained())
        moments = {
            moment: {
                p.name: reorder(held[moment][own.name(p)], own.axes(p), p.axes)
                for p in trainable(self.model.config)
            }
            for moment in self.recipe.optimizer.moments
        }
        arrays = export(self.model)
        return TrainingState(
            self.model.config, self.recipe, arrays, moments, self.step, self.examples
        )

    def _trained(self) -> dict[str, Any]:
        """The live parameters, by the framework's names."""
        own, live = layout(self.framework), leaves(self.model)
        return {own.name(p): live[p.name] for p in trainable(self.model.config)}

    def _restore(self, state: TrainingState) -> None:
        own = layout(self.framework)
        moments = {
            moment: {
                own.name(p): reorder(arrays[p.name], p.axes, own.axes(p))
                for p in trainable(state.config)
            }
            for moment, arrays in state.moments.items()
        }
        self._module.restore(self.optimizer, self._trained(), state.step, moments)


def resume(state: TrainingState, framework: str, device: str | None = None) -> Trainer:
    """A run that goes on from a state, in any framework: "torch", "jax" or "tf".

    device: "cpu" or "cuda"; by default where the framework puts new models.
    Raises MissingFramework, and WeightsError for float64 where the framework is not set up for it.
    """
    trainer = Trainer(
        build(state.config, state.arrays, framework, device), state.recipe, state.examples
    )
    trainer._restore(state)
    return trainer

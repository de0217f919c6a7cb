"""Training runs at rest: the whole state of a run, in one file.

A file is the model's own safetensors file with more in it: the moments under
`optimizer.<moment>.<parameter>`, and in the config's JSON one more key, "training", with the
recipe, the number of steps taken and the number of images. `weights.read` reads the model from it.
The number of steps is also the position in the schedule and in the order of the data.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weights.checks import at_least, is_integer, list_names, quote
from weights.config import Config
from weights.config_json import config_from_json
from weights.convert import Arrays, faults, reorder
from weights.errors import ArgumentError, WeightsError
from weights.fields import parse_json
from weights.files import label as labels
from weights.files import safetensors
from weights.files.atomic import existing
from weights.files.label import check_arrays, check_label, make_label
from weights.live import Moments
from weights.parameters import Parameters
from weights.recipe import Recipe, steps_an_epoch
from weights.schema import schema
from weights.shards import Shards
from weights.stored import read_arrays

TRAINING = "training"  # the key beside the config's in which a training state says what it is
MOMENTS = "optimizer."  # what the names of a training state's moments begin with
# Of the meaning of "training" in a file, and what each version holds. The second is for runs with
# local statistics.
VERSION = 2
_KEYS = {
    1: {"version", "recipe", "step", "examples"},
    2: {"version", "recipe", "step", "examples", "shards"},
}


@dataclass(frozen=True)
class TrainingState:
    """A training run at rest: everything that decides how it goes on.

    config: of the model. recipe: how it is trained. arrays: parameters and running statistics,
    canonical. moments: what the optimizer keeps, `{"exp_avg": {"conv1.weight": array, ...}, ...}`,
    by PyTorch's names, in each parameter's own shape, axis order and dtype. step: updates made so
    far. examples: images in the training data. shards: of a run with local statistics, which
    depends on the number of devices; with global ones it does not, and this is `Shards()`.
    Raises WeightsError with every fault of arrays and moments, ArgumentError for the numbers.
    """

    config: Config
    recipe: Recipe
    arrays: Mapping[str, np.ndarray]
    moments: Mapping[str, Mapping[str, np.ndarray]]
    step: int
    examples: int
    shards: Shards = field(default=Shards())

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", at_least("step", self.step, 0))
        object.__setattr__(self, "examples", at_least("examples", self.examples, 1))
        steps_an_epoch(self.recipe, self.examples)
        if not isinstance(self.shards, Shards):
            raise ArgumentError(f"shards: expected Shards(...), got {quote(self.shards)}")
        object.__setattr__(self, "shards", self.shards if self.shards.is_local else Shards())
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

    Until the new file is complete, the file that was at `path` stays. Raises ArgumentError for
    another suffix.
    """
    target = _safetensors(path, "write")
    arrays = {p.name: reorder(state.arrays[p.name], p.axes, p.axes) for p in schema(state.config)}
    for moment in state.recipe.optimizer.moments:
        for p in trainable(state.config):
            arrays[f"{MOMENTS}{moment}.{p.name}"] = reorder(
                state.moments[moment][p.name], p.axes, p.axes
            )
    local = state.shards.is_local
    training = {
        "version": 2 if local else 1,
        "recipe": state.recipe.to_dict(),
        "step": state.step,
        "examples": state.examples,
        **({"shards": state.shards.to_dict()} if local else {}),
    }
    text = json.dumps({**json.loads(state.config.to_json()), TRAINING: training})
    safetensors.write(target, make_label(text, arrays), arrays)


def read_training(path: str | os.PathLike[str]) -> TrainingState:
    """The training state in a file.

    Raises MissingFileError, WeightsError for a file that is broken or whose arrays do not fit,
    ArgumentError for one that holds no training state, or one that this version cannot read.
    """
    source = _safetensors(path, "read")
    header = safetensors.read(existing(source))
    check_label(header.label, source.name)
    text, training = split_training(header.label.get(labels.CONFIG))
    if text is None or training is None:
        raise ArgumentError(
            f"{source.name}: holds no training state, only weights; start a new run from them: "
            f"Trainer(model, recipe, examples)"
        )
    values = _training(training, source.name)
    config = config_from_json(text, f"the config in {source.name}")
    arrays = read_arrays(header.arrays)
    check_arrays(header.label, arrays, source.name)
    try:
        recipe = Recipe.from_dict(values["recipe"])
        shards = Shards.from_dict(values.get("shards", {}))
        return TrainingState(
            config, recipe, *_separated(arrays), values["step"], values["examples"], shards
        )
    except WeightsError as error:
        raise WeightsError(
            f"{source.name}: {str(error).splitlines()[0]}", list(error.faults)
        ) from None
    except ArgumentError as error:
        raise ArgumentError(f"the training state in {source.name}: {error}") from None


def split_training(text: str | None) -> tuple[str | None, Any]:
    """The config's JSON as a model file has it, and what it has under "training", or None."""
    try:
        values = parse_json(text or "", "the config")
    except ArgumentError:
        return text, None  # not a config either, which is for its reader to say
    if not isinstance(values, dict) or TRAINING not in values:
        return text, None
    training = values.pop(TRAINING)
    return json.dumps(values), training


def _safetensors(path: str | os.PathLike[str], verb: str) -> Path:
    target = Path(path)
    if target.suffix.lower() != ".safetensors":
        raise ArgumentError(
            f"{target.name}: cannot {verb} a training state there; expected a .safetensors file"
        )
    return target


def _training(values: Any, source: str) -> dict[str, Any]:
    """What stands under "training", its version and its keys checked."""
    version: Any = values.get("version") if isinstance(values, dict) else None
    if not is_integer(version) or version < 1:
        raise ArgumentError(
            f'the training state in {source}: expected an object with a "version", got '
            f"{quote(values)}"
        )
    if version > VERSION:
        raise ArgumentError(
            f"the training state in {source}: has version {quote(version)}, and this is version "
            f"{VERSION}; read it with a newer resattn"
        )
    known = _KEYS[version]
    if set(values) != known:
        odd = list_names(set(values) ^ known, quoted=False)
        raise ArgumentError(
            f"the training state in {source}: expected {', '.join(sorted(known))}; missing or "
            f"unknown: {odd}"
        )
    for name in known & {"recipe", "shards"}:
        if not isinstance(values[name], dict):
            raise ArgumentError(
                f"the training state in {source}: expected an object as {name}, got "
                f"{quote(values[name])}"
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

"""`record`: runs a model of one framework and keeps what it computes, to be compared elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from resattn.checking.draws import random_input
from resattn.checking.problem import checked_inputs
from resattn.checking.progress import StepCounter
from resattn.checking.rounding import MODES
from resattn.oracle import evaluation as reference
from resattn.recognition.endings import last_stage
from resattn.recording.environment import describe_environment
from resattn.recording.file import write_run
from resattn.recording.run import RECORDED_MODEL, Run, TrainingSteps, sample_recording
from resattn.recording.training import record_training
from resattn.tracing.comparison import RECORDED, Target
from resattn.tracing.mapped import Mapped, map_unmapped
from resattn.tracing.sampling import Recorded
from resattn.tracing.trace import fit_recording, record_models, trace
from weights import export, schema
from weights.checks import Pair, at_least
from weights.config import BlockConfig, Config, without_chance
from weights.convert import check
from weights.errors import ArgumentError
from weights.fingerprint import fingerprint
from weights.graph import IMAGE, check_size, probe_size
from weights.live import framework_of, owner
from weights.recipe import Optimizer, Recipe
from weights.stages import Recording

TRAINING_STEPS = 3


def record(
    model: Any,
    inputs: np.ndarray | None = None,
    *,
    size: Pair | None = None,
    config: Config | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    recipe: Recipe | Optimizer | None = None,
    steps: int = TRAINING_STEPS,
    seed: int = 0,
    full: bool = False,
    to: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Run:
    """Everything that a model computes for some images, to be compared elsewhere.

    Every stage forward and backward in evaluation and in training, the running statistics after a
    training pass, and the losses and parameters of some steps of training. NumPy computes the same
    in float64, and how far rounding can take it from there. The model is not changed.

    model: a block or a network of any of the three packages; or a model of your own, recognised or
        given as `Mapped`, which is not trained. It runs with the settings of its framework as they
        are.
    inputs: (batch, channels, height, width); by default random ones, for a model of ours.
    size: (height, width) of the random ones, by default a small one.
    config, arrays: what the model should be, by default what it is; needed for a `Mapped` model.
    recipe: how it is trained, on `inputs` with random labels. An optimizer alone takes all of them
        in each step; the default is that of the digits, SGD with momentum.
    steps: of training; 0 for none. seed: of the random inputs and labels, and of the gradient of
        the output. full: whether to keep all stages whole, and the weights.
    to: a .safetensors file to write. progress: called with a line before each step.
    Raises ArgumentError for bad inputs, ModelError for objects that are no models, WeightsError for
    arrays that do not fit the config, and what writing a file raises.
    """
    at_least("steps", steps, 0)
    model, config, arrays = _map_own(model, inputs, config, arrays)
    target = _choose_target(model, config, arrays, seed)
    x, drawn = _choose_inputs(inputs, size, target, any_channels=isinstance(model, Mapped))
    run = _record_passes(model, x, drawn, target, full, progress)
    if steps and set(run.modes) == set(MODES):
        if isinstance(model, Mapped):
            note = "training was not recorded: it takes a model of ours"
            run = replace(run, notes=(*run.notes, note))
        else:
            training = _train(model, x, target, recipe, steps, full, progress)
            run = replace(run, training=training)
    if to is not None:
        write_run(to, run)
    return run


def _map_own(
    model: Any,
    inputs: np.ndarray | None,
    config: Config | None,
    arrays: Mapping[str, np.ndarray] | None,
) -> tuple[Any, Config | None, Mapping[str, np.ndarray] | None]:
    """A model of a user's own is recognised; others stay as they are."""
    if isinstance(model, Mapped) or isinstance(getattr(model, "config", None), Config):
        return model, config, arrays
    if inputs is None:
        owner(model)  # refuses what is no model
        raise ArgumentError("inputs: expected images, which a model of your own is recognised with")
    models, config, arrays, _ = map_unmapped({RECORDED_MODEL: model}, inputs, config, arrays)
    return models[RECORDED_MODEL], config, arrays


def _choose_target(
    model: Any, config: Config | None, arrays: Mapping[str, np.ndarray] | None, seed: int
) -> Target:
    """What the model should be: the config and the arrays that are given, or its own."""
    if isinstance(model, Mapped):
        if config is None or arrays is None:
            raise ArgumentError(
                "record: expected config and arrays, which say what the model should compute, for "
                "a Mapped model"
            )
    else:
        framework_of(model)
        config = model.config if config is None else config
        arrays = export(model) if arrays is None else arrays
    check(schema(config), arrays)
    dtype = min((array.dtype for array in arrays.values()), key=lambda kind: kind.itemsize).name
    return Target(config, arrays, dtype, seed)


def _choose_inputs(
    inputs: np.ndarray | None, size: Pair | None, target: Target, any_channels: bool
) -> tuple[np.ndarray, str]:
    """The images, and how they were made."""
    config, dtype, seed = target.config, target.dtype, target.seed
    if inputs is None:
        sides = probe_size(config) if size is None else size
        check_size(config, sides)
        batch = 8 if isinstance(config, BlockConfig) else 2
        return random_input(config, sides, batch, dtype, seed), f"random, seed {seed}"
    if size is not None:
        raise ArgumentError("size: is for random images, and inputs were given; leave one out")
    return checked_inputs(inputs, None if any_channels else config, dtype), "given"


def _record_passes(
    model: Any,
    x: np.ndarray,
    drawn: str,
    target: Target,
    full: bool,
    progress: Callable[[str], None],
) -> Run:
    """The run without training."""
    config, arrays = target.config, target.arrays
    live = model.model if isinstance(model, Mapped) else model
    notes, modes = _choose_modes(config)
    tell = StepCounter(progress, 2 * len(modes))
    recordings = {mode: _record_mode(model, x, target, mode, tell) for mode in modes}
    found = trace(
        {RECORDED_MODEL: Recorded(recordings)},
        x,
        config=config,
        arrays=arrays,
        modes=modes,
        seed=target.seed,
        explain=False,
        progress=lambda line: progress(f"oracle: {line}"),
    )
    last = last_stage(config)
    return Run(
        config=config,
        dtype=target.dtype,
        seed=target.seed,
        inputs=x,
        drawn=drawn,
        prints={name: fingerprint(array) for name, array in arrays.items()},
        environment=describe_environment(owner(live), live),
        modes={mode: sample_recording(each, last, full) for mode, each in recordings.items()},
        trace=found,
        hashes=_hash_stages(recordings),
        arrays=arrays if full else None,
        notes=tuple(notes),
    )


def _choose_modes(config: Config) -> tuple[list[str], Sequence[str]]:
    """The modes that can be compared, and a note on one that cannot."""
    if without_chance(config) == config:
        return [], MODES
    return ["training was not recorded: drop_path and dropout draw random numbers"], ("eval",)


def _record_mode(
    model: Any, x: np.ndarray, target: Target, mode: str, tell: StepCounter
) -> Recording:
    """One pass, its stages in the shapes of the oracle."""
    found = record_models({RECORDED_MODEL: model}, x, target, mode, tell)[RECORDED_MODEL]
    tell(f"{mode}, shapes")
    given = x if found.received is None else found.received
    made = reference.stages(target.config, target.arrays, given, training=mode == "train")
    right = Recording({name: stage.computed.value for name, stage in made.stages.items()})
    fit, notes = fit_recording(
        RECORDED_MODEL, found, right, target.config, isinstance(model, Mapped)
    )
    return replace(fit, notes=tuple(notes))


def _hash_stages(recordings: Mapping[str, Recording]) -> dict[str, str]:
    return {
        f"{mode} {way} {stage}": fingerprint(array)
        for mode, recording in recordings.items()
        for way, kind in RECORDED.items()
        for stage, array in getattr(recording, kind).items()
        if (way, stage) != ("forward", IMAGE)
    }


def _train(
    model: Any,
    x: np.ndarray,
    target: Target,
    recipe: Recipe | Optimizer | None,
    steps: int,
    full: bool,
    progress: Callable[[str], None],
) -> TrainingSteps:
    from resattn.training.train_digits import OPTIMIZER  # which imports what draws on a terminal

    if not isinstance(recipe, Recipe):
        recipe = Recipe(recipe or OPTIMIZER, batch_size=len(x))
    return record_training(model, x, target, recipe, steps, full, progress)

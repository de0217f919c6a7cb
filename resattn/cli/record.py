"""`resattn record`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resattn.cli.arguments import (
    ArchitectureOption,
    CheckedFileArgument,
    CheckSizeOption,
    ConfigOption,
    InputsOption,
    PartOption,
    SeedOption,
    list_given_options,
    parse_size,
    read_images,
    read_model_or_block,
)
from resattn.cli.drift import RecipeOption, parse_recipe
from resattn.cli.live_forms import (
    LiveRequest,
    draw_images,
    find_live,
    recognise_exactly,
    understand,
)
from resattn.cli.targets import WRITTEN
from resattn.cli.terminal import print_line, status
from resattn.cli.words import say

if TYPE_CHECKING:
    import numpy as np

    from resattn.recording.run import Run
    from weights.recipe import Optimizer, Recipe

FrameworkOption = Annotated[
    str | None,
    typer.Option(
        "--framework",
        help="The framework that computes: torch, jax or tf. A model of your own has its own.",
    ),
]
RecordingOption = Annotated[
    Path, typer.Option("--to", help="The .safetensors file to write.", metavar="RUN"), WRITTEN
]
DeviceOption = Annotated[str, typer.Option(help="The device to compute on: cpu or cuda.")]
RecordDtypeOption = Annotated[
    str | None,
    typer.Option(help="float32 or float64. Default: that of the weights, float32 at least."),
]
StepsOption = Annotated[int, typer.Option(help="Number of training steps; 0 for none.", min=0)]
OF_OURS = ("--framework", "--dtype", "--device", "--steps", "--recipe")
FullOption = Annotated[
    bool,
    typer.Option(
        "--full", help="Keep all stages whole, and the weights, not only samples and hashes."
    ),
]


def record(
    context: typer.Context,
    to: RecordingOption,
    file: CheckedFileArgument = None,
    framework: FrameworkOption = None,
    config: ConfigOption = None,
    architecture: ArchitectureOption = None,
    part: PartOption = None,
    inputs: InputsOption = None,
    size: CheckSizeOption = None,
    dtype: RecordDtypeOption = None,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    steps: StepsOption = 3,
    recipe: RecipeOption = "sgd",
    full: FullOption = False,
) -> None:
    """Run a model in one framework and write what it computes to a file, for `resattn compare`.

    The file holds every stage forward and backward (of a large one a sample), statistics, some
    steps of training, and the environment. Without --inputs the images are random.

    A model of your own as FILE, as in "net.py:load()", is recognised first. It is not trained.
    """
    from resattn.checking.backends import backends, precise
    from resattn.checking.draws import random_arrays
    from resattn.recording.file import check_suffix
    from resattn.recording.record import record as record_run
    from weights.config import without_chance

    check_suffix(to)
    sides = choose_size(size, inputs)
    live = find_live(list_given_options(context), file, excluded=OF_OURS)
    if live is not None:
        return summarise(to, record_live(LiveRequest(live, sides, None), inputs, seed, full, to))
    framework = choose_framework(framework)
    described, arrays = read_model_or_block(file, config, architecture, part)
    config_used = without_chance(described)
    form = choose_dtype(dtype, arrays)
    images = None if inputs is None else read_images("--inputs", inputs)
    if arrays is None:
        arrays = random_arrays(config_used, form, seed)
    show_random(file is None, inputs is None, seed)
    held = {name: array.astype(form) for name, array in arrays.items()}
    model = backends((framework,), (device,))[0].build(config_used, held)
    with status("record") as show_step, precise((framework,), form):
        run = record_run(
            model,
            images,
            size=sides,
            recipe=choose_recipe(recipe, steps),
            steps=steps,
            seed=seed,
            full=full,
            to=to,
            progress=show_step,
        )
    return summarise(to, run)


def record_live(request: LiveRequest, inputs: Path | None, seed: int, full: bool, to: Path) -> Run:
    """Recognises a model of the user's own and records it, in its own framework."""
    from resattn.recording.record import record as record_run
    from resattn.tracing.mapped import map_model

    found = understand(request)
    taken = recognise_exactly(found)
    if inputs is None:
        show_random(False, True, seed)
        images = draw_images(found, request.size, 2, seed)
    else:
        images = read_images("--inputs", inputs)
    with status("record") as show_step:
        return record_run(
            map_model(found.model, taken),
            images,
            config=taken.config,
            arrays=taken.arrays,
            seed=seed,
            full=full,
            to=to,
            progress=show_step,
        )


def choose_size(size: str | None, inputs: Path | None) -> tuple[int, int] | None:
    """The value of --size, which is for random images."""
    from weights.errors import ArgumentError

    if size is not None and inputs is not None:
        raise ArgumentError(say("--size: is for random images; leave --size or --inputs out"))
    return None if size is None else parse_size(size)


def show_random(weights: bool, images: bool, seed: int) -> None:
    """Says which of them are random."""
    if weights:
        print_line(say("no FILE: the weights are random, seed {seed}", seed=seed))
    if images:
        print_line(say("no --inputs: the images are random, seed {seed}", seed=seed))


def choose_framework(framework: str | None) -> str:
    """The value of --framework, which a model of ours needs."""
    from weights.errors import ArgumentError
    from weights.frameworks import framework_key

    if framework is None:
        raise ArgumentError("--framework: expected torch, jax or tf")
    return framework_key(framework)


def choose_dtype(dtype: str | None, arrays: dict[str, np.ndarray] | None) -> str:
    """The value of --dtype, or the dtype of the weights. Raises ArgumentError for others."""
    import numpy as np

    from weights.errors import ArgumentError

    if dtype is None:
        given = (array.dtype for array in (arrays or {}).values())
        return np.result_type(np.float32, *given).name
    if dtype not in ("float32", "float64"):
        raise ArgumentError(say("--dtype: expected float32 or float64, got {dtype!r}", dtype=dtype))
    return dtype


def choose_recipe(text: str, steps: int) -> Recipe | Optimizer:
    """The value of --recipe: of a name only the optimizer, which takes all images in each step."""
    found = parse_recipe(text, max(steps, 1))
    return found if text.lstrip().startswith("{") else found.optimizer


def summarise(path: Path, run: Run) -> None:
    """Says what was written, and how far it is from the oracle."""
    parts = [
        say(
            "{count} tensors of {modes}",
            count=len(run.hashes),
            modes=say(" and ").join(map(say, run.modes)),
        )
    ]
    if run.training is not None:
        parts.append(say("{count} steps of training", count=run.training.steps))
    print_line(
        say(
            "Wrote {file}: {parts}, {size:,} bytes.",
            file=path,
            parts=", ".join(parts),
            size=path.stat().st_size,
        )
    )
    for note in run.notes:
        print_line(say("note: {note}", note=note))
    wrong = dict.fromkeys(finding.stage for finding in run.trace.findings)
    if wrong:
        print_line(
            say("Differs from what the weights say at {stages}.", stages=", ".join(wrong)), "bad"
        )

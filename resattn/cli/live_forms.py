"""What the commands do with a live model of the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from resattn.cli.arguments import parse_frameworks
from resattn.cli.live import LiveCall, make_live, parse_live
from resattn.cli.terminal import choose_width, find_width, print_line, print_report, status
from resattn.cli.words import say

if TYPE_CHECKING:
    import numpy as np

    from resattn.drawing.scene import Scene
    from resattn.reading.reading import Reading
    from resattn.recognition.recognition import Recognition
    from resattn.tracing.findings import Trace
    from weights.config import Config

DESCRIBING = ("--config", "--as", "--part")  # options that say what is in a weights file
OF_LIVE = ("--channels", "--only", "--choice")


@dataclass(frozen=True)
class LiveRequest:
    """What the user asks for. size: (height, width) of the images. only: the path of a part.
    choice: the number of the answer that is meant, where there are several.
    """

    call: LiveCall
    size: tuple[int, int] | None
    channels: int | None
    only: str | None = None
    choice: int | None = None


@dataclass(frozen=True)
class Understood:
    """A live model, what it executes, and what it was found to be."""

    model: Any
    reading: Reading
    recognition: Recognition


def find_live(
    given: Sequence[str],
    file: Path | None,
    model: str | None = None,
    excluded: Sequence[str] = (),
    shared: Sequence[str] = (),
) -> LiveCall | None:
    """The live model that FILE or --model names, or None.

    given: the options on the command line. excluded: those that cannot be combined with a live
    model. shared: those of a live model that the command has for others, too.
    Raises ArgumentError for what cannot be combined, and for options of live models without one.
    """
    from weights.errors import ArgumentError

    found = parse_live(file if model is None else model)
    if model is not None and found is None:
        raise ArgumentError(
            say(
                '--model: expected a model of your own as in "net.py:Net(10)", got {text!r}',
                text=model,
            )
        )
    if found is None:
        for option in OF_LIVE:
            if option in given and option not in shared:
                raise ArgumentError(
                    say(
                        '{option}: is for a model of your own; name it as in "net.py:Net(10)"',
                        option=option,
                    )
                )
        return None
    for option in (*excluded, *(DESCRIBING if model is None else ())):
        if option in given:
            raise ArgumentError(
                say("{option}: cannot be combined with a model of your own", option=option)
            )
    return found


def read_request(request: LiveRequest, weights: Path | None = None) -> tuple[Any, Reading]:
    """The live model, and its operations. It runs the user's file."""
    from resattn.reading.models import read_model
    from weights.files.opening import read_own_arrays
    from weights.live import owner, part

    with status(request.call.name) as show_step:
        show_step(say("run the file"))
        model = make_live(request.call, request.channels, request.size)
        if weights is not None:
            show_step(say("load the weights"))
            arrays = read_own_arrays(weights)
            part(owner(model), "bridge.foreign").assign_foreign(model, arrays)
        show_step(say("read"))
        return model, read_model(model, request.size, request.channels)


def understand(
    request: LiveRequest,
    expected: Config | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    weights: Path | None = None,
) -> Understood:
    """Reads and recognises the model.

    expected, arrays: what it should be. weights: a file of the model's own arrays, which are loaded
    into it first.
    """
    from resattn.recognition.recognition import recognise_model

    model, reading = read_request(request, weights)
    with status(request.call.name) as show_step:
        show_step(say("recognise"))
        seen = reading if request.size is not None else read_uneven(model, reading)
        only = request.only or ""
        found = recognise_model(seen, expected, arrays, only=only, choice=request.choice)
    return Understood(model, reading, found)


def read_uneven(model: Any, reading: Reading) -> Reading:
    """The model read for images with an odd and an even side, at which ways of padding differ that
    are the same for even ones; as it was read if it fails for these.
    """
    from resattn.reading.models import read_model
    from weights.errors import ModelError

    rows, cols = reading.size
    try:
        found = read_model(model, (rows + 1, cols), reading.in_channels)
    except ModelError:
        return reading
    return reading if found.failure else found


def print_recognition(found: Understood) -> None:
    """What the model was taken for, and by which signs, or what differs."""
    from weights.language import current_language

    style = "good" if found.recognition.config is not None else "bad"
    for number, line in enumerate(found.recognition.describe(current_language())):
        print_line(line, "" if number else style)


def prove_live(found: Understood) -> bool:
    """Prints whether a recognised model gives what the oracle gives with its weights."""
    from resattn.recognition.proof import prove_recognition
    from resattn.recognition.wording import describe_proof
    from weights.language import current_language

    images = draw_images(found, None, 2, 0)
    with status(found.reading.title) as show_step:
        show_step(say("compare with the oracle"))
        proof = prove_recognition(found.recognition, found.model, inputs=images)
    words = describe_proof(proof, images.shape, current_language())
    print_line(words, "good" if proof.ok else "bad")
    return proof.ok


def explain_live(
    request: LiveRequest, batch: int, dtype: str, language: str, brief: bool = False
) -> dict[str, Any]:
    """Explains the model as it is executed, and what it was taken for. The explanation for --json
    is returned.
    """
    from resattn.explaining.explanation import explain

    found = understand(request)
    explained = explain(found.reading, batch=batch, dtype=dtype)
    for line, style in explained.lines(choose_width(brief), language, brief):
        print_line(line, style)
    print_line()
    print_recognition(found)
    if found.recognition.config is not None:
        prove_live(found)
    return explained.to_dict(language)


def draw_live(request: LiveRequest, block: str | None) -> Scene:
    """The picture of the model as it is executed. block: one residual block of it."""
    from resattn.drawing.pictures import scene_of_reading

    _, reading = read_request(request)
    return scene_of_reading(reading, block)


def recognise_exactly(found: Understood) -> Recognition:
    """The recognition, if the model is one of our blocks or networks. It is printed. Else the exit
    status is 1.
    """
    print_recognition(found)
    if found.recognition.config is None:
        raise typer.Exit(1)
    return found.recognition


def check_live(
    request: LiveRequest,
    target: tuple[Config | None, Mapping[str, np.ndarray] | None],
    options: Mapping[str, Any],
    every: bool,
) -> Trace:
    """Recognises a model, compares it with ours in each framework, stage by stage, and prints what
    is found.

    target: the config and the arrays that the model should have, None for its own. options: of
    `trace_frameworks`; "frameworks" is the value of that option.
    """
    from resattn.tracing.mapped import map_model
    from resattn.tracing.trace import trace_frameworks

    found = understand(request, *target)
    taken = recognise_exactly(found)
    assert taken.config is not None
    given = {name: value for name, value in options.items() if value is not None}
    given["frameworks"] = parse_frameworks(options["frameworks"], taken.config)
    size, batch = given.pop("size", None), given.pop("batch", 2)
    if "inputs" not in given:
        given["inputs"] = draw_images(found, size, batch, given["seed"])
    mapped = {found.reading.title: map_model(found.model, taken)}
    with status(say("trace")) as show_step:
        report = trace_frameworks(
            taken.config, target[1] or taken.arrays, others=mapped, progress=show_step, **given
        )
    print_report(report.lines(every, find_width()))
    if report.findings and all(finding.mode == "train" for finding in report.findings):
        print_line(say("In evaluation all agree; they differ in training alone."), "good")
    return report


def draw_images(
    found: Understood, size: tuple[int, int] | None, batch: int, seed: int
) -> np.ndarray:
    """Random images for a live model, small where it takes any size."""
    import numpy as np

    from resattn.reading.models import read_model
    from weights.errors import ModelError
    from weights.graph import probe_size

    if size is None:
        assert found.recognition.config is not None
        size = probe_size(found.recognition.config)
        try:
            failure = read_model(found.model, size, found.reading.in_channels).failure
        except ModelError:
            size = found.reading.size
        else:
            size = found.reading.size if failure else size
    shape = (batch, found.reading.in_channels, *size)
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def find_outside(found: Understood, inside: str = "") -> list[str]:
    """The own names of parameters that are no part of what the model was recognised as.

    inside: the path of the module that is meant; only its parameters count. Buffers that nothing
    but a constant is made of, and numbers that are no weights (counters, seeds), do not count.
    """
    from resattn.reading.admission import admit_model

    taken, reading = found.recognition, found.reading
    used = {
        name
        for step in taken.reading.steps
        for name in (*step.roles.values(), *(step.held.names if step.held is not None else ()))
    }
    buffers: set[str] = set()
    if reading.framework == "torch":
        buffers = set(dict(admit_model(found.model, "torch").named_buffers()))
    unused = {name for name in taken.unused if reading.arrays[name].dtype.kind not in "iub"}
    outside = (used | (unused - buffers)) - set(taken.parameters.values())
    within = f"{inside}." if inside else ""
    return [name for name in reading.arrays if name in outside and name.startswith(within)]


def refuse_outside(found: Understood, request: LiveRequest) -> None:
    """Refuses to leave parameters out of a file unless the user named a part. What is left out
    without parameters is printed.

    Raises ModelError, which lists the parameters.
    """
    from resattn.recognition.recognition import recognise_model
    from resattn.recognition.wording import describe_operations
    from weights.checks import list_names
    from weights.errors import ModelError
    from weights.language import current_language

    taken = found.recognition
    outside = find_outside(found, request.only or "")
    if outside and request.choice is not None:
        # Of several blocks of a model the user chose one; the others are not meant.
        several = recognise_model(taken.reading, only=request.only or "").alternatives
        if len({frozenset(each.parameters.values()) for each in several}) > 1:
            outside = []
    if outside:
        part = taken.module or "MODULE"
        raise ModelError(
            say(
                "{title}: {names} would not be in the file, as the part that was "
                "recognised does not use them; --only {part} ports that part alone",
                title=found.reading.title,
                names=list_names(outside, most=6),
                part=part,
            )
        )
    left = describe_operations((*taken.before, *taken.after), current_language())
    if left:
        print_line(say("left out: {operations}", operations=left))


def port_live(
    found: Understood,
    request: LiveRequest,
    target: Path,
    dialect: str | None,
    shard_bytes: int | None,
) -> tuple[Config, Mapping[str, np.ndarray]]:
    """Writes a model that was recognised to a file, and returns what was written. Before that, the
    oracle with these weights must give what the model gives.

    dialect, shard_bytes: as in `weights.write`. Raises ModelError where the model gives other
    values, and where parameters would be left out of the file.
    """
    from weights.errors import ModelError
    from weights.files.formats import write

    taken = recognise_exactly(found)
    assert taken.config is not None
    refuse_outside(found, request)
    if not prove_live(found):
        raise ModelError(
            say("{title}: gives other values, so nothing was written", title=found.reading.title)
        )
    write(target, taken.config, taken.arrays, dialect=dialect, shard_bytes=shard_bytes)
    return taken.config, taken.arrays

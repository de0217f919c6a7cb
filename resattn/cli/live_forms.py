"""What the commands do with a live model of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from resattn.cli.live import LiveCall, make_live
from resattn.cli.terminal import print_line, status

if TYPE_CHECKING:
    from resattn.drawing.scene import Scene
    from resattn.reading.reading import Reading
    from resattn.recognition.recognition import Recognition

DESCRIBING = ("--config", "--as", "--part")  # options that say what is in a weights file
OF_LIVE = ("--channels", "--only")


@dataclass(frozen=True)
class LiveRequest:
    """What the user asks for. size: (height, width) of the images. only: the path of a part."""

    call: LiveCall
    size: tuple[int, int] | None
    channels: int | None
    only: str | None = None


@dataclass(frozen=True)
class Understood:
    """A live model, what it executes, and what it was found to be."""

    model: Any
    reading: Reading
    recognition: Recognition


def refuse_with_live(given: Sequence[str], options: Sequence[str]) -> None:
    """Raises ArgumentError for options that say nothing about a live model."""
    from weights.errors import ArgumentError

    for option in options:
        if option in given:
            raise ArgumentError(f"{option}: is for weights files and configs, not for a live model")


def refuse_without_live(given: Sequence[str]) -> None:
    """Raises ArgumentError for options that are for a live model alone."""
    from weights.errors import ArgumentError

    for option in OF_LIVE:
        if option in given:
            raise ArgumentError(
                f'{option}: is for a live model; name one, as in "net.py:Net(10)", instead of a '
                "weights file or config"
            )


def read_request(request: LiveRequest) -> tuple[Any, Reading]:
    """The live model, and its operations. It runs the user's file."""
    from resattn.reading.models import read_model

    with status(request.call.name) as show_step:
        show_step("run the file")
        model = make_live(request.call, request.channels, request.size)
        show_step("read")
        return model, read_model(model, request.size, request.channels)


def understand(request: LiveRequest) -> Understood:
    """Reads and recognises the model."""
    from resattn.recognition.recognition import recognise_model

    model, reading = read_request(request)
    with status(request.call.name) as show_step:
        show_step("recognise")
        recognition = recognise_model(reading, only=request.only or "")
    return Understood(model, reading, recognition)


def print_recognition(found: Understood, language: str = "en") -> None:
    """What the model was taken for, and by which signs, or what differs."""
    for line in found.recognition.describe(language):
        print_line(line)


def explain_live(request: LiveRequest, batch: int, dtype: str, language: str) -> dict[str, Any]:
    """Explains the model as it is executed, and what it was taken for. The explanation for --json
    is returned.
    """
    from resattn.explaining.explanation import explain

    found = understand(request)
    explained = explain(found.reading, batch=batch, dtype=dtype)
    for line, style in explained.lines(get_terminal_size().columns, language):
        print_line(line, style)
    print_line()
    print_recognition(found, language)
    return explained.to_dict(language)


def draw_live(request: LiveRequest, block: str | None) -> Scene:
    """The picture of the model as it is executed. block: one residual block of it."""
    from resattn.drawing.pictures import scene_of_reading

    _, reading = read_request(request)
    return scene_of_reading(reading, block)

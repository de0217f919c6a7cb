"""What the commands do with a live model of the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from resattn.cli.live import LiveCall, make_live
from resattn.cli.terminal import print_line, status

if TYPE_CHECKING:
    from resattn.reading.reading import Reading
    from resattn.recognition.recognition import Recognition


@dataclass(frozen=True)
class Understood:
    """A live model, what it executes, and what it was found to be."""

    model: Any
    reading: Reading
    recognition: Recognition


def understand(
    call: LiveCall, size: tuple[int, int] | None, channels: int | None, only: str | None = None
) -> Understood:
    """Makes, reads and recognises the model. only: the path of the part that is wanted."""
    from resattn.reading.models import read_model
    from resattn.recognition.recognition import recognise_model

    with status(call.name) as show_step:
        show_step("run the file")
        model = make_live(call, channels, size)
        show_step("read")
        reading = read_model(model, size, channels)
        show_step("recognise")
        recognition = recognise_model(reading, only=only or "")
    return Understood(model, reading, recognition)


def print_recognition(found: Understood, language: str = "en") -> None:
    """What the model was taken for, and by which signs, or what differs."""
    for line in found.recognition.describe(language):
        print_line(line)


def explain_live(
    call: LiveCall,
    *,
    size: tuple[int, int] | None,
    channels: int | None,
    only: str | None,
    batch: int,
    dtype: str,
    language: str,
) -> dict[str, Any]:
    """Explains the model as it is executed. Returns the explanation for --json."""
    from resattn.explaining.executed.explanation import explain_executed

    found = understand(call, size, channels, only)
    print_recognition(found, language)
    print_line()
    explained = explain_executed(found.reading, batch, dtype)
    for line, style in explained.lines(get_terminal_size().columns, language):
        print_line(line, style)
    return explained.to_dict(language)

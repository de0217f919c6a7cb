"""The language of a command: --lang, or that of the terminal."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from resattn.cli.terminal import print_line

LanguageOption = Annotated[
    str | None,
    typer.Option(
        "--lang", help="The language: en or zh. Default: zh where the system's language is Chinese."
    ),
]
_SAMPLE = "残差块"


def choose_language(given: str | None) -> str:
    """The language of a command. English, with a note, where Chinese cannot be printed.

    given: the value of --lang.
    """
    # In the order in which programs look at them.
    names = (os.environ.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    system = next((name for name in names if name), "")
    wanted = given if given is not None else "zh" if system.startswith("zh") else "en"
    if wanted != "zh":
        return wanted
    try:
        _SAMPLE.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        print_line(
            f"in English, because the encoding of the output, {sys.stdout.encoding}, has no "
            "Chinese characters",
            "warning",
            error=True,
        )
        return "en"
    return wanted

"""The language of a command: --lang, or that of the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from resattn.cli.signatures import take_options
from resattn.cli.terminal import print_line

LanguageOption = Annotated[
    str | None,
    typer.Option(
        "--lang", help="The language: en or zh. Default: zh where the system's language is Chinese."
    ),
]
_SAMPLE = "残差块"


class SpokenGroup(TyperGroup):
    """Commands that speak the language of --lang, wherever it is on the command line, or of the
    terminal: results, errors and help.
    """

    def main(self, args: Sequence[str] | None = None, *others: Any, **options: Any) -> Any:
        words = sys.argv[1:] if args is None else [*args]
        language = choose_language(find_language(words))
        if language == "en":  # which imports nothing
            return super().main(args, *others, **options)
        from resattn.cli.help_words import speak_help
        from resattn.translations import speaking

        with speaking(language), speak_help(self):
            if options.get("obj") is not None:
                options["obj"].language = language
            return super().main(args, *others, **options)


def with_language(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes --lang as well. `SpokenGroup` has read it when the command runs."""

    @wraps(command)
    def run(lang: str | None = None, **arguments: Any) -> None:
        command(**arguments)

    take_options(run, command, {"lang": LanguageOption})
    return run


def find_language(words: Sequence[str]) -> str | None:
    """The value of --lang on a command line; None if it is not there."""
    options = words[: words.index("--")] if "--" in words else words
    for word, following in pairwise([*options, ""]):
        if word == "--lang":
            return following
        if word.startswith("--lang="):
            return word.removeprefix("--lang=")
    return None


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

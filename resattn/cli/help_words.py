"""Help and usage errors of Typer in the language of the command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from rich import _wrap
from typer import rich_utils

from resattn.explaining.wrapping import WORD
from weights.language import mark, say

# Options of Typer, whose words depend on its version. These are those of the present one.
OF_TYPER = ("install_completion", "show_completion")
OF_TYPER_WORDS = (
    mark("Install completion for the current shell."),
    mark("Show completion for the current shell, to copy it or customize the installation."),
)


def walk_commands(command: Any) -> Iterator[Any]:
    """A command, and all commands in it."""
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from walk_commands(each)


def list_help_texts(command: Any) -> Iterator[str]:
    """The help of a command, of its commands, and of their arguments and options."""
    for each in walk_commands(command):
        yield each.help or ""
        for parameter in each.params:
            if parameter.name not in OF_TYPER:
                yield getattr(parameter, "help", "") or ""


@contextmanager
def speak_help(command: Any) -> Iterator[None]:
    """Within it, help and usage errors are in the language that was chosen. The command itself is
    changed.
    """
    for each in walk_commands(command):
        _translate_command(each)
    changes: dict[str, Any] = {
        "ARGUMENTS_PANEL_TITLE": say("Arguments"),
        "OPTIONS_PANEL_TITLE": say("Options"),
        "COMMANDS_PANEL_TITLE": say("Commands"),
        "ERRORS_PANEL_TITLE": say("Error"),
        "ABORTED_TEXT": say("Aborted."),
        "DEFAULT_STRING": say("[default: {}]"),
        "REQUIRED_LONG_STRING": say("[required]"),
        "RICH_HELP": say("Try [blue]'{command_path} {help_option}'[/] for help."),
    }
    show = rich_utils.rich_format_error

    def show_translated(error: Any) -> None:
        words = translate_usage(error.format_message())
        error.format_message = lambda: words
        show(error)

    changes["rich_format_error"] = show_translated
    # Lines may end between two Chinese characters, which Rich takes for one word.
    words = re.compile(rf"\s*{WORD}\s*")
    with _change(rich_utils, changes), _change(_wrap, {"re_word": words}):
        yield


@contextmanager
def _change(module: ModuleType, names: dict[str, Any]) -> Iterator[None]:
    before = {name: getattr(module, name) for name in names}
    vars(module).update(names)
    try:
        yield
    finally:
        vars(module).update(before)


def _translate_command(command: Any) -> None:
    command.help = say(command.help or "")
    for parameter in command.params:
        if getattr(parameter, "help", None):
            parameter.help = say(parameter.help)
    find_usage, find_help = command.get_usage, command.get_help_option

    def get_usage(context: Any) -> str:
        return str(find_usage(context)).replace("Usage: ", say("Usage: "), 1)

    def get_help_option(context: Any) -> Any:
        option = find_help(context)
        if option is not None:
            option.help = say("Show this message and exit.")
        return option

    command.get_usage, command.get_help_option = get_usage, get_help_option


def translate_usage(message: str) -> str:
    """A usage error of Typer in the language that was chosen; one that is not known stays as it
    is.
    """
    for spoken in _list_usage_errors():
        parts = re.split(r"\{(\w+)\}", getattr(spoken, "english", spoken))
        pattern = "".join(
            f"(?P<{part}>.+)" if number % 2 else re.escape(part)
            for number, part in enumerate(parts)
        )
        found = re.fullmatch(pattern, message, re.S)
        if found:
            values = {name: translate_usage(value) for name, value in found.groupdict().items()}
            return spoken.format(**values)
    return message


def _list_usage_errors() -> list[str]:
    """With values in braces; those that have others at their end come first."""
    return [
        say("{message} (Possible options: {options})"),
        say("{message} Did you mean {names}?"),
        say("{message}. Did you mean {names}?"),
        say("No such option: {name}"),
        say("No such option {name}."),
        say("No such command {name}."),
        say("Missing command."),
        say("Missing argument {name}."),
        say("Missing option {name}."),
        say("Option {name} requires an argument."),
        say("Option {name} does not take a value."),
        say("Got unexpected extra argument(s) ({names})"),
        say("Got unexpected extra argument ({names})"),
        say("Got unexpected extra arguments ({names})"),
        say("Invalid value for {name}: {message}"),
        say("{value} is not a valid integer."),
        say("{value} is not a valid int."),
        say("{value} is not a valid float."),
        say("{value} is not in the range {range}."),
        say("Input should be a valid integer, unable to parse string as an integer"),
        say("Input should be a valid number, unable to parse string as a number"),
        say("Input should be greater than or equal to {least}"),
        say("Input should be less than or equal to {most}"),
    ]
